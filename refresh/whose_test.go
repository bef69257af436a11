package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// clientLike are the answers that smell of the client, and that providers give for one tenant
// too.
var clientLike = map[string]refreshtest.Step{
	"bare 401":            {Status: 401},
	"invalid_client":      {Status: 401, Body: `{"error":"invalid_client"}`},
	"unauthorized_client": {Status: 400, Body: `{"error":"unauthorized_client"}`},
	"invalid_scope":       {Status: 400, Body: `{"error":"invalid_scope"}`},
	"redirect":            {Status: 302, Header: http.Header{"Location": {"/elsewhere"}}},
}

// dead lets n more tenants consent whose refreshes all end with that step.
func (f *fleet) dead(w *worker, n int, step refreshtest.Step, expired bool) (tenants []string) {
	f.t.Helper()
	for i := range n {
		tenant := fmt.Sprint("dead", i)
		step.Tenant, step.Times = tenant, -1
		f.connect(w, tenant, expired)
		f.server.Script(step)
		tenants = append(tenants, tenant)
	}
	return tenants
}

// longLeases gives the leases so much time that none is lost while many call on a busy machine.
func (f *fleet) longLeases() { f.lease = 30 * time.Second }

// calls is what came of the calls about many tenants.
type calls struct {
	mu      sync.Mutex
	n       int
	failed  []error
	slowest time.Duration
}

func (c *calls) add(took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.slowest = max(c.slowest, took)
	if err != nil {
		c.failed = append(c.failed, err)
	}
}

// ask calls Token for each tenant every 100 ms, by one worker or the other, until ctx ends.
func (f *fleet) ask(ctx context.Context, work *sync.WaitGroup, workers []*worker, tenants []string) *calls {
	got := &calls{}
	for i, tenant := range tenants {
		work.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				start := time.Now()
				_, err := workers[n%len(workers)].Token(f.ctx(), tenant)
				got.add(time.Since(start), err)
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return got
}

// Twenty dead tenants of eighty stop nobody else, whatever the provider says about them.
func TestTheTroubleOfSomeTenantsIsNotTheOthers(t *testing.T) {
	t.Parallel()
	for name, step := range clientLike {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const life = 4 * time.Second
			f := newFleet(t, refreshtest.Config{AccessTokenLife: life})
			f.longLeases()
			workers := []*worker{f.worker(), f.worker()}
			dead := f.dead(workers[0], 20, step, false)
			var healthy []string
			for i := range 60 {
				healthy = append(healthy, fmt.Sprint("tenant", i))
				f.connect(workers[0], healthy[i], false)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second) // twice the life of a token, and more
			defer cancel()
			var work sync.WaitGroup
			well, ill := f.ask(ctx, &work, workers, healthy), f.ask(ctx, &work, workers, dead)
			work.Wait()
			exchanges := 0
			for _, p := range f.server.Ledger() {
				if strings.HasPrefix(p.Tenant, "dead") {
					exchanges++
				}
			}
			t.Logf("%d calls of healthy tenants, the slowest took %v; %d of the dead, %d failed; %d exchanges, %d of the dead",
				well.n, well.slowest, ill.n, len(ill.failed), len(f.server.Ledger()), exchanges)
			for _, err := range well.failed {
				// This machine: a token has lived no longer than its way here took.
				if e := (*refresh.Error)(nil); well.slowest < life/2 || !errors.As(err, &e) || e.Code != "short_lived" {
					t.Errorf("a healthy tenant: %v", err)
				}
			}
			stalled := well.slowest > time.Second // the machine: nobody waits longer for Redis to take a failure
			for _, err := range ill.failed {
				if !errors.Is(err, refresh.ErrClientConfig) && !(stalled && errors.Is(err, refresh.ErrUnavailable)) {
					t.Errorf("a dead tenant: %v", err)
				}
			}
			if exchanges > 20*8 {
				t.Errorf("%d exchanges of 20 dead tenants in 9 s", exchanges)
			}
			for _, tenant := range healthy {
				f.lawful(workers[0], tenant)
			}
		})
	}
}

