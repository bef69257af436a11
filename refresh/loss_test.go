package refresh_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// hot makes a worker remember a grant, coherently.
func (f *fleet) hot(w *worker, tenant string) {
	f.t.Helper()
	for w.cache.Grant(key(tenant)).Peek() == nil {
		f.token(w, tenant)
	}
}

func TestLostAnswerIsReplayedBeforeAShortGraceWindowShuts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayGrace, Grace: 12 * time.Second}})
	w := f.worker(func(c *refresh.Config) { c.ExchangeTimeout, c.ClaimTimeout = 13*time.Second, 14*time.Second })
	f.connect(w, "acme", true)
	f.server.Script(refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Drop})
	_, err := w.Token(f.ctx(), "acme")
	time.Sleep(kind(t, err, refresh.ErrUnavailable, "").RetryAfter)
	f.token(w, "acme")
	f.lawful(w, "acme")
}

// A worker that missed the newest generation restores an older one after Redis lost its
// data; another, that knows better, must say so before the older one is presented.
func TestOlderRestoreIsContradictedByAWorkerThatKnowsBetter(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	knows := f.worker()
	missed, proxy := f.cuttable()
	f.connect(knows, "acme", false)
	f.hot(knows, "acme")
	f.hot(missed, "acme")
	proxy.Refuse()
	proxy.Cut()
	if err := knows.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	f.redis.Client(t).FlushAll(f.ctx())
	proxy.Accept()
	ctx := f.ctx()
	for {
		err := missed.Refresh(ctx, "acme")
		if err == nil {
			break
		}
		if !errors.Is(err, refresh.ErrUnavailable) || ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // its connection is coming back
	}
	f.lawful(knows, "acme")
}

// An asynchronous failover loses the commit, but not the claim before it. The other process has 300 ms to answer,
// of which a busy machine may take all, though not again and again.
func TestTakeoverAsksTheFleetForALostCommit(t *testing.T) {
	t.Parallel()
	for range 5 {
		if f := takesOverAfterALostCommit(t); len(f.server.Ledger().Violations(f.profile)) == 0 {
			return
		}
	}
	t.Error("a spent refresh token was presented five times in five")
}

func takesOverAfterALostCommit(t *testing.T) *fleet {
	t.Helper()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	warm, cold := f.worker(short), f.worker(short)
	rdb := f.redis.Client(t)
	f.connect(warm, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	var caller sync.WaitGroup
	caller.Go(func() {
		if _, err := f.tokenAfterAll(warm, "acme"); err != nil {
			t.Error(err)
		}
	})
	gate.Await(t)
	base := f.prefix + ":{zoom:acme}:"
	grant, secret := rdb.Dump(f.ctx(), base+"grant").Val(), rdb.Dump(f.ctx(), base+"secret").Val()
	gate.Release()
	caller.Wait()
	f.knows(warm, "acme", 2)
	rdb.RestoreReplace(f.ctx(), base+"grant", 0, grant) // what the replica had
	rdb.RestoreReplace(f.ctx(), base+"secret", 0, secret)
	_, err := f.tokenAfterAll(cold, "acme")
	if len(f.server.Ledger().Violations(f.profile)) == 0 {
		if err != nil {
			t.Error(err)
		}
		f.living(cold, "acme")
	}
	return f
}

// Who once waited for a lease must not go on believing that it is held.
func TestFreeLeaseIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		profile provider.Profile
		takes   time.Duration
	}{
		"after a try":       {provider.Profile{Replay: provider.ReplayHarmless}, 100 * time.Millisecond},
		"after a heartbeat": {provider.Profile{}, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{Profile: c.profile})
			f.lease = 10 * time.Second
			holder, waiter := f.worker(), f.worker()
			f.connect(holder, "acme", true)
			gate := f.server.Hold(refreshtest.BeforeCommit)
			var callers sync.WaitGroup
			callers.Go(func() { f.token(holder, "acme") })
			gate.Await(t)
			callers.Go(func() { f.token(waiter, "acme") })
			time.Sleep(c.takes)
			gate.Release()
			callers.Wait()
			watch := redistest.StartStopwatch(t)
			if err := waiter.Refresh(f.ctx(), "acme"); err != nil {
				t.Fatal(err)
			}
			if d, over := watch.Over(5 * time.Second); over {
				t.Errorf("waited %s for a lease that nobody has", d)
			}
		})
	}
}

