package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// expired connects that many tenants, whose access tokens have expired.
func (f *fleet) expired(w *worker, n int) (tenants []string) {
	f.t.Helper()
	for i := range n {
		tenants = append(tenants, fmt.Sprint("tenant", i))
		f.connect(w, tenants[i], true)
	}
	return tenants
}

// all calls Token for all tenants at once, and returns what came of it.
func (f *fleet) all(w *worker, tenants []string) map[string]error {
	var mu sync.Mutex
	got := map[string]error{}
	var calls sync.WaitGroup
	room := make(chan struct{}, 64) // more at once would time this machine
	for _, tenant := range tenants {
		calls.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			_, err := w.Token(f.ctx(), tenant)
			mu.Lock()
			defer mu.Unlock()
			got[tenant] = err
		})
	}
	calls.Wait()
	return got
}

// opened opens the app's circuit, as if so many tenants had been refused in a row since, and the
// next probe were due after wait.
func (f *fleet) opened(w *worker, refusals int, wait time.Duration) {
	f.t.Helper()
	r := engine.Refusal{Tenant: "x", Error: "app_refused/invalid_client/401", First: true}
	for i := range refusals {
		if i > 0 {
			r.Tenant, r.Probe = fmt.Sprint("x", i), engine.NewID()
			if ok, _, err := w.cache.App("zoom").As("w").Probe(f.ctx(), r.Probe, 0, time.Minute); !ok || err != nil {
				f.t.Fatal(ok, err)
			}
		}
		after := time.Duration(0)
		if i == refusals-1 {
			after = wait
		}
		if _, s, err := w.cache.App("zoom").As("w").Trip(f.ctx(), engine.NewID(), r, after); err != nil || s.Probes != int64(i+1) {
			f.t.Fatalf("%+v, %v", s, err)
		}
	}
}

// accepted makes the provider accept the app once, and waits until that is noted.
func (f *fleet) accepted(w *worker) {
	f.t.Helper()
	f.connect(w, "accepted", true)
	f.token(w, "accepted")
	f.state(w, "an acceptance", func(s *engine.AppState) bool { return s.AcceptedAt != 0 })
}

// state waits until a worker knows the app to be as wished.
func (f *fleet) state(w *worker, what string, reached func(*engine.AppState) bool) *engine.AppState {
	f.t.Helper()
	ctx := f.ctx()
	for {
		news := w.cache.App("zoom").AppChanged()
		s, err := w.cache.App("zoom").AppState(ctx)
		if err == nil && reached(s) {
			return s
		}
		select {
		case <-news:
		case <-time.After(time.Second): // subscribed meanwhile, or Redis was away
		case <-ctx.Done():
			f.t.Fatalf("waited for %s: %+v, %v", what, s, err)
		}
	}
}

func TestAWrongSecretStopsTheAppAndMarksNoTenant(t *testing.T) {
	t.Parallel()
	for name, accepted := range map[string]bool{"of an app that was accepted before": true, "from the first exchange on": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.longLeases()
			workers := []*worker{f.worker(), f.worker(), f.worker()}
			events := workers[0].Events(t.Context())
			const grants = 150 // many more than are under way at a time
			tenants := f.expired(workers[0], grants)
			if accepted {
				f.accepted(workers[0])
			}
			f.server.SetClientSecrets("another")
			before := len(f.server.Ledger())
			for _, w := range workers {
				for tenant, err := range f.all(w, tenants) {
					if e := kind(t, err, refresh.ErrClientConfig, ""); e.RetryAfter <= 0 || e.RetryAfter > 2*time.Minute {
						t.Errorf("%s: %v does not say when to try again", tenant, err)
					}
				}
			}
			f.hears(events, refresh.EventCircuitOpen, "")
			// Those that were under way when the circuit opened have presented too.
			n := len(f.server.Ledger()) - before
			t.Logf("%d exchanges", n)
			if n > 64+12 {
				t.Errorf("%d exchanges of %d grants with a wrong secret", n, grants)
			}
			unmarked := 0
			for _, tenant := range tenants {
				st, err := workers[0].Status(f.ctx(), tenant)
				if err != nil || st.State != tokencache.Active || st.Reason != "" {
					t.Fatalf("%s is marked: %v, %v", tenant, st, err)
				}
				if st.Fails == 0 {
					unmarked++
				}
			}
			if unmarked < grants-64-12 {
				t.Errorf("only %d grants were left alone", unmarked)
			}
			f.server.SetClientSecrets("secret")
			f.recovers(workers[1], tenants[:1])
			f.hears(events, refresh.EventCircuitClosed, "")
			f.recovers(workers[2], tenants)
			for _, tenant := range tenants {
				f.living(workers[0], tenant)
			}
			if s := f.state(workers[0], "a closed circuit", func(s *engine.AppState) bool { return !s.Open }); s.Error != "" {
				t.Errorf("all is well: %+v", s)
			}
		})
	}
}

