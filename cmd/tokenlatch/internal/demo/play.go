package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// demo is one run.
type demo struct {
	opt     Options
	backend string // what kind of Redis
	feed    *feed
	start   time.Time // of the storms
	server  *refreshtest.Server
	grants  *grants
	fleet   *fleet
	storms  *storms

	mu     sync.Mutex // guards what follows
	ending string
	found  findings // of the last audit
	failed error
}

// drainFor bounds everything after the storms.
const (
	drainFor  = 9 * time.Second
	settleFor = 6 * time.Second
)

// play runs the demo and returns its report.
func play(ctx context.Context, opt Options, v viewer) (*Report, error) {
	d := &demo{opt: opt, feed: newFeed()}
	s, closeRedis, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	defer closeRedis()
	if err := d.serve(&s); err != nil {
		return nil, err
	}
	defer d.server.Close()
	return d.run(ctx, s, v)
}

// open finds the Redis of this run and its own corner in it.
func (d *demo) open(ctx context.Context) (setup, func(), error) {
	s := setup{
		Prefix: "tldemo-" + strings.ToLower(rand.Text()[:8]), Profile: d.opt.Profile.Name, Naive: d.opt.Naive,
		Client: "demo", Secret: rand.Text(),
	}
	if d.opt.Redis == "" {
		e, err := startEmbedded()
		if err != nil {
			return s, nil, err
		}
		s.Redis, d.backend = e.Addr(), "embedded Redis"
		return s, e.end, nil
	}
	rdb, err := openRedis(d.opt.Redis)
	if err != nil {
		return s, nil, err
	}
	if err := checkRedis(ctx, rdb); err != nil {
		_ = rdb.Close()
		return s, nil, fmt.Errorf("demo: %w", err)
	}
	s.Redis, d.backend = d.opt.Redis, "Redis at "+rdb.Options().Addr
	return s, func() {
		if err := removeKeys(rdb, s.Prefix); err != nil {
			fmt.Fprintf(os.Stderr, "tokenlatch demo: %v\n", err)
		}
		_ = rdb.Close()
	}, nil
}

// serve starts the authorization server and API.
func (d *demo) serve(s *setup) error {
	server, err := refreshtest.New(refreshtest.Config{
		ClientID: s.Client, ClientSecret: s.Secret, Profile: d.opt.Profile, AccessTokenLife: tokenLife,
		LatencyBefore: d.opt.Latency * 2 / 3, LatencyAfter: d.opt.Latency - d.opt.Latency*2/3,
	})
	if err != nil {
		return fmt.Errorf("demo: start the authorization server: %w", err)
	}
	d.server = server
	s.TokenURL, s.APIURL, s.Style = server.TokenURL(), server.APIURL(), server.OAuth2Config().Endpoint.AuthStyle
	return nil
}

// run lets the storms blow over the fleet.
func (d *demo) run(ctx context.Context, s setup, v viewer) (*Report, error) {
	st, err := openStore(s)
	if err != nil {
		return nil, err
	}
	defer st.close(context.WithoutCancel(ctx))
	d.grants = newGrants(st, d.server, d.opt, d.feed)
	if err := d.grants.connect(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.fleet, err = startFleet(s, d.opt.Workers, d.feed, func(err error) { d.fail(err); cancel() })
	if err != nil {
		return nil, err
	}
	d.storms = newStorms(d.fleet, d.opt)
	d.start = d.feed.begin()
	d.storm(ctx, v)
	return d.report()
}

func openStore(s setup) (store, error) {
	if s.Naive {
		return openNaive(s)
	}
	return openCoordinated(s)
}

// storm is the whole show: storms and kills for the duration, then the drain, watched
// and shown all the while.
func (d *demo) storm(ctx context.Context, v viewer) {
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	var watchers, actors sync.WaitGroup
	watchers.Go(func() { d.grants.watch(background) })
	watchers.Go(func() { d.tally(background) })
	watchers.Go(func() { d.auditNowAndThen(background) })
	watchers.Go(func() { v.show(background, d.frame) })

	ctx, cancel := context.WithTimeout(ctx, d.opt.Duration)
	defer cancel()
	actors.Go(func() { d.storms.blow(ctx, d.grants.tenants) })
	if d.opt.Kill {
		k := &killer{server: d.server, fleet: d.fleet, grants: d.grants, storms: d.storms, feed: d.feed}
		actors.Go(func() { k.hunt(ctx) })
	}
	actors.Wait()
	d.drain()
	end()
	watchers.Wait()
	d.grants.admins.Wait()
}

// drain lets every claim of a killed holder be settled and every webhook end.
func (d *demo) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainFor)
	defer cancel()
	d.settle(ctx)
	d.say("ending: last webhooks")
	d.fleet.end(ctx)
	d.grants.close(ctx)
}

// settle waits for what becomes of the grants whose holder was killed.
func (d *demo) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for open := d.grants.troubled(); len(open) > 0 && ctx.Err() == nil; open = d.grants.troubled() {
		d.say("ending: " + plural(len(open), "takeover") + " due")
		waiting := d.fleet.waiting()
		for _, name := range open {
			if waiting[name] == 0 {
				d.storms.one(name) // somebody must want the token, or nobody takes over
			}
		}
		sleep(ctx, 4*tellEvery)
	}
}

func (d *demo) say(ending string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ending = ending
}

func (d *demo) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = errors.Join(d.failed, err)
}

// tally counts every tenant's exchanges as they arrive.
func (d *demo) tally(ctx context.Context) {
	for {
		p, err := d.server.AwaitExchangeContext(ctx)
		if err != nil {
			return
		}
		d.grants.count(p.Tenant)
	}
}

// auditNowAndThen keeps the live view's findings up to date. A long run has a long
// ledger: it pauses by how long it took.
func (d *demo) auditNowAndThen(ctx context.Context) {
	for pause := time.Duration(0); sleep(ctx, pause); {
		start := time.Now()
		found := d.audit()
		d.mu.Lock()
		d.found = found
		d.mu.Unlock()
		pause = max(250*time.Millisecond, 20*time.Since(start))
	}
}

func (d *demo) audit() findings {
	ledger := d.server.Ledger()
	d.grants.mu.Lock()
	defer d.grants.mu.Unlock()
	return audit(ledger, d.opt.Profile, d.grants.kills, d.grants.losses)
}

func (d *demo) report() (*Report, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return nil, d.failed
	}
	r := &Report{
		Mode: d.opt.mode(), Profile: d.opt.Profile.Name, Workers: d.opt.Workers, Tenants: d.opt.Tenants,
		backend: d.backend, seconds: time.Since(d.start).Seconds(),
	}
	r.fill(d.fleet, d.grants, d.server)
	return r, nil
}
