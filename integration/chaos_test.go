package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

// Chaos: worker processes use a few tenants' tokens while the network, Redis, the provider and the
// processes themselves fail at random. Then all faults end, the fleet settles, and the laws of
// chaos_laws_test.go are checked.
//
// It goes in rounds, each of a fresh fleet. A round's seed decides its variant, its faults and what
// callers do, though not to the millisecond when: run the seed a few times to see a failure again.
//
//	CHAOS_FOR      how long, e.g. 10m. Default: one round
//	CHAOS_SEED     of the first round; the next have the numbers after it. Default: the time
//	CHAOS_VARIANT  e.g. grace+budget+consents+sentinel. Default: what the seed says
//	CHAOS_STORY    not empty: keep what happened of rounds that go well, too
func TestChaos(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano()/1e6) % 1e9
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("CHAOS_SEED: %v", err)
		}
		seed = n
	}
	length, err := time.ParseDuration(os.Getenv("CHAOS_FOR"))
	if err != nil && os.Getenv("CHAOS_FOR") != "" {
		t.Fatalf("CHAOS_FOR: %v", err)
	}
	for end := time.Now().Add(length); ; seed++ {
		v := variantOf(seed)
		t.Run(fmt.Sprintf("%s/seed=%d", v, seed), func(t *testing.T) { newChaos(t, seed, v).round() })
		if !time.Now().Before(end) {
			return
		}
	}
}

// variant is what is special about a round.
type variant struct {
	profile                             provider.Profile
	budget, consents, sentinel, flushed bool
}

// chaosProfiles are the kinds of providers.
var chaosProfiles = []provider.Profile{
	{Replay: provider.ReplayRevokesFamily},
	{Replay: provider.ReplayGrace, Grace: 10 * time.Second, KillsAccessToken: provider.No},
	{Replay: provider.ReplaySamePair},
	{Replay: provider.ReplayDead},
	{Replay: provider.ReplayHarmless, KillsAccessToken: provider.No},
}

func variantOf(seed uint64) variant {
	r := rand.New(rand.NewPCG(seed, 0))
	v := variant{profile: chaosProfiles[min(r.IntN(8), r.IntN(8))*len(chaosProfiles)/8]}
	v.budget, v.consents, v.sentinel, v.flushed = r.IntN(3) == 0, r.IntN(2) == 0, r.IntN(4) == 0, r.IntN(8) == 0
	if text := os.Getenv("CHAOS_VARIANT"); text != "" {
		parts := strings.Split(text, "+")
		i := slices.IndexFunc(chaosProfiles, func(p provider.Profile) bool { return p.Replay.String() == parts[0] })
		v = variant{
			profile: chaosProfiles[max(i, 0)], budget: slices.Contains(parts, "budget"), consents: slices.Contains(parts, "consents"),
			sentinel: slices.Contains(parts, "sentinel"), flushed: slices.Contains(parts, "flushed"),
		}
	}
	v.flushed = v.flushed && !v.sentinel
	if v.budget {
		v.profile.Budget = provider.Budget{Requests: 100, Per: time.Second, Concurrency: 4}
	}
	return v
}

func (v variant) String() string {
	text := v.profile.Replay.String()
	for _, extra := range []struct {
		is   bool
		name string
	}{{v.budget, "+budget"}, {v.consents, "+consents"}, {v.sentinel, "+sentinel"}, {v.flushed, "+flushed"}} {
		if extra.is {
			text += extra.name
		}
	}
	return text
}

const (
	chaosWorkers  = 4
	chaosCallers  = 3 // in each worker
	chaosTenants  = 10
	chaosLease    = 2 * time.Second
	chaosExchange = 4 * time.Second
	chaosClaim    = 6 * time.Second
	chaosPatience = 90 * time.Second // for the fleet to settle
	// deadly is how many answers of a provider that forgives nothing may be lost in a round. More
	// deaths would be taken for the provider's trouble, and not believed.
	deadly = 6
)

// chaos is a round.
type chaos struct {
	*fleet
	variant
	seed     uint64
	failover *redistest.Failover // with a Sentinel
	slots    []*slot
	start    time.Time
	first    map[string]*oauth2.Token // of each tenant, long spent

	calls     atomic.Int64
	listeners sync.WaitGroup

	mu       sync.Mutex // guards what follows
	consent  map[string]*sync.Mutex
	story    []happening
	losses   []loss
	outcomes map[string]int // kind/code of the callers' errors, or "ok"
	wrong    []string
	last     map[string]bool // tenants that are connected

	sightings []sighting
	changes   map[string][]change // of each tenant
}

// happening is a fault, or something else that a law has to know of.
type happening struct {
	at, until time.Time
	what      string
	worker    string // that was killed, stopped or cut off
}