// Before the provider has accepted anybody, twenty dead tenants open the circuit. The healthy
// ones that come then wait for a probe, and do not fail.
func TestTenantsThatCameAfterTheDeadAreServed(t *testing.T) {
	t.Parallel()
	for name, step := range clientLike {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.longLeases()
			workers := []*worker{f.worker(), f.worker()}
			dead, healthy := f.dead(workers[0], 20, step, true), f.expired(workers[0], 60)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var work sync.WaitGroup
			f.ask(ctx, &work, workers, dead)
			f.state(workers[1], "an open circuit", func(s *engine.AppState) bool { return s.Open })
			opened := time.Now()
			time.Sleep(2 * time.Second) // the dead probe meanwhile
			start := time.Now()
			for tenant, err := range f.all(workers[1], healthy) {
				switch {
				// This machine: Redis has answered late; or some ten seconds have gone, after which the waits are so
				// long that callers are told of them.
				case errors.Is(err, context.DeadlineExceeded), err != nil && time.Since(opened) > 8*time.Second:
					f.recovers(workers[1], []string{tenant})
				case err != nil:
					t.Errorf("%s: %v", tenant, err)
				}
			}
			t.Logf("served after %v", time.Since(start))
			cancel()
			work.Wait()
		})
	}
}

func TestOneRefusedTenantIsRefusedAloneAndKeepsItsCode(t *testing.T) {
	t.Parallel()
	for name, step := range clientLike {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w := f.worker()
			f.accepted(w)
			dead := f.dead(w, 1, step, true)[0]
			_, err := w.Token(f.ctx(), dead)
			e := kind(t, err, refresh.ErrClientConfig, "")
			if e.Status != step.Status || e.RetryAfter <= 0 || strings.Contains(step.Body, "error") && !strings.Contains(step.Body, e.Code) {
				t.Errorf("%v", err)
			}
			f.state(w, "a suspicion", func(s *engine.AppState) bool { return s.Refuses(dead) && !s.Open })
			f.connect(w, "acme", true)
			f.token(w, "acme")
			s := f.state(w, "no suspicion", func(s *engine.AppState) bool { return s.Refused == "" })
			for n := 0; n < 3; { // it says nothing new
				time.Sleep(e.RetryAfter)
				_, err := w.Token(f.ctx(), dead)
				if !errors.As(err, &e) {
					t.Fatal(err)
				}
				if errors.Is(err, refresh.ErrClientConfig) { // else Redis was slow
					n++
				}
			}
			if again := w.cache.App("zoom").KnownApp(); again.Rev != s.Rev {
				t.Errorf("evidence once more: %+v", again)
			}
			if st, err := w.Status(f.ctx(), dead); err != nil || st.State != tokencache.Active {
				t.Errorf("%v, %v", st, err)
			}
		})
	}
}

// While one probes, the others wait for what comes of it.
func TestCallsWaitForTheProbeThatIsUnderWay(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.longLeases()
	workers := []*worker{f.worker(), f.worker()}
	f.opened(workers[0], 12, 0)
	f.connect(workers[0], "prober", true)
	tenants := f.expired(workers[0], 30)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	var calls sync.WaitGroup
	calls.Go(func() { f.token(workers[0], "prober") })
	gate.Await(t)
	for _, w := range workers {
		calls.Go(func() {
			for tenant, err := range f.all(w, tenants) {
				if err != nil {
					t.Errorf("%s: %v", tenant, err)
				}
			}
		})
		_, err := w.TryToken(f.ctx(), "tenant0")
		if e := kind(t, err, refresh.ErrPending, ""); e.RetryAfter > 5*time.Second {
			t.Errorf("told to come back after the prober's death: %v", err)
		}
	}
	if n := len(f.server.Ledger()); n > 1 {
		t.Errorf("%d exchanges beside the probe", n-1)
	}
	gate.Release()
	calls.Wait()
	f.state(workers[1], "a closed circuit", func(s *engine.AppState) bool { return !s.Open })
}

// A tenant that was refused does not take the probe of one that was not.
func TestARefusedTenantProbesOnlyIfNobodyElseComes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.accepted(w)
	var refused []string
	for i := range 2 {
		refused = append(refused, fmt.Sprint("dead", i))
		f.connect(w, refused[i], true)
	}
	f.server.SetClientSecrets("another")
	for _, tenant := range refused {
		_, err := w.Token(f.ctx(), tenant)
		kind(t, err, refresh.ErrClientConfig, "invalid_client")
	}
	opened := f.state(w, "an open circuit", func(s *engine.AppState) bool { return s.Open })
	if opened.Until(opened.ProbeAt) > 0 {
		t.Errorf("the first probe is not made at once: %+v", opened)
	}
	f.server.SetClientSecrets("secret")
	f.recovers(w, refused) // nobody else is there
	f.state(w, "a closed circuit", func(s *engine.AppState) bool { return !s.Open })
	l := f.server.Ledger()
	if took := l[len(l)-2].Arrived.Sub(l[len(l)-3].Arrived); took < 900*time.Millisecond {
		t.Errorf("a tenant that was refused probed after %v", took)
	}
}