// recovers calls Token until it succeeds, coming back when it is told to.
func (f *fleet) recovers(w *worker, tenants []string) {
	f.t.Helper()
	for end := time.Now().Add(3 * time.Minute); len(tenants) > 0; { // after a row of refusals a wait is a minute and more
		var again []string
		var wait time.Duration
		for tenant, err := range f.all(w, tenants) {
			var e *refresh.Error
			switch {
			case err == nil:
			case errors.As(err, &e) && e.RetryAfter > 0 && time.Now().Before(end):
				again, wait = append(again, tenant), max(wait, e.RetryAfter)
			default:
				f.t.Fatal(err)
			}
		}
		if tenants = again; len(tenants) > 0 {
			time.Sleep(wait)
		}
	}
}

func TestTheCircuitClosesUnattended(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	events := w.Events(t.Context())
	f.accepted(w)
	for _, tenant := range []string{"acme", "other"} {
		f.connect(w, tenant, false)
		f.token(w, tenant)
	}
	f.server.SetClientSecrets("another")
	for _, tenant := range []string{"acme", "other"} {
		f.inUse(w, tenant)
	}
	f.run(f.worker())
	f.hears(events, refresh.EventCircuitOpen, "")
	for range 3 { // it goes on trying
		f.server.AwaitExchange(t)
	}
	f.server.SetClientSecrets("secret")
	f.hears(events, refresh.EventRefreshed, "acme") // by nobody but Run
	f.lawful(w, "acme")
}

func TestAValidTokenIsServedWhileTheCircuitIsOpen(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.due(w, "acme", time.Minute)
	f.opened(w, 1, time.Hour)
	before := len(f.server.Ledger())
	for range 100 {
		f.token(w, "acme")
	}
	if n := len(f.server.Ledger()) - before; n > 0 {
		t.Errorf("%d exchanges for a token that is valid", n)
	}
}

func TestTryTokenSaysThatTheCircuitIsOpen(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	f.opened(w, 1, time.Hour)
	for range 2 {
		_, err := w.TryToken(f.ctx(), "acme")
		kind(t, err, refresh.ErrClientConfig, "invalid_client")
	}
	if n := len(f.server.Ledger()); n != 0 {
		t.Errorf("%d exchanges", n)
	}
}

func TestTheOtherSecretIsTriedOnceBeforeTheCircuitOpens(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	old := *f.server.OAuth2Config()
	rotated := old
	rotated.ClientSecret = "rotated"
	w := f.worker(func(cfg *refresh.Config) {
		other, err := provider.OAuth2(&rotated, f.profile)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Provider.Fallback = other.Exchanger
	})
	f.connect(w, "acme", true)
	refreshed := func(exchanges int) {
		t.Helper()
		before := len(f.server.Ledger())
		if err := w.Refresh(f.ctx(), "acme"); err != nil {
			t.Fatal(err)
		}
		if n := len(f.server.Ledger()) - before; n != exchanges {
			t.Errorf("%d exchanges, not %d", n, exchanges)
		}
	}
	refreshed(1)
	f.server.SetClientSecrets("rotated")
	refreshed(2)
	refreshed(1) // it knows by now which one is accepted
	f.server.SetClientSecrets("secret")
	refreshed(2)
	f.server.SetClientSecrets("neither")
	before := len(f.server.Ledger())
	kind(t, w.Refresh(f.ctx(), "acme"), refresh.ErrClientConfig, "invalid_client")
	if n := len(f.server.Ledger()) - before; n != 2 {
		t.Errorf("%d exchanges, not one with each secret", n)
	}
	if st, err := w.Status(f.ctx(), "acme"); err != nil || st.State != tokencache.Active || st.ClaimBy != "" {
		t.Errorf("%v, %v", st, err)
	}
}

