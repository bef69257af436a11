package refresh_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

var refusal = refreshtest.Step{Status: 400, Body: `{"error":"invalid_grant"}`}

// A provider's replica that lags behind refuses what it has handed out a moment ago.
func TestARefusalThatTheProviderDidNotMeanCostsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	workers := []*worker{f.worker(short), f.worker(short), f.worker(short)}
	f.connect(workers[0], "acme", true)
	f.server.Script(refusal)
	var callers sync.WaitGroup
	for _, w := range workers {
		for range 20 {
			callers.Go(func() { f.token(w, "acme") })
		}
	}
	callers.Wait()
	if n := len(f.server.Ledger()); n != 2 {
		t.Errorf("%d exchanges, want 2", n)
	}
	f.journal(t, "acme", "refused", 1)
	f.journal(t, "acme", "reauthorize", 0)
	f.lawful(workers[1], "acme")
}

// The second presentation has the whole time that an exchange may take, and nobody takes over meanwhile.
func TestASecondOpinionNestsInItsClaim(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.lease = 4 * time.Second
	// Both exchanges and the wait between them take longer than the claim stands, and each more than half of its time.
	brief := func(cfg *refresh.Config) {
		cfg.ExchangeTimeout, cfg.ClaimTimeout, cfg.CommitPatience = 6*time.Second, 6500*time.Millisecond, time.Second
	}
	w, other := f.worker(brief), f.worker(brief)
	f.connect(w, "acme", true)
	f.server.Script(refusal)
	f.server.SetLatency(3200*time.Millisecond, 0)
	var callers sync.WaitGroup
	for _, w := range []*worker{w, other} {
		callers.Go(func() { f.token(w, "acme") })
	}
	callers.Wait()
	l := f.server.Ledger()
	if len(l) != 2 || l.InFlight() != 1 {
		t.Fatalf("%d exchanges, %d at once", len(l), l.InFlight())
	}
	if d := l[1].Arrived.Sub(l[0].Answered); d < 2*time.Second || d > 10*time.Second {
		t.Errorf("asked again after %s", d)
	}
	f.lawful(w, "acme")
}

// After a 5xx nobody knows whether the refresh token was redeemed. If it was not, a refusal of the
// recovery presentation may be as wrong as any other.
func TestARecoveryIsRefusedByMistakeAndCostsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	timeouts := func(cfg *refresh.Config) { // room for a slow machine
		cfg.ExchangeTimeout, cfg.ClaimTimeout, cfg.CommitPatience = 5*time.Second, 5500*time.Millisecond, time.Second
	}
	w, other := f.worker(timeouts), f.worker(timeouts)
	f.connect(w, "acme", true)
	f.server.Script(refreshtest.Step{Status: 503}, refusal)
	_, err := w.Token(f.ctx(), "acme")
	time.Sleep(kind(t, err, refresh.ErrUnavailable, "").RetryAfter)
	var callers sync.WaitGroup
	for _, w := range []*worker{w, other} {
		callers.Go(func() { f.token(w, "acme") })
	}
	callers.Wait()
	if n := len(f.server.Ledger()); n != 3 {
		t.Errorf("%d exchanges, want 3", n)
	}
	f.journal(t, "acme", "reauthorize", 0)
	f.lawful(other, "acme")
}

// While one waits for its second opinion the app's only place is another's.
func TestASecondOpinionHoldsNoPlaceWhileItWaits(t *testing.T) {
	t.Parallel()
	var order []string
	for range 5 { // a busy machine may take the two seconds that it waits
		f := newFleet(t, refreshtest.Config{})
		f.profile.Budget = provider.Budget{Concurrency: 1}
		w := f.worker()
		f.connect(w, "gone", true)
		f.connect(w, "acme", true)
		f.server.Revoke("gone")
		got := make(chan error, 1)
		go func() {
			_, err := w.Token(f.ctx(), "gone")
			got <- err
		}()
		f.server.AwaitExchange(t)
		f.token(w, "acme")
		kind(t, <-got, refresh.ErrReauthorize, "invalid_grant")
		order = nil
		for _, p := range f.server.Ledger() {
			order = append(order, p.Tenant)
		}
		if fmt.Sprint(order) == "[gone acme gone]" {
			return
		}
	}
	t.Errorf("exchanges of %v", order)
}

