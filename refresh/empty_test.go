package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// ofRedis is a fleet on a Redis of its own, with workers that remember twenty grants of several
// generations, and listen.
type ofRedis struct {
	*fleet
	workers []*worker
	heard   []<-chan refresh.Event
	deaf    []context.CancelFunc // ends hearing
	tenants []string
	rdb     redis.UniversalClient
}

func remembered(t *testing.T, workers int) *ofRedis {
	t.Helper()
	f := &ofRedis{fleet: newFleet(t, refreshtest.Config{})}
	f.redis = redistest.Own(t)
	f.rdb = f.redis.Client(t)
	f.fill(workers, func() *worker { return f.worker() })
	return f
}

func (f *ofRedis) fill(workers int, start func() *worker) {
	f.t.Helper()
	for range workers {
		w := start()
		ctx, cancel := context.WithCancel(context.Background())
		f.t.Cleanup(cancel)
		f.workers, f.heard, f.deaf = append(f.workers, w), append(f.heard, w.Events(ctx)), append(f.deaf, cancel)
	}
	for i := range 20 {
		tenant := fmt.Sprint("tenant", i)
		f.tenants = append(f.tenants, tenant)
		f.connect(f.workers[0], tenant, false)
		for range i % 3 {
			if err := f.workers[i%workers].Refresh(f.ctx(), tenant); err != nil {
				f.t.Fatal(err)
			}
		}
	}
	for _, w := range f.workers {
		f.warm(w)
	}
}

func (f *ofRedis) warm(w *worker) {
	f.t.Helper()
	for i, tenant := range f.tenants {
		for s := w.cache.Grant(key(tenant)).Peek(); s == nil || s.Generation < int64(1+i%3); s = w.cache.Grant(key(tenant)).Peek() {
			f.token(w, tenant)
		}
	}
}

// missing is what is not as it was: each grant with its newest generation, and when it is due.
func (f *ofRedis) missing() (what []string) {
	f.t.Helper()
	due := map[string]bool{}
	for i := range engine.DueShards {
		for _, tenant := range f.rdb.ZRange(f.ctx(), fmt.Sprintf("%s:due:zoom:%02d", f.prefix, i), 0, -1).Val() {
			due[tenant] = true
		}
	}
	for i, tenant := range f.tenants {
		base := f.prefix + ":{zoom:" + tenant + "}:"
		gen := f.rdb.HGet(f.ctx(), base+"grant", "gen").Val()
		if gen != fmt.Sprint(1+i%3) || f.rdb.Exists(f.ctx(), base+"secret").Val() != 1 || !due[tenant] {
			what = append(what, fmt.Sprintf("%s: generation %q, due %v", tenant, gen, due[tenant]))
		}
	}
	return what
}

func (f *ofRedis) comesBack() {
	f.t.Helper()
	start := time.Now()
	for len(f.missing()) > 0 {
		if time.Since(start) > 30*time.Second {
			f.t.Fatalf("not given back: %s", strings.Join(f.missing(), "; "))
		}
		time.Sleep(20 * time.Millisecond)
	}
	f.t.Logf("all given back after %v", time.Since(start).Round(time.Millisecond))
	for _, tenant := range f.tenants {
		f.living(f.workers[len(f.workers)-1], tenant)
	}
}

// hearLoss returns the ID of the loss, which each listener hears of.
func (f *ofRedis) hearLoss() (id string) {
	f.t.Helper()
	for _, heard := range f.heard {
		e := f.hears(heard, refresh.EventDataLost, "")
		if id == "" {
			id = e.ID
		} else if e.ID != id {
			f.t.Errorf("two events for one loss: %s and %s", id, e.ID)
		}
	}
	return id
}

// hearNoMore asserts that none has heard of another loss, nor that anybody must consent.
func (f *ofRedis) hearNoMore() {
	f.t.Helper()
	last := 0
	connect := func() { // again and again: one that connects anew just now does not hear it
		last++
		f.connect(f.workers[0], fmt.Sprint("the last, ", last), false)
	}
	connect()
	for _, heard := range f.heard {
		again, end := time.NewTicker(time.Second), time.After(30*time.Second)
		for e := (refresh.Event{}); !strings.HasPrefix(e.Tenant, "the last"); {
			select {
			case e = <-heard:
			case <-again.C:
				connect()
			case <-end:
				f.t.Fatal("the last event is missing")
			}
			if e.Kind == refresh.EventDataLost || e.Kind == refresh.EventReauthorize || e.Kind == refresh.EventDisconnected {
				f.t.Errorf("heard of %s %s", e.Kind, e.Tenant)
			}
		}
		again.Stop()
	}
}