func TestAWishForAPauseThatTwoTenantsHearStopsTheWholeFleet(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]refreshtest.Step{
		"429, seconds": {Times: 2, Status: 429, Header: http.Header{"Retry-After": {"6"}}}, // all ask in that
		"503, a date":  {Times: 2, Status: 503, Header: http.Header{"Retry-After": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, refreshtest.Config{})
			w, other := f.worker(), f.worker()
			tenants := f.expired(w, 50)
			f.connect(w, "first", true)
			f.connect(w, "second", true)
			f.connect(w, "valid", false)
			f.token(other, "valid") // so that it hears of the app
			events := other.Events(t.Context())
			f.server.Script(step)
			for _, tenant := range []string{"first", "second"} {
				_, err := w.Token(f.ctx(), tenant)
				if e := kind(t, err, refresh.ErrUnavailable, ""); e.RetryAfter > 20*time.Minute {
					t.Errorf("%v", err)
				}
			}
			f.hears(events, refresh.EventThrottled, "")
			for tenant, err := range f.all(other, tenants) {
				if e := kind(t, err, refresh.ErrUnavailable, "throttled"); e.RetryAfter < 500*time.Millisecond || e.RetryAfter > 7*time.Minute {
					t.Errorf("%s: %v", tenant, err)
				}
			}
			f.token(other, "valid")
			if n := len(f.server.Ledger()); n != 2 {
				t.Errorf("%d exchanges while the provider wants a pause", n)
			}
			if step.Status == 429 {
				f.recovers(other, tenants)
			}
		})
	}
}

func TestTheBudgetHoldsOverAllProcesses(t *testing.T) {
	t.Parallel()
	budget := provider.Budget{Requests: 40, Per: time.Second, Concurrency: 4}
	f := newFleet(t, refreshtest.Config{LatencyBefore: 20 * time.Millisecond})
	f.profile.Budget = budget
	workers := []*worker{f.worker(), f.worker(), f.worker()}
	tenants := f.expired(workers[0], 90)
	var calls sync.WaitGroup
	for i, w := range workers {
		calls.Go(func() { f.recovers(w, tenants[i*30:(i+1)*30]) })
	}
	calls.Wait()
	l := f.server.Ledger()
	// Where Redis does not answer within a second, as on a busy machine, a process has a tenth of the budget.
	alone := len(workers) * budget.Requests / 10
	if n := l.Peak(budget.Per); n > budget.Requests+alone {
		t.Errorf("%d exchanges within %s, the budget is %d", n, budget.Per, budget.Requests)
	}
	if n := l.InFlight(); n > budget.Concurrency+len(workers) {
		t.Errorf("%d exchanges at once, the budget is %d", n, budget.Concurrency)
	}
	if len(l) != len(tenants) {
		t.Errorf("%d exchanges for %d grants", len(l), len(tenants))
	}
}