// A consent that comes before the second opinion is due makes it needless: the refresh token that was
// refused is not presented again.
func TestAConsentEndsTheWaitForASecondOpinion(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, other := f.worker(), f.worker()
	f.connect(w, "acme", true)
	f.server.Script(refusal)
	got := make(chan error, 1)
	go func() {
		_, err := w.Token(f.ctx(), "acme")
		got <- err
	}()
	f.eventually("the refusal to be known", func() bool {
		s := w.cache.Grant(key("acme")).Recall()
		return s != nil && s.Error != ""
	})
	f.connect(other, "acme", false)
	if err := <-got; err != nil {
		t.Error(err)
	}
	if err := w.Refresh(f.ctx(), "acme"); err != nil { // after the flight that had asked
		t.Error(err)
	}
	if n := len(f.server.Ledger()); n != 2 {
		t.Errorf("%d exchanges, want the one that was refused and that of the new pair:\n%s", n, f.server.Ledger())
	}
	f.lawful(w, "acme")
}

// Whoever asks for a second opinion may have to end before it is due.
func TestAProcessThatEndsBeforeItsSecondOpinionLeavesAGrantThatLives(t *testing.T) {
	t.Parallel()
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, refreshtest.Config{})
		w, other := f.worker(), f.worker()
		f.connect(w, "acme", true)
		f.server.Script(refusal)
		got := make(chan error, 1)
		go func() {
			_, err := w.Token(f.ctx(), "acme")
			got <- err
		}()
		f.server.AwaitExchange(t)
		f.server.AwaitIdle(t)
		if err := w.Close(f.ctx()); err != nil {
			t.Error(err)
		}
		if err := <-got; err == nil {
			t.Error("a token")
		}
		awaitToken(t, f, other, "acme")
		f.lawful(other, "acme")
	})
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		f := newFleet(t, refreshtest.Config{})
		w := f.worker(short)
		f.connect(w, "acme", true)
		s, err := w.cache.Grant(key("acme")).Read(f.ctx())
		if err != nil {
			t.Fatal(err)
		}
		_, s, err = w.cache.Grant(s.Key).As("dead").Claim(f.ctx(), s, "of-the-dead", time.Second, grant.AfterDeadline)
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := w.cache.Grant(s.Key).As("dead").Fail(f.ctx(), s, grant.Failure{ID: "id", Verdict: grant.VerdictAgain, Error: "refused/invalid_grant/400", Retry: 2 * time.Second})
		if o != grant.OutcomeOK || err != nil {
			t.Fatal(o, err)
		}
		f.token(w, "acme") // after the claim's deadline
		f.lawful(w, "acme")
	})
}

// dies lets a tenant's grant die by a refusal that goes on until the script is cleared. The process that met it
// has ended then: what it still had to say would put off what a test makes due.
func (f *fleet) dies(tenant string) {
	f.t.Helper()
	w := f.worker()
	step := refusal
	step.Tenant, step.Times = tenant, -1
	f.server.Script(step)
	f.connect(w, tenant, true)
	_, err := w.Token(f.ctx(), tenant)
	kind(f.t, err, refresh.ErrReauthorize, "invalid_grant")
	if err := w.Close(f.ctx()); err != nil {
		f.t.Fatal(err)
	}
}

// record is what Redis has of a grant.
func (f *fleet) record(w *worker, tenant string) *grant.Record {
	f.t.Helper()
	s, err := w.cache.Grant(key(tenant)).Read(f.ctx())
	if err != nil {
		f.t.Fatal(err)
	}
	return &s.Record
}

func TestAGrantThatDiedByMistakeComesBackByItself(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.dies("acme")
	f.run(f.worker())
	f.putOff(w, "acme")
	f.server.ClearScript()
	events := f.worker().Events(t.Context())
	f.listening(w, 1)
	f.alter(w, "acme", "retry_at", 1, "rev", 1000)
	f.run(f.worker()) // which looks at once when it begins
	f.hears(events, refresh.EventRefreshed, "acme")
	f.token(f.worker(), "acme")
	f.lawful(w, "acme")
}

// putOff waits until Run has put a grant off for a minute.
func (f *fleet) putOff(w *worker, tenant string) {
	f.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		at, now := f.score(w, tenant), float64(f.redisNow(w))
		if at > now+50_000 && at < now+76_000 && at == float64(int64(at)) { // not the half of those that are taken
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("%s is looked at in %.1f s, want a minute", tenant, (at-now)/1000)
		}
	}
}

