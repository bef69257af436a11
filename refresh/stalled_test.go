package refresh_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// brief is a process of a name whose deadlines come soon.
func (f *fleet) brief(name string) func(*refresh.Config) {
	return func(cfg *refresh.Config) {
		cfg.ExchangeTimeout, cfg.ClaimTimeout, cfg.CommitPatience = 2*time.Second, 3*time.Second, 4*time.Second
		cfg.Name, cfg.Locker = name, lock.New(lock.Config{TTL: 3 * time.Second, Name: name}, cfg.Cache.Redis())
	}
}

// dying lets the process w1 present acme's refresh token, and die over it. The exchange goes on when released.
func (f *fleet) dying(w *worker, at refreshtest.Point) (release func()) {
	f.t.Helper()
	dies, proxy := f.cuttable(f.brief("w1"))
	f.connect(w, "acme", true)
	gate := f.server.Hold(at)
	var caller sync.WaitGroup
	presents := make(chan struct{})
	caller.Go(func() {
		for f.t.Context().Err() == nil { // on a busy machine a lease may be lost before anything is presented
			_, _ = dies.Token(f.ctx(), "acme")
			select {
			case <-presents:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	gate.Await(f.t)
	close(presents)
	proxy.Refuse()
	proxy.Cut()
	f.redis.Client(f.t).Del(f.ctx(), f.prefix+":{zoom:acme}:lock") // it would run out in seconds
	return func() {
		gate.Release()
		caller.Wait()
		proxy.Accept()
	}
}

// A holder that is killed is said: who, what, since when, until when. So are the take-over, and what comes of it.
func TestAStalledHolderAndItsOutcomeAreReported(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	log := &lines{}
	w3 := f.worker(f.brief("w3"), func(cfg *refresh.Config) { cfg.Log = zerolog.New(log) })
	monitor := f.worker(f.brief("monitor"))
	mine, theirs := w3.Events(t.Context()), monitor.Events(t.Context())
	f.listening(w3, 2)
	release := f.dying(w3, refreshtest.AfterCommit) // the token is spent
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := w3.Token(ctx, "acme")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	for _, part := range []string{"the caller left", "w1 presents generation 1 since ", " UTC", "others may take over from "} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the caller's error does not say %q: %v", part, err)
		}
	}
	_, err = w3.TryToken(f.ctx(), "acme")
	if kind(t, err, refresh.ErrPending, ""); !strings.Contains(err.Error(), "w1 presents generation 1 since ") {
		t.Errorf("%v", err)
	}
	a, b := f.hears(mine, refresh.EventStalled, "acme"), f.hears(theirs, refresh.EventStalled, "acme")
	if a != b || a.By != "w1" || a.Mine || a.Generation != 1 || a.RetryAt.Sub(a.At) > 8*time.Second || !a.RetryAt.After(a.At) {
		t.Errorf("one change is\n%+v here and\n%+v there", a, b)
	}
	f.eventually("the log to say it", func() bool { return log.count("has gone silent") > 0 }) // after all are told
	if !log.has(`"level":"warn"`, "has gone silent", `"tenant":"acme"`, `"holder":"w1"`, `"takeover_at"`) || log.count("has gone silent") != 1 {
		t.Errorf("the log says %v", log.all)
	}
	_, err = w3.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrReauthorize, "lost_response")
	a, b = f.hears(mine, refresh.EventTakeover, "acme"), f.hears(theirs, refresh.EventTakeover, "acme")
	if a.ID != b.ID || a.By != "w3" || !a.Mine || b.Mine {
		t.Errorf("one change is\n%+v here and\n%+v there", a, b)
	}
	f.hears(theirs, refresh.EventReauthorize, "acme")
	release()
}

func TestAGrantThatIsTakenOverRecovers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w3, monitor := f.worker(f.brief("w3")), f.worker(f.brief("monitor"))
	mine, theirs := w3.Events(t.Context()), monitor.Events(t.Context())
	f.listening(w3, 2)
	release := f.dying(w3, refreshtest.BeforeCommit)
	f.token(w3, "acme")
	f.hears(theirs, refresh.EventTakeover, "acme")
	f.hears(theirs, refresh.EventRefreshed, "acme")
	a, b := f.hears(mine, refresh.EventRecovered, "acme"), f.hears(theirs, refresh.EventRecovered, "acme")
	if a.ID != b.ID || a.By != "w3" || !a.Mine || b.Mine || a.Generation != 2 {
		t.Errorf("one change is\n%+v here and\n%+v there", a, b)
	}
	release()
}

