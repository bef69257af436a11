package refresh_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// clockedFleet is a fleet on a Redis whose clock can be set.
func clockedFleet(t *testing.T, cfg refreshtest.Config) (f *fleet, set func(time.Duration)) {
	t.Helper()
	f = newFleet(t, cfg)
	var c redistest.Clock
	f.redis = redistest.Own(t, redistest.Clocked(t, &c))
	return f, func(d time.Duration) { c.Set(t, f.redis, d) }
}

// While one process presents, Redis' clock is set forward beyond the claim's deadline.
func TestAClockThatIsSetForwardOpensNoClaim(t *testing.T) {
	t.Parallel()
	for name, knows := range map[string]bool{"known to the other": true, "unknown to it": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, set := clockedFleet(t, refreshtest.Config{})
			f.config.ExchangeTimeout, f.config.ClaimTimeout = 8*time.Second, 9*time.Second
			f.lease = 3 * time.Second
			a, b := f.worker(), f.worker()
			f.connect(a, "acme", true)
			f.connect(b, "other", false)
			f.token(b, "other") // it was there before
			gate := f.server.Hold(refreshtest.AfterCommit)
			var callers sync.WaitGroup
			callers.Go(func() { f.token(a, "acme") })
			gate.Await(t)
			if knows {
				if st, err := b.Status(f.ctx(), "acme"); err != nil || st.ClaimBy == "" {
					t.Fatal(st, err)
				}
				callers.Go(func() { f.token(b, "acme") })
				time.Sleep(100 * time.Millisecond) // it waits, or this shows less
			}
			set(time.Minute)
			callers.Go(func() { f.token(b, "acme") })
			time.Sleep(3 * time.Second)
			if n := len(f.server.Ledger()); n != 1 {
				t.Errorf("%d exchanges at once:\n%s", n, f.server.Ledger())
			}
			gate.Release()
			callers.Wait()
			f.lawful(a, "acme")
		})
	}
}

// The holder died over its exchange: the claim is taken over a claim's time later, not an hour.
func TestAClockThatIsSetBackKeepsNoClaimStanding(t *testing.T) {
	t.Parallel()
	f, set := clockedFleet(t, refreshtest.Config{})
	a := f.worker(short)
	f.connect(a, "acme", true)
	f.server.Script(refreshtest.Step{At: refreshtest.BeforeCommit, Fault: refreshtest.Drop})
	_, err := a.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrUnavailable, "")
	set(-time.Hour)
	for _, w := range []*worker{a, f.worker(short)} {
		awaitToken(t, f, w, "acme")
	}
	f.lawful(a, "acme")
}

// What ended before the clock was set back has ended.
func TestAClockThatIsSetBackGivesNoTokenAnotherHour(t *testing.T) {
	t.Parallel()
	f, set := clockedFleet(t, refreshtest.Config{})
	w, knows, later := f.worker(), f.worker(), f.worker()
	f.connect(knows, "other", false)
	f.token(later, "other") // it was there before, and has never asked for acme
	tok := f.server.Grant("acme")
	tok.Expiry = time.Now().Add(2 * time.Second)
	if err := w.Connect(f.ctx(), "acme", tok); err != nil {
		t.Fatal(err)
	}
	f.token(knows, "acme")
	// As if it had been an hour ago.
	f.connect(w, "old", false)
	f.token(knows, "old")
	set(-time.Hour)
	time.Sleep(2100 * time.Millisecond)
	f.server.ExpireAccessTokens("acme")
	for name, w := range map[string]*worker{"knows it": knows, "was there": later} {
		if got := f.token(w, "acme"); got.AccessToken == tok.AccessToken || !f.server.AccessAlive(got.AccessToken) {
			t.Errorf("%s: serves what has ended", name)
		}
	}
	f.knows(w, "acme", 2)
	// What has not ended goes on, and a pair from after that lives as long as it should.
	before := len(f.server.Ledger().Presentations("acme"))
	for _, w := range []*worker{knows, later, w} {
		f.token(w, "old")
		if got := f.token(w, "acme"); time.Until(got.Expiry) < 50*time.Minute {
			t.Errorf("the new pair ends in %s", time.Until(got.Expiry))
		}
	}
	if n := len(f.server.Ledger().Presentations("acme")) - before; n != 0 {
		t.Errorf("%d exchanges more", n)
	}
	f.lawful(w, "acme")
}