// Nobody is told again that it is dead; it is presented five times more, and then left alone.
func TestAGrantThatStaysDeadIsPresentedAFewTimesMore(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, runs := f.worker(), f.worker()
	f.dies("acme")
	events := f.worker().Events(t.Context())
	died := f.record(w, "acme")
	for n := range int64(5) {
		before := len(f.server.Ledger())
		f.alter(w, "acme", "retry_at", 1, "rev", 1000*(n+1)) // or memory would count as newer
		stop := f.run(runs)                                  // which looks at once when it begins
		r := f.record(w, "acme")
		for end := time.Now().Add(30 * time.Second); r.Revivals != n+1; r = f.record(w, "acme") {
			if time.Now().After(end) {
				t.Fatalf("revival %d was not made: %+v", n+1, r)
			}
			time.Sleep(5 * time.Millisecond)
		}
		stop()
		if got := len(f.server.Ledger()) - before; got != 1 {
			t.Errorf("%d exchanges for a revival", got)
		}
		if r.State != tokencache.Reauthorize || r.Reason != "invalid_grant" || r.CommitID != died.CommitID || r.Claim.Unresolved() || (r.RetryAt == 0) != (n == 4) {
			t.Errorf("after revival %d: %+v", n+1, r)
		}
	}
	if err := w.cache.Grant(key("acme")).Schedule(f.ctx(), 1); err != nil { // it may have been put off by then
		t.Fatal(err)
	}
	f.run(runs)
	for end := time.Now().Add(30 * time.Second); f.lookedAt(w, "acme"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is still looked at")
		}
	}
	_, err := w.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrReauthorize, "invalid_grant")
	seen := map[string]bool{}
	for {
		select {
		case e := <-events:
			if e.Kind == refresh.EventReauthorize {
				seen[e.ID] = true
			}
			continue
		default:
		}
		break
	}
	if len(seen) > 1 {
		t.Errorf("its death was told %d times", len(seen))
	}
}

// lookedAt reports whether a due set has a grant.
func (f *fleet) lookedAt(w *worker, tenant string) bool {
	f.t.Helper()
	for shard := range engine.DueShards {
		if w.rdb.ZScore(f.ctx(), fmt.Sprintf("%s:due:zoom:%02d", f.prefix, shard), tenant).Err() == nil {
			return true
		}
	}
	return false
}

// A grant whose pair was lost has spent its refresh token; consent and its end begin anew.
func TestAGrantThatDidNotDieByMistakeIsNotPresentedAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker(short)
	f.connect(w, "lost", true)
	f.server.Script(refreshtest.Step{Tenant: "lost", At: refreshtest.AfterCommit, Fault: refreshtest.Drop})
	_, err := w.Token(f.ctx(), "lost")
	time.Sleep(kind(t, err, refresh.ErrUnavailable, "").RetryAfter)
	_, err = w.Token(f.ctx(), "lost")
	kind(t, err, refresh.ErrReauthorize, "lost_response")
	f.dies("again")
	f.dies("ended")
	f.connect(w, "again", false)
	if err := w.Disconnect(f.ctx(), "ended"); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"lost", "again", "ended"} {
		if r := f.record(w, tenant); r.RetryAt != 0 || r.Revivals != 0 {
			t.Errorf("%s: %+v", tenant, r)
		}
	}
}

// Those that live come first: a dead one takes no place that it would have to wait for.
func TestADeadGrantWaitsForNoBudget(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.Budget = provider.Budget{Concurrency: 1}
	w := f.worker()
	f.dies("dead")
	f.connect(w, "first", true)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	ended := make(chan struct{})
	go func() { f.token(w, "first"); close(ended) }()
	gate.Await(t)
	f.alter(w, "dead", "retry_at", 1)
	f.run(f.worker())
	f.putOff(w, "dead")
	gate.Release()
	<-ended
	if n := len(f.server.Ledger().Presentations("dead")); n != 2 {
		t.Errorf("%d exchanges of the dead one", n)
	}
}

func TestRefusalsThatNoRuleKnowsComeToAnEnd(t *testing.T) {
	t.Parallel()
	days := 3*24*time.Hour + time.Second
	for name, c := range map[string]struct {
		expired bool
		mark    func(now int64) []any
		dead    bool
	}{
		"for days without a valid access token": {true, func(now int64) []any { return []any{"refused_at", now - days.Milliseconds(), "fails", 70} }, true},
		"with one":                              {false, func(now int64) []any { return []any{"refused_at", now - days.Milliseconds(), "fails", 70} }, false},
		"for a day":                             {true, func(now int64) []any { return []any{"refused_at", now - days.Milliseconds()/3, "fails", 70} }, false},
		"after the refresh token's end":         {true, func(now int64) []any { return []any{"rt_expires_at", now - 1} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w := f.worker()
			f.connect(w, "acme", c.expired)
			f.mark(w, "acme", c.mark(f.redisNow(w))...)
			f.server.Script(refuse("no_idea", 418))
			err := f.worker().Refresh(f.ctx(), "acme")
			r := f.record(w, "acme")
			if !c.dead {
				kind(t, err, refresh.ErrUnavailable, "")
				if r.State != tokencache.Active {
					t.Errorf("%+v", r)
				}
				return
			}
			kind(t, err, refresh.ErrReauthorize, "refused_for_long")
			if r.State != tokencache.Reauthorize || r.Reason != "refused_for_long" || r.RetryAt != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}