// An acceptance that was under way when the circuit opened is one too.
func TestAnAcceptanceThatWasUnderWayClosesTheCircuit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	f.connect(w, "next", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	var calls sync.WaitGroup
	calls.Go(func() { f.token(w, "acme") })
	gate.Await(t)
	f.opened(w, 12, time.Hour)
	gate.Release()
	calls.Wait()
	f.state(w, "a closed circuit", func(s *engine.AppState) bool { return !s.Open })
	f.token(w, "next")
}

// A probe's right whose flight finds no claim, or whose exchange says nothing about the client,
// is given back, not kept until it has ended for sure.
func TestAProbeThatSaysNothingIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]refreshtest.Step{
		"no answer":      {Fault: refreshtest.Drop},
		"500":            {Status: 500},
		"an unknown 400": {Status: 400, Body: `{"error":"odd"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w := f.worker()
			f.opened(w, 1, 0)
			f.connect(w, "prober", true)
			f.connect(w, "acme", true)
			step.Tenant = "prober"
			f.server.Script(step)
			_, err := w.Token(f.ctx(), "prober")
			kind(t, err, refresh.ErrUnavailable, "")
			watch := redistest.StartStopwatch(t)
			f.token(w, "acme")
			if took, over := watch.Over(10 * time.Second); over {
				t.Errorf("the next probe came after %v", took)
			}
		})
	}
}

func TestOneTenantsRetryAfterStopsNobodyElse(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "limited", true)
	tenants := f.expired(w, 20)
	f.server.Script(refreshtest.Step{Tenant: "limited", Times: -1, Status: 429, Header: http.Header{"Retry-After": {"86400"}}})
	_, err := w.Token(f.ctx(), "limited")
	if e := kind(t, err, refresh.ErrUnavailable, ""); e.Status != 429 || e.RetryAfter < 14*time.Minute || e.RetryAfter > 19*time.Minute {
		t.Errorf("%v, want a quarter of an hour", err)
	}
	for tenant, err := range f.all(w, tenants) {
		if err != nil {
			t.Errorf("%s: %v", tenant, err)
		}
	}
	f.state(w, "no suspicion", func(s *engine.AppState) bool { return s.Limited == "" && s.ThrottledUntil == 0 })
}

// When a pause is over, 300 tenants wait for it. The provider must not get them all at once.
func TestTheFleetRampsUpAfterAPause(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{LatencyBefore: 20 * time.Millisecond})
	f.longLeases()
	workers := []*worker{f.worker(), f.worker()}
	tenants := f.expired(workers[0], 300)
	f.server.Script(refreshtest.Step{Times: 2, Status: 429, Header: http.Header{"Retry-After": {"2"}}})
	for _, w := range workers {
		_ = w.cache.App("zoom").WatchApp(f.ctx())
	}
	for i, w := range workers {
		_, err := w.Token(f.ctx(), tenants[i])
		kind(t, err, refresh.ErrUnavailable, "")
	}
	paused := f.state(workers[1], "a pause", func(s *engine.AppState) bool { return s.ThrottledUntil > 0 })
	over := time.Now().Add(paused.Until(paused.ThrottledUntil))
	var all sync.WaitGroup
	for i, tenant := range tenants {
		all.Go(func() {
			for {
				_, err := workers[i%2].Token(f.ctx(), tenant)
				var e *refresh.Error
				if !errors.As(err, &e) {
					return
				}
				time.Sleep(e.RetryAfter)
			}
		})
	}
	all.Wait()
	var at []time.Duration
	for _, p := range f.server.Ledger()[2:] {
		at = append(at, p.Arrived.Sub(over))
	}
	slices.Sort(at)
	within := func(d time.Duration) (most int) {
		for i := range at {
			j := i
			for j < len(at) && at[j]-at[i] < d {
				j++
			}
			most = max(most, j-i)
		}
		return most
	}
	first := 0
	for first < len(at) && at[first] < time.Second {
		first++
	}
	t.Logf("%d exchanges in the first second, %d of %d within 200 ms, the last after %v", first, within(200*time.Millisecond), len(at), at[len(at)-1])
	if first > 40 {
		t.Errorf("%d exchanges in the first second after the pause", first)
	}
	if n := within(200 * time.Millisecond); n > 100 {
		t.Errorf("%d of %d exchanges within 200 ms", n, len(at))
	}
	if at[0] < -50*time.Millisecond {
		t.Errorf("the first came %v before the end of the pause", -at[0])
	}
}