func TestProcessesGiveBackUnaskedWhatRedisHasLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(f *ofRedis){
		"FLUSHALL":            func(f *ofRedis) { f.rdb.FlushAll(f.ctx()) },
		"a restart, to empty": func(f *ofRedis) { f.redis.Restart(f.t) },
	} {
		t.Run(name, func(t *testing.T) {
			f := remembered(t, 3)
			lose(f)
			f.hearLoss()
			f.comesBack()
			f.hearNoMore()
		})
	}
}

func TestProcessesGiveBackUnaskedWhatAClusterHasLost(t *testing.T) {
	t.Parallel()
	f := &ofRedis{fleet: newFleet(t, refreshtest.Config{})}
	cluster := redistest.StartCluster(t)
	f.rdb = cluster.Client(t)
	f.fill(2, func() *worker { return f.workerOn(cluster.Client(t)) })
	for _, node := range cluster.Nodes {
		node.Client(t).FlushAll(f.ctx())
	}
	f.hearLoss()
	f.comesBack()
	f.hearNoMore()
}

// end closes a worker in the middle of a test.
func (f *ofRedis) end(i int) {
	f.t.Helper()
	f.deaf[i]()
	if err := f.workers[i].Close(f.ctx()); err != nil {
		f.t.Error(err)
	}
}

func TestCloseGivesBackWhatRedisHasLost(t *testing.T) {
	t.Parallel()
	f := remembered(t, 1)
	f.rdb.FlushAll(f.ctx())
	f.end(0)
	if missing := f.missing(); len(missing) > 0 {
		t.Errorf("only this process remembered it: %v", missing)
	}
}

// Close must not leave it to the next look of the process, which comes every three seconds: by then the
// caller may have ended the process.
func TestCloseGivesBackWhatRedisHasLostThoughAReaderOfEventsHangs(t *testing.T) {
	t.Parallel()
	f := &ofRedis{fleet: newFleet(t, refreshtest.Config{})}
	f.redis = redistest.Own(t)
	f.rdb = f.redis.Client(t)
	looked := make(looks, 1)
	rdb := f.redis.Client(t)
	rdb.AddHook(after(looked.on))
	f.fill(1, func() *worker { return f.workerOn(rdb) })
	looked.next(t)
	f.rdb.FlushAll(f.ctx())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := f.workers[0].Close(ctx); err == nil {
		t.Error("Close does not tell of the reader that hangs")
	}
	if missing := f.missing(); len(missing) > 0 {
		t.Errorf("only this process remembered it: %v", missing)
	}
	f.deaf[0]()
}

// looks tells that the process has looked how many keys Redis has.
type looks chan struct{}

// after is a hook that sees each command that is not in a pipeline, once it is answered.
type after func(cmd redis.Cmder)

func (after) DialHook(next redis.DialHook) redis.DialHook { return next }

func (after) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (see after) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		see(cmd)
		return err
	}
}

// on sees the command that asks how many keys Redis has.
func (l looks) on(cmd redis.Cmder) {
	if cmd.Name() == "info" {
		select {
		case l <- struct{}{}:
		default:
		}
	}
}

// next waits for a look that begins after this call, or just before it.
func (l looks) next(t *testing.T) {
	t.Helper()
	select {
	case <-l:
	default:
	}
	select {
	case <-l:
	case <-time.After(30 * time.Second):
		t.Fatal("the process does not look")
	}
}

func TestARollingRestartAfterALossLosesNothing(t *testing.T) {
	t.Parallel()
	f := remembered(t, 3)
	f.rdb.FlushAll(f.ctx())
	for i := range f.workers {
		f.end(i)
		f.worker()
	}
	f.workers = append(f.workers, f.worker())
	if missing := f.missing(); len(missing) > 0 {
		t.Errorf("lost: %v", missing)
	}
}