// slot is a worker's place in the fleet: when it is killed, another takes the place.
type slot struct {
	eaten   []*redistest.Eaten // replies that are still to be lost
	proxies []*redistest.Proxy
	routes  map[string]string

	mu  sync.Mutex // guards now
	now *process   // nil: nobody
}

func (s *slot) worker() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func newChaos(t *testing.T, seed uint64, v variant) *chaos {
	t.Helper()
	t.Logf("to repeat: make chaos SEED=%d VARIANT=%s", seed, v)
	keyset, err := seal.Generate()
	if err != nil {
		t.Fatal(err)
	}
	c := &chaos{variant: v, seed: seed, start: time.Now(), first: map[string]*oauth2.Token{},
		consent: map[string]*sync.Mutex{}, outcomes: map[string]int{}, last: map[string]bool{},
		changes: map[string][]change{}}
	var rs *redistest.Server
	if v.sentinel {
		c.failover = redistest.StartFailover(t)
		rs = c.failover.Master
	} else {
		rs = redistest.Own(t, redistest.AOF())
	}
	// A short one has expired soon, which ends waiting; a long one can be served when it is out of date.
	life := []time.Duration{10 * time.Second, 30 * time.Second}[c.random(3).IntN(2)]
	c.fleet = newFleet(t, rs, refreshtest.Config{
		Profile: v.profile, AccessTokenLife: life, TokenPrefix: canary, ClientSecret: canary + "secret",
		LatencyBefore: 5 * time.Millisecond, LatencyAfter: 20 * time.Millisecond,
	}, func(s *setup) {
		s.Lease, s.Exchange, s.Claim, s.Patience = chaosLease, chaosExchange, chaosClaim, 30*time.Second
		s.Keyset = string(keyset)
		if c.failover != nil {
			s.Sentinel, s.Replicas = c.failover.Sentinel(), 1 // without, what a failover loses is lost
		}
	})
	if v.sentinel {
		c.rdb = c.failover.Client(t)
	}
	for range chaosWorkers {
		s := &slot{routes: map[string]string{}}
		for _, server := range c.servers() {
			p := redistest.NewProxy(t, server.Addr())
			s.proxies, s.routes[server.Addr()] = append(s.proxies, p), p.Addr()
		}
		c.slots = append(c.slots, s)
	}
	listening, stop := context.WithCancel(context.Background())
	c.listen(listening)
	t.Cleanup(func() { stop(); c.listeners.Wait() })
	for i := range chaosTenants {
		tenant := fmt.Sprint("t", i)
		tok := c.server.Grant(tenant)
		c.consent[tenant], c.last[tenant], c.first[tenant] = &sync.Mutex{}, true, tok
		if err := c.ops.Connect(c.ctx(), tenant, tok); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range c.slots {
		c.employ(s)
	}
	return c
}

func (c *chaos) servers() []*redistest.Server {
	if c.failover != nil {
		return []*redistest.Server{c.failover.Master, c.failover.Replica}
	}
	return []*redistest.Server{c.redis}
}

// random is a source of its own for one actor, so that what it does depends on the seed alone.
func (c *chaos) random(actor uint64) *rand.Rand { return rand.New(rand.NewPCG(c.seed, actor+1)) }

// employ starts a worker in a slot.
func (c *chaos) employ(s *slot) {
	c.setup.Routes = s.routes
	p := c.fleet.worker()
	c.setup.Routes = nil
	p.quiet = true
	p.offer(order{Op: "run", Patience: time.Hour})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = p
}

// round is one round: a storm, then calm, then judgement.
func (c *chaos) round() {
	defer c.report()
	length := 20 * time.Second
	if c.sentinel {
		length = 40 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var actors sync.WaitGroup
	for i, s := range c.slots {
		for j := range chaosCallers {
			actors.Go(func() { c.caller(ctx, s, c.random(uint64(100+10*i+j))) })
		}
	}
	actors.Go(func() { c.customers(ctx) })
	if c.consents {
		actors.Go(func() { c.consenting(ctx, c.random(2)) })
	}
	c.storm(ctx)
	actors.Wait()
	for _, s := range c.slots {
		if s.worker() == nil {
			c.employ(s)
		}
	}
	c.settle()
	c.judge()
}

// note writes the story of a round.
func (c *chaos) note(h happening) {
	if h.at.IsZero() {
		h.at = time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.story = append(c.story, h)
}

// broken notes that a law is broken.
func (c *chaos) broken(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// caller is somebody in a worker who uses tokens until ctx ends.
func (c *chaos) caller(ctx context.Context, s *slot, r *rand.Rand) {
	for ctx.Err() == nil {
		o := order{Tenant: fmt.Sprint("t", r.IntN(chaosTenants)), Callers: 1,
			Patience: time.Duration(50+r.IntN(8000)) * time.Millisecond}
		switch n := r.IntN(20); {
		case n < 7:
			o.Op = "token"
		case n < 11:
			o.Op = "refresh"
		case n < 13:
			o.Op = "try"
		default:
			o.Op, o.URL = "call", c.server.APIURL()
		}
		if p := s.worker(); p != nil {
			c.calls.Add(1)
			asked := time.Now()
			c.heard(p.name, asked, o, p.ask(c, o))
		}
		pause(ctx, time.Duration(10+r.IntN(100))*time.Millisecond)
	}
}

// heard judges what a caller was told.
func (c *chaos) heard(worker string, asked time.Time, o order, r *report) {
	if r == nil {
		return // its worker has died
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(r.Errors) == 0 {
		c.outcomes["ok"]++
	}
	for fp := range r.Tokens {
		if fp != "" {
			c.sightings = append(c.sightings, sighting{worker, o.Tenant, fp, asked})
		}
	}
	for kind := range r.Errors {
		c.outcomes[kind]++
		switch {
		case strings.HasPrefix(kind, "unavailable/redis_lost_data"):
			if !c.flushed && !c.sentinel {
				c.wrong = append(c.wrong, fmt.Sprintf("%s of %s: data are said to be lost: %v", o.Op, o.Tenant, r.Texts))
			}
		case strings.HasPrefix(kind, "not_connected/"):
			if !c.consents {
				c.wrong = append(c.wrong, fmt.Sprintf("%s of %s: a connected tenant is not: %v", o.Op, o.Tenant, r.Texts))
			}
		case strings.HasPrefix(kind, "client_config"), strings.HasPrefix(kind, "untyped") && !strings.Contains(kind, "HTTP 401 surfaced"):
			c.wrong = append(c.wrong, fmt.Sprintf("%s of %s: %s: %v", o.Op, o.Tenant, kind, r.Texts))
		}
	}
}

// customers consent anew when they are told that they must.
func (c *chaos) customers(ctx context.Context) {
	for ctx.Err() == nil {
		for i := range chaosTenants {
			c.mourn(ctx, fmt.Sprint("t", i))
		}
		pause(ctx, time.Second)
	}
}

// mourn notes a grant that is lost and lets its tenant consent anew.
func (c *chaos) mourn(ctx context.Context, tenant string) {
	c.consent[tenant].Lock()
	defer c.consent[tenant].Unlock()
	look, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := c.ops.Status(look, tenant)
	if err != nil || st.State != "reauthorize" {
		return
	}
	c.mu.Lock()
	c.losses = append(c.losses, loss{tenant: tenant, at: time.Now(), fp: st.RefreshTokenFingerprint, reason: st.Reason})
	c.mu.Unlock()
	c.connectAgain(tenant, nil)
}

// connectAgain is a new consent whose callback is tried again, here or there, until it has worked.
func (c *chaos) connectAgain(tenant string, r *rand.Rand) {
	tok := c.server.Grant(tenant)
	for end := time.Now().Add(chaosPatience); ; {
		if r == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			err := c.ops.Connect(ctx, tenant, tok)
			cancel()
			if err == nil {
				break
			}
		} else if got := c.anybody(r, order{Op: "connect", Tenant: tenant, Pair: tok, Patience: 5 * time.Second}); got != nil && len(got.Errors) == 0 {
			break
		}
		if time.Now().After(end) {
			c.broken("%s: no Connect in %v", tenant, chaosPatience)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.mu.Lock()
	c.last[tenant] = true
	c.mu.Unlock()
}

// anybody gives an order to some worker; nil if it died over it, or there is none.
func (c *chaos) anybody(r *rand.Rand, o order) *report {
	p := c.slots[r.IntN(len(c.slots))].worker()
	if p == nil {
		return nil
	}
	return p.ask(c, o)
}

// consenting lets tenants connect, disconnect and be imported again.
func (c *chaos) consenting(ctx context.Context, r *rand.Rand) {
	for pause(ctx, time.Duration(500+r.IntN(2500))*time.Millisecond); ctx.Err() == nil; pause(ctx, time.Duration(500+r.IntN(2500))*time.Millisecond) {
		tenant, what := fmt.Sprint("t", r.IntN(chaosTenants)), r.IntN(10)
		c.consent[tenant].Lock()
		switch {
		case what < 5:
			c.note(happening{what: "consent of " + tenant})
			c.connectAgain(tenant, r)
		case what < 8:
			c.note(happening{what: "end of " + tenant})
			c.disconnectAgain(tenant, r)
		default:
			c.importAgain(tenant, r)
		}
		c.consent[tenant].Unlock()
	}
}

func (c *chaos) disconnectAgain(tenant string, r *rand.Rand) {
	c.server.Revoke(tenant)
	c.mu.Lock()
	c.last[tenant] = false
	c.mu.Unlock()
	for end := time.Now().Add(chaosPatience); ; time.Sleep(50 * time.Millisecond) {
		got := c.anybody(r, order{Op: "disconnect", Tenant: tenant, Patience: 5 * time.Second})
		if got != nil && len(got.Errors) == 0 {
			return
		}
		if time.Now().After(end) {
			c.broken("%s: no Disconnect in %v", tenant, chaosPatience)
			return
		}
	}
}

// importAgain is a job that is run again with the pairs of the old system: it must change nothing.
func (c *chaos) importAgain(tenant string, r *rand.Rand) {
	c.mu.Lock()
	connected := c.last[tenant]
	c.mu.Unlock()
	if !connected || c.flushed {
		return
	}
	got := c.anybody(r, order{Op: "import", Tenant: tenant, Pair: c.first[tenant], Patience: 5 * time.Second})
	if got != nil && slices.Contains(got.Texts, "imported") {
		c.broken("%s: an old pair was imported over its grant", tenant)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// offer is send that does not fail the test; nil if the process takes no orders any more.
func (p *process) offer(o order) *sent {
	reply := make(chan answer, 1)
	p.mu.Lock()
	p.last++
	o.ID = p.last
	p.pending[o.ID] = reply
	p.mu.Unlock()
	if p.tryWrite(o) != nil {
		return nil
	}
	return &sent{p: p, id: o.ID, reply: reply}
}

// ask is do for a process that may be killed meanwhile: nil then.
func (p *process) ask(c *chaos, o order) *report {
	s := p.offer(o)
	if s == nil {
		return nil
	}
	limit := time.NewTimer(o.Patience + patience)
	defer limit.Stop()
	select {
	case a := <-s.reply:
		if a.Failed != "" {
			c.broken("%s: %s: %s", p.name, o.Op, a.Failed)
			return nil
		}
		return &a.Report
	case <-p.gone:
	case <-limit.C:
		c.broken("%s: %s of %s hangs: %v after the end of its ctx", p.name, o.Op, o.Tenant, patience)
	}
	return nil
}

// report says what the round was like, and leaves what is needed to understand a broken law.
func (c *chaos) report() {
	kinds := map[string]int{}
	for _, h := range c.story {
		kind, _, _ := strings.Cut(h.what, ":")
		kinds[kind]++
	}
	c.t.Logf("seed %d, %s: %.0f s, %d calls, %d exchanges, %d faults, %d grants lost, %d laws broken\ncalls %v\nfaults %v",
		c.seed, c.variant, time.Since(c.start).Seconds(), c.calls.Load(), len(c.server.Ledger()), len(c.story), len(c.losses), len(c.wrong), c.outcomes, kinds)
	for _, h := range c.story {
		if strings.HasPrefix(h.what, "loss: ") {
			c.t.Logf("%s was lost after %.1f s: %s", h.worker, h.at.Sub(c.start).Seconds(), h.what)
		}
	}
	if len(c.wrong) == 0 && !c.t.Failed() && os.Getenv("CHAOS_STORY") == "" {
		return
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("chaos-%d-", c.seed))
	if err != nil {
		c.t.Error(err)
		return
	}
	var story strings.Builder
	slices.SortFunc(c.story, func(a, b happening) int { return a.at.Compare(b.at) })
	for _, h := range c.story {
		fmt.Fprintf(&story, "%s %6.3f", h.at.Format("15:04:05.000"), h.at.Sub(c.start).Seconds())
		if !h.until.IsZero() {
			fmt.Fprintf(&story, " to %6.3f", h.until.Sub(c.start).Seconds())
		}
		fmt.Fprintf(&story, " %s %s\n", h.what, h.worker)
	}
	var ledger strings.Builder
	for _, p := range c.server.Ledger() {
		fmt.Fprintf(&ledger, "%s %s spent %s by %s consent %d: %s\n", p.Arrived.Format("15:04:05.000"), p.Decided.Format("05.000"), p.SpentAt.Format("05.000"), p.UserAgent, p.Consent, p)
	}
	texts := map[string]string{"story": story.String(), "ledger": ledger.String(), "wrong": strings.Join(c.wrong, "\n"),
		"redis": redistest.Dump(c.t, c.rdb, "*journal")}
	for _, p := range c.launched {
		texts[p.name] = p.log.String()
	}
	for name, text := range texts {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	if len(c.wrong) == 0 {
		c.t.Logf("%s has the story, the ledger and the logs; %v", dir, err)
		return
	}
	c.t.Errorf("%d laws are broken (%s has the story, the ledger and the logs; %v):\n%s", len(c.wrong), dir, err, strings.Join(c.wrong, "\n"))
}