// A holder that lives is not said to be silent, however slow its provider is.
func TestASlowHolderIsNotStalled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	const ttl = 3 * time.Second // it is extended in time on a busy machine too
	long := func(cfg *refresh.Config) {
		cfg.ExchangeTimeout, cfg.ClaimTimeout = 20*time.Second, 21*time.Second
		cfg.Locker = lock.New(lock.Config{TTL: ttl, Name: cfg.Name}, cfg.Cache.Redis())
	}
	w1, w3 := f.worker(f.brief("w1"), long), f.worker(f.brief("w3"), long)
	events := w3.Events(t.Context())
	f.listening(w3, 1)
	f.connect(w1, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	var caller sync.WaitGroup
	caller.Go(func() { _, _ = w1.Token(f.ctx(), "acme") })
	gate.Await(t)
	ctx, cancel := context.WithTimeout(t.Context(), ttl+time.Second) // more than a lease lives
	defer cancel()
	if _, err := w3.Token(ctx, "acme"); err == nil || !strings.Contains(err.Error(), "w1 presents generation 1 since ") {
		t.Errorf("%v", err)
	}
	gate.Release()
	caller.Wait()
	for e := range events {
		if e.Kind == refresh.EventStalled || e.Kind == refresh.EventTakeover {
			t.Errorf("%+v", e)
		}
		if e.Kind == refresh.EventRefreshed {
			break
		}
	}
}

// A provider that fails for all is told once, and not as many tenants' own trouble; so is its end, each time anew.
func TestAProviderThatIsDownIsReportedOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	log := &lines{}
	w := f.worker(func(cfg *refresh.Config) { cfg.Log = zerolog.New(log) })
	monitor := f.worker()
	f.accepted(w)
	events := monitor.Events(t.Context())
	f.listening(w, 1)
	seen := map[string]bool{}
	for round, tenants := range [][]string{{"a0", "a1", "a2", "a3"}, {"b0", "b1", "b2", "b3"}} {
		f.server.Script(refreshtest.Step{Status: 500, Body: `{"error":"server_error"}`, Times: -1})
		for _, tenant := range tenants {
			f.connect(w, tenant, true)
			_, err := w.Token(f.ctx(), tenant)
			kind(t, err, refresh.ErrUnavailable, "server_error")
		}
		e := f.hears(events, refresh.EventProviderDown, "")
		if e.Error != "ambiguous/server_error/500" || e.At.IsZero() || seen[e.ID] {
			t.Errorf("%+v", e)
		}
		seen[e.ID] = true
		f.healthy(w, refresh.HealthDegraded, true, "provider_down")
		if n := log.count("the provider fails for several tenants"); n != round+1 || !log.has(`"level":"error"`, "the provider fails for several tenants", `"status":500`) {
			t.Errorf("it was said %d times", n)
		}
		f.server.ClearScript()
		f.connect(w, "well", true)
		f.token(w, "well")
		up := f.hears(events, refresh.EventProviderUp, "")
		if seen[up.ID] {
			t.Errorf("%+v", up)
		}
		seen[up.ID] = true
		f.state(w, "the end", func(s *engine.AppState) bool { return s.DownAt == 0 && s.Failing == "" })
		f.healthy(w, refresh.HealthOK, true)
	}
	f.eventually("the log to say that it answers", func() bool { return log.has(`"level":"info"`, "the provider answers again") })
	late := f.worker().Events(t.Context()) // nothing is left to tell
	select {
	case e := <-late:
		t.Errorf("%+v", e)
	default:
	}
}

// One tenant's failures are its own, and what is no failure of the provider ends a row of them.
func TestOneTenantsFailuresAreNotTheProviders(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.accepted(w)
	fail := func(tenant string) {
		f.server.Script(refreshtest.Step{Tenant: tenant, Status: 500})
		f.connect(w, tenant, true)
		_, err := w.Token(f.ctx(), tenant)
		kind(t, err, refresh.ErrUnavailable, "")
	}
	fail("a")
	fail("b")
	f.connect(w, "well", true)
	f.token(w, "well")
	f.state(w, "an acceptance", func(s *engine.AppState) bool { return s.Failing == "" })
	fail("c")
	fail("d")
	if h := w.Health(f.ctx()); h.Status != refresh.HealthOK {
		t.Errorf("%+v", h)
	}
}

// Each closing of the circuit is an event of its own.
func TestEachClosingOfTheCircuitIsReported(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.accepted(w)
	events := w.Events(t.Context())
	f.listening(w, 1)
	seen := map[string]bool{}
	for range 2 {
		f.opened(w, 2, time.Hour)
		f.hears(events, refresh.EventCircuitOpen, "")
		if closed, _, err := w.cache.App("zoom").As("w").Accept(f.ctx(), engine.NewID(), engine.Acceptance{Read: true}); !closed || err != nil {
			t.Fatal(closed, err)
		}
		e := f.hears(events, refresh.EventCircuitClosed, "")
		if seen[e.ID] {
			t.Errorf("%+v", e)
		}
		seen[e.ID] = true
		for e.At.UnixMilli() >= f.redisNow(w) { // an ID has the millisecond
		}
	}
}