// 200 grants that were minted together are renewed by a fleet whose budget is short, while
// tenants come whose token has expired: nobody waits for the crowd, and of the crowd none expires.
func TestACallerThatWaitsGoesBeforeTheCrowdAndTheCrowdIsRenewedInTime(t *testing.T) {
	t.Parallel()
	budget := provider.Budget{Requests: 40, Per: time.Second} // 24 for those that nobody waits for
	f := newFleet(t, refreshtest.Config{AccessTokenLife: 40 * time.Second})
	f.profile.Budget = budget
	w := f.worker()
	events := w.Events(t.Context())
	var tenants []string
	for i := range 200 {
		tenants = append(tenants, fmt.Sprint("crowd", i))
		f.connect(w, tenants[i], false)
		f.token(w, tenants[i])
		if err := w.rdb.HSet(f.ctx(), f.prefix+":{zoom:"+tenants[i]+"}:grant", "used_at", f.redisNow(w)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	clock := redistest.StartStopwatch(t)
	f.run(w) // which the comers ask, too
	f.run(f.worker())
	stop, stopped := context.WithCancel(t.Context())
	var comers sync.WaitGroup
	comers.Go(func() {
		for i := 0; stop.Err() == nil; i++ {
			f.connect(w, fmt.Sprint("comer", i), true)
			clock := redistest.StartStopwatch(t)
			f.token(w, fmt.Sprint("comer", i))
			if took, over := clock.Over(3 * time.Second); over {
				t.Errorf("somebody waited %s behind the crowd", took)
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
	f.hears(events, refresh.EventRefreshed, tenants...)
	if took, over := clock.Over(40 * time.Second); over {
		t.Errorf("the last was renewed after %s, when it had expired", took)
	}
	late := clock.Late()
	stopped()
	comers.Wait()
	l := f.server.Ledger()
	// Within one second there can be more, where no place limits how many a busy machine delays and sends together;
	// and where Redis does not answer within a second each of the two has a tenth of the budget.
	if n := l.Peak(5 * budget.Per); n > 6*budget.Requests {
		t.Errorf("%d exchanges within five times %s, the budget is %d in each", n, budget.Per, budget.Requests)
	}
	var background []time.Time
	for _, p := range l {
		if strings.HasPrefix(p.Tenant, "crowd") {
			background = append(background, p.Arrived)
		}
	}
	// 24 a second and a burst of 4; with the whole of the budget it would be 6.1 s.
	if took := background[len(background)-1].Sub(background[0]); took+late < 7200*time.Millisecond {
		t.Errorf("the crowd took %s: it had more than its share of the budget", took)
	}
}

// The wait for the budget can be long enough for the provider to change its mind.
func TestAPauseBeginsForThoseWhoWaitForTheBudgetToo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.Budget = provider.Budget{Concurrency: 1}
	w, other := f.worker(), f.worker()
	f.connect(w, "first", true)
	tenants := f.expired(w, 10)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	f.server.Script(refreshtest.Step{Times: 2, Status: 429, Header: http.Header{"Retry-After": {"3600"}}})
	var calls sync.WaitGroup
	calls.Go(func() {
		_, err := w.Token(f.ctx(), "first")
		kind(t, err, refresh.ErrUnavailable, "")
	})
	gate.Await(t)
	calls.Go(func() {
		second := 0
		for tenant, err := range f.all(other, tenants) {
			e := kind(t, err, refresh.ErrUnavailable, "")
			if e.RetryAfter < time.Minute {
				t.Errorf("%s: %v", tenant, err)
			}
			if e.Code != "throttled" {
				second++
			}
		}
		if second != 1 {
			t.Errorf("%d tenants heard it themselves, besides the first", second)
		}
	})
	for _, tenant := range tenants {
		f.locked(w, tenant)
	}
	gate.Release()
	calls.Wait()
	if n := len(f.server.Ledger()); n != 2 {
		t.Errorf("%d exchanges while the provider wants a pause", n)
	}
}

// Two that find out at once that the other secret is accepted must not swap it back.
func TestTwoThatFindTheOtherSecretAtOnceAgree(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	refused := &provider.Error{Class: provider.AppRefused, Code: "invalid_client", Status: 401}
	var met sync.WaitGroup
	met.Add(2)
	var asked atomic.Int64
	w := f.worker(func(cfg *refresh.Config) {
		cfg.Provider.Fallback = cfg.Provider.Exchanger
		cfg.Provider.Exchanger = exchanger(func(context.Context, provider.Grant) (provider.Pair, error) {
			if asked.Add(1) <= 2 {
				met.Done()
				met.Wait()
			}
			return provider.Pair{}, refused
		})
	})
	f.all(w, f.expired(w, 2))
	f.connect(w, "acme", true)
	f.token(w, "acme")
	if n := asked.Load(); n != 2 {
		t.Errorf("the secret that is refused was presented %d times, not twice", n)
	}
}

// exchanger is a provider that is one function.
type exchanger func(context.Context, provider.Grant) (provider.Pair, error)

func (x exchanger) Exchange(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	return x(ctx, g)
}

// locked waits until somebody has the lease of a grant.
func (f *fleet) locked(w *worker, tenant string) {
	f.t.Helper()
	for end := time.Now().Add(30 * time.Second); w.rdb.Exists(f.ctx(), w.cache.Grant(key(tenant)).LockKey()).Val() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("nobody has the lease of %s", tenant)
		}
	}
}

// Who is told that the tenant has withdrawn its consent was accepted as a client.
func TestAProbeThatATenantRefusesClosesTheCircuit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "gone", true)
	f.connect(w, "acme", true)
	f.opened(w, 1, 0)
	f.server.Revoke("gone")
	_, err := w.Token(f.ctx(), "gone")
	kind(t, err, refresh.ErrReauthorize, "invalid_grant")
	f.token(w, "acme")
}

func TestTheRenewingProcessGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.config.ClaimTimeout = time.Minute // when it would come back by itself
	f.profile.Budget = provider.Budget{Concurrency: 1}
	w := f.worker()
	events := w.Events(t.Context())
	var tenants []string
	for i := range 10 {
		tenants = append(tenants, fmt.Sprint("tenant", i))
		f.connect(w, tenants[i], false)
		f.inUse(w, tenants[i])
	}
	f.run(w)
	f.hears(events, refresh.EventRefreshed, tenants...)
	if n := f.server.Ledger().InFlight(); n > 1 {
		t.Errorf("%d exchanges at once, the budget is 1", n)
	}
}

func TestACallerThatWaitsForTheBudgetHearsOfClose(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.Budget = provider.Budget{Concurrency: 1}
	w, other := f.worker(), f.worker()
	f.connect(w, "first", true)
	f.connect(w, "acme", true)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	var calls sync.WaitGroup
	calls.Go(func() { f.token(w, "first") })
	gate.Await(t)
	got := make(chan error, 1)
	go func() {
		_, err := other.Token(f.ctx(), "acme")
		got <- err
	}()
	f.locked(w, "acme")
	if err := other.Close(f.ctx()); err != nil {
		t.Error(err)
	}
	if err := <-got; err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v", err)
	}
	gate.Release()
	calls.Wait()
}