// Who is there when the clock is set back knows how old what it reads for the first time is.
func TestAGrantFirstReadAfterTheClockWasSetBackIsAsOldAsItIs(t *testing.T) {
	t.Parallel()
	f, set := clockedFleet(t, refreshtest.Config{AccessTokenLife: time.Hour})
	set(time.Hour)
	w, later := f.worker(), f.worker()
	f.connect(w, "other", false)
	f.token(later, "other")
	now := f.redisNow(w)
	tok := f.connect(w, "acme", false)
	// It was issued 70 minutes ago, by the clock as it is until now.
	s, err := w.cache.Grant(key("acme")).Read(f.ctx())
	if err != nil {
		t.Fatal(err)
	}
	p := s.Pair
	p.IssuedAt, p.ExpiresAt, p.RefreshAt = now-70*60_000, now-10*60_000, now-16*60_000
	_, s, err = w.cache.Grant(s.Key).As("w").Claim(f.ctx(), s, "id", time.Minute, grant.AtOnce)
	if err != nil {
		t.Fatal(err)
	}
	if o, _, err := w.cache.Grant(s.Key).As("w").Commit(f.ctx(), s, "id2", p, false, false); o != grant.OutcomeOK || err != nil {
		t.Fatal(o, err)
	}
	set(0)
	if _, err := later.Status(f.ctx(), "other"); err != nil { // it hears what time it is
		t.Fatal(err)
	}
	if got := f.token(later, "acme"); got.AccessToken == tok.AccessToken {
		t.Error("what ended ten minutes ago is served")
	}
	f.lawful(later, "acme")
}

// Pauses, places, budget, probes and leases are a matter of minutes, whatever becomes of the clock.
func TestAClockThatIsSetBackStopsNobodyForLong(t *testing.T) {
	t.Parallel()
	f, set := clockedFleet(t, refreshtest.Config{})
	f.profile.Budget = provider.Budget{Requests: 100, Per: time.Second, Concurrency: 2}
	f.config.ExchangeTimeout, f.config.ClaimTimeout = 5*time.Second, 6*time.Second
	w := f.worker()
	for i := range 6 {
		f.connect(w, fmt.Sprint("tenant", i), true)
	}
	f.token(w, "tenant0")
	for i := range 2 { // of processes that die
		if ok, _, err := w.cache.App("zoom").Enter(f.ctx(), fmt.Sprint("dead", i), 9, 6*time.Second); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if ok, err := w.cache.App("zoom").As("dead").TakeTurn(f.ctx(), "repair", time.Hour); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, tenant := range []string{"a", "b"} {
		if _, _, err := w.cache.App("zoom").As("w").Throttle(f.ctx(), engine.NewID(), "throttled//429", tenant, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.rdb.Set(f.ctx(), w.cache.Grant(key("tenant5")).LockKey(), "dead/0/ABCDEFGHIJKLMNOPQRSTUVWXYZ", 6*time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	set(-time.Hour)
	watch := redistest.StartStopwatch(t)
	for i, w := range []*worker{w, f.worker(), w, f.worker()} {
		awaitToken(t, f, w, fmt.Sprint("tenant", i+1))
	}
	if d, over := watch.Over(20 * time.Second); over {
		t.Errorf("it took %s", d)
	}
	var held *refresh.Error
	ctx := f.ctx()
	if _, err := w.TryToken(ctx, "tenant5"); err == nil || !errors.As(err, &held) {
		t.Fatal(err)
	}
	name := w.cache.Grant(key("tenant5")).LockKey()
	for end := time.Now().Add(20 * time.Second); w.rdb.PTTL(ctx, name).Val() > time.Minute; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the lease of the dead stands for %s", w.rdb.PTTL(ctx, name).Val())
		}
	}
	_, _ = w.cache.App("zoom").As("w").TakeTurn(ctx, "repair", time.Hour)
	if d := w.rdb.PTTL(ctx, f.prefix+":turn:zoom:repair").Val(); d > time.Hour {
		t.Errorf("the turn lasts for %s", d)
	}
}

func TestACircuitAndItsProbesOutlastNoClock(t *testing.T) {
	t.Parallel()
	f, set := clockedFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	f.opened(w, 1, time.Minute)
	set(-time.Hour)
	awaitToken(t, f, f.worker(), "acme") // it probes
	f.state(w, "the end of it", func(s *engine.AppState) bool { return !s.Open })
}