// A slow reply makes this process think that Redis' clock is ahead. It must not ask for
// the lease again and again until Redis agrees that retry_at has come.
func TestClockThatIsAheadCausesNoBusyLoop(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	holder := f.worker()
	f.connect(holder, "acme", true)
	slow, proxy := f.patient()
	pin := slow.cache.Grant(key("acme")).Pin()
	defer pin.Unpin()
	if err := pin.Confirm(f.ctx()); err != nil {
		t.Fatal(err)
	}
	proxy.Freeze()
	time.AfterFunc(2*time.Second, proxy.Thaw)
	if _, err := slow.cache.Grant(key("acme")).Read(f.ctx()); err != nil { // its first reply is two seconds late
		t.Fatal(err)
	}
	step := refuse("slow_down", 429)
	step.Header.Set("Retry-After", "3")
	f.server.Script(step)
	_, err := holder.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrUnavailable, "slow_down")
	calls := redistest.Commands(t, f.redis.Client(t), func() { awaitToken(t, f, slow, "acme") })
	if calls["set"] > 30 {
		t.Errorf("%d tries for the lease", calls["set"])
	}
}

func TestTryTokenServesFromMemoryWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.cuttable()
	tok := f.connect(w, "acme", false)
	f.hot(w, "acme")
	proxy.Refuse()
	proxy.Cut()
	for w.cache.Grant(key("acme")).Peek() != nil {
		time.Sleep(time.Millisecond) // until the cut is noticed
	}
	if got, err := w.TryToken(f.ctx(), "acme"); err != nil || got.AccessToken != tok.AccessToken {
		t.Errorf("got %v, want the remembered token", err)
	}
	proxy.Accept()
}

// Nobody waits for a Redis that says nothing while memory has a valid token.
func TestTokenIsServedFromMemoryWhileRedisIsSilent(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	proxy := redistest.NewProxy(t, f.redis.Addr())
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: -1, ReadTimeout: 20 * time.Second})
	t.Cleanup(func() { _ = rdb.Close() })
	w := f.workerOn(rdb)
	tok := f.connect(w, "acme", false)
	f.hot(w, "acme")
	proxy.Freeze()
	defer proxy.Thaw()
	proxy.Cut()
	for w.cache.Grant(key("acme")).Peek() != nil {
		time.Sleep(time.Millisecond) // until the cut is noticed
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // half of what a read takes
	defer cancel()
	if got, err := w.Token(ctx, "acme"); err != nil || got.AccessToken != tok.AccessToken {
		t.Errorf("got %v, want the remembered token", err)
	}
}

func TestThrottledTakeoverDoesNotWaitForItsOwnClaim(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker(func(c *refresh.Config) { c.ExchangeTimeout, c.ClaimTimeout = time.Second, 6*time.Second })
	f.connect(w, "acme", true)
	f.server.Script(refreshtest.Step{At: refreshtest.BeforeCommit, Fault: refreshtest.Drop})
	_, err := w.Token(f.ctx(), "acme")
	time.Sleep(kind(t, err, refresh.ErrUnavailable, "").RetryAfter)
	f.server.Script(refuse("slow_down", 429))
	_, err = w.Token(f.ctx(), "acme")
	time.Sleep(kind(t, err, refresh.ErrUnavailable, "slow_down").RetryAfter)
	watch := redistest.StartStopwatch(t)
	f.token(w, "acme")
	if d, over := watch.Over(3 * time.Second); over {
		t.Errorf("waited another %s for a claim whose exchange is over", d)
	}
	f.lawful(w, "acme")
}

// The shorter what is left of a grace window, the more would be presented in it; and when
// it has shut, the next one waits for the hard deadline.
func TestProviderThatNeverAnswersIsAskedAFewTimesPerWindow(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayGrace, Grace: 3 * time.Second}})
	w := f.worker(func(c *refresh.Config) { c.ExchangeTimeout, c.ClaimTimeout = 4500*time.Millisecond, 5*time.Second })
	f.connect(w, "acme", true)
	f.server.Script(refreshtest.Step{At: refreshtest.BeforeCommit, Fault: refreshtest.Drop, Times: -1})
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		_, err := w.Token(f.ctx(), "acme")
		e := kind(t, err, refresh.ErrUnavailable, "")
		time.Sleep(min(e.RetryAfter, time.Until(end)))
	}
	if n := f.server.Ledger().Exchanges(); n > 5 {
		t.Errorf("%d presentations in four seconds", n)
	}
}