// callsSay asserts what all calls say of a tenant.
func (f *ofRedis) callsSay(w *worker, tenant string, want error, code string) {
	f.t.Helper()
	_, err := w.Token(f.ctx(), tenant)
	kind(f.t, err, want, code)
	_, err = w.TryToken(f.ctx(), tenant)
	kind(f.t, err, want, code)
	_, err = w.Status(f.ctx(), tenant)
	kind(f.t, err, want, code)
	kind(f.t, w.Refresh(f.ctx(), tenant), want, code)
}

func TestATenantOfALostDatabaseIsNotSaidToBeNotConnectedUntilTheLossIsAccepted(t *testing.T) {
	t.Parallel()
	f := remembered(t, 2)
	f.callsSay(f.workers[0], "nobody", refresh.ErrNotConnected, "")
	f.rdb.FlushAll(f.ctx())
	first := f.hearLoss()
	f.comesBack()
	lost := func(tenant string) {
		t.Helper()
		for _, w := range append(f.workers, f.worker()) { // a fresh one too
			f.callsSay(w, tenant, refresh.ErrUnavailable, "redis_lost_data")
		}
		if _, err := f.worker().Status(f.ctx(), tenant); !errors.Is(err, refresh.ErrUnavailable) {
			t.Errorf("the first call of a fresh process says %v", err)
		}
	}
	lost("nobody")
	f.connect(f.workers[1], "nobody", false) // which is a way out
	f.lawful(f.workers[1], "nobody")
	lost("somebody")

	accepted := func() {
		t.Helper()
		if err := f.workers[1].AcceptLoss(f.ctx()); err != nil {
			t.Fatal(err)
		}
		for _, w := range append(f.workers, f.worker()) {
			f.eventually("the loss to be accepted", func() bool {
				_, err := w.Token(f.ctx(), "somebody")
				return errors.Is(err, refresh.ErrNotConnected)
			})
			f.callsSay(w, "somebody", refresh.ErrNotConnected, "")
		}
	}
	accepted()

	f.rdb.FlushAll(f.ctx())
	if second := f.hearLoss(); second == first {
		t.Errorf("the second loss has the ID of the first: %s", first)
	}
	f.comesBack()
	lost("somebody")
	accepted()
}

func (f *fleet) eventually(what string, reached func() bool) {
	f.t.Helper()
	for end := time.Now().Add(30 * time.Second); !reached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("waited for %s", what)
		}
	}
}

// Neither an empty Redis that nobody has known, nor an app's state that an operator has deleted, is a loss.
func TestADatabaseThatLostNothingIsNotTakenForOneThatDid(t *testing.T) {
	t.Parallel()
	f := &ofRedis{fleet: newFleet(t, refreshtest.Config{})}
	f.redis = redistest.Own(t)
	f.rdb = f.redis.Client(t)
	w := f.worker()
	f.callsSay(w, "nobody", refresh.ErrNotConnected, "")
	f.fill(2, func() *worker { return f.worker() })
	f.rdb.Del(f.ctx(), f.prefix+":app:zoom")
	time.Sleep(4 * time.Second) // longer than it takes to notice a loss
	f.callsSay(f.workers[0], "nobody", refresh.ErrNotConnected, "")
	f.callsSay(f.worker(), "nobody", refresh.ErrNotConnected, "")
	f.hearNoMore()
}

// Without the app's state nobody knows whether Redis has lost data.
func TestNoTenantIsCalledNotConnectedWhileTheStateOfTheAppCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	w := f.workerOn(f.redis.ClientWith(t, func(o *redis.Options) { o.MaxRetries = -1 }), func(cfg *refresh.Config) {
		cfg.Cache.Redis().AddHook(denied{f.prefix + ":app:zoom"})
	})
	_, err := w.Token(f.ctx(), "nobody")
	kind(t, err, refresh.ErrUnavailable, "")
	_, err = w.Status(f.ctx(), "nobody")
	kind(t, err, refresh.ErrUnavailable, "")
}

// denied is a Redis that does not answer about one key.
type denied struct{ key string }

func (d denied) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d denied) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (d denied) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if len(cmd.Args()) > 1 && cmd.Args()[1] == d.key {
				return errors.New("this node is away")
			}
		}
		return next(ctx, cmds)
	}
}