// All waiters ask the fleet before they take over; who knows nothing newer says nothing.
func TestTakeoverByManyIsNotAStormOfRestores(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	workers := make([]*worker, 10)
	for i := range workers {
		workers[i] = f.worker(short)
	}
	f.connect(workers[0], "acme", true)
	s, err := workers[0].cache.Grant(key("acme")).Read(f.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := workers[0].cache.Grant(s.Key).As("dead").Claim(f.ctx(), s, "dead", time.Second, grant.AfterDeadline); err != nil {
		t.Fatal(err)
	}
	calls := redistest.Commands(t, f.redis.Client(t), func() {
		var all sync.WaitGroup
		for _, w := range workers {
			all.Go(func() { f.token(w, "acme") })
		}
		all.Wait()
	})
	if calls["evalsha"] > len(workers) {
		t.Errorf("%d workers ran %d scripts", len(workers), calls["evalsha"])
	}
	f.lawful(workers[0], "acme")
}

// Within the grace window a generation is presented again while its first holder is only
// slow; a refusal then says nothing about the pair that the first holder has.
func TestRefusalWaitsForAnEarlierHolderThatMayStillBringThePair(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayGrace, Grace: time.Hour}})
	f.config.ExchangeTimeout, f.config.ClaimTimeout = 19*time.Second, 20*time.Second
	p := paused{answered: make(chan struct{}), goOn: make(chan struct{})}
	slow := f.worker(func(cfg *refresh.Config) {
		p.Exchanger = cfg.Provider.Exchanger
		cfg.Provider.Exchanger = p
	})
	fast := f.worker()
	f.connect(fast, "acme", true)
	var callers sync.WaitGroup
	callers.Go(func() { f.token(slow, "acme") })
	f.server.AwaitExchange(t)
	<-p.answered
	f.server.Script(refuse("invalid_grant", 400))
	f.redis.Client(t).Del(f.ctx(), slow.cache.Grant(key("acme")).LockKey())
	callers.Go(func() { f.token(fast, "acme") })
	f.server.AwaitExchange(t)
	f.server.AwaitIdle(t) // it has its refusal
	time.Sleep(300 * time.Millisecond)
	if st, err := fast.Status(f.ctx(), "acme"); err != nil || st.State != tokencache.Active {
		t.Errorf("declared %s (%v) while the first holder may still come back", st.State, err)
	}
	close(p.goOn)
	callers.Wait()
	f.lawful(fast, "acme")
}

func TestClaimWhoseReplyWasLostIsTakenBackAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.config.ExchangeTimeout, f.config.ClaimTimeout = 60*time.Second, 71234*time.Millisecond
	w, proxy := f.cuttable()
	f.connect(w, "other", true)
	f.token(w, "other") // Redis knows the scripts: the lost reply is not NOSCRIPT
	f.connect(w, "acme", true)
	eaten := proxy.EatReply("131234") // the claim's deadline: ClaimTimeout + CommitPatience
	_, err := w.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrUnavailable, "")
	eaten.Await(t)
	f.token(f.worker(), "acme") // long before the deadline
	f.lawful(w, "acme")
}

// A state that this process has only heard of, and that Redis has lost: whoever remembers it is asked, and callers
// wait for the answer.
func TestCallersWaitForWhatRedisHasLostAndAnotherRemembers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	maker, hears := f.worker(), f.worker()
	f.connect(maker, "acme", true)
	f.listens(hears, "acme") // and has read nothing
	record := f.prefix + ":{zoom:acme}:grant"
	before, err := maker.rdb.Dump(f.ctx(), record).Result()
	if err != nil {
		t.Fatal(err)
	}
	gate := f.server.Hold(refreshtest.BeforeCommit)
	var callers sync.WaitGroup
	callers.Go(func() { f.token(maker, "acme") })
	gate.Await(t)
	f.eventually("the claim to be heard of", func() bool {
		s := hears.cache.Grant(key("acme")).Recall()
		return s != nil && s.Claim.Unresolved()
	})
	if err := maker.rdb.RestoreReplace(f.ctx(), record, 0, before).Err(); err != nil {
		t.Fatal(err)
	}
	callers.Go(func() { f.token(hears, "acme") })
	f.eventually("the claim to be given back", func() bool { return maker.rdb.HExists(f.ctx(), record, "claim_id").Val() })
	gate.Release()
	callers.Wait()
	f.lawful(hears, "acme")
}

// Where nobody gives it back, Redis' word counts after a while: the wait ends.
func TestCallersDoNotWaitForGoodForWhatNobodyRemembers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	maker, proxy := f.cuttable()
	hears := f.worker()
	f.connect(maker, "acme", true)
	f.listens(hears, "acme") // and has read nothing
	record := f.prefix + ":{zoom:acme}:grant"
	before, err := hears.rdb.Dump(f.ctx(), record).Result()
	if err != nil {
		t.Fatal(err)
	}
	g := maker.cache.Grant(key("acme")).As("gone")
	s, err := g.Read(f.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if o, _, err := g.Claim(f.ctx(), s, engine.NewID(), time.Hour, grant.AfterDeadline); err != nil || o != grant.OutcomeOK {
		t.Fatalf("claim: %s, %v", o, err)
	}
	f.eventually("the claim to be heard of", func() bool {
		s := hears.cache.Grant(key("acme")).Recall()
		return s != nil && s.Claim.Unresolved()
	})
	proxy.Refuse() // the maker cannot say anything any more
	proxy.Cut()
	if err := hears.rdb.RestoreReplace(f.ctx(), record, 0, before).Err(); err != nil {
		t.Fatal(err)
	}
	f.token(hears, "acme")
	f.lawful(hears, "acme")
}
