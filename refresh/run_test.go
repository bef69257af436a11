package refresh_test

import (
	"context"
	"fmt"
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
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// mark writes record fields behind everybody's back.
func (f *fleet) mark(w *worker, tenant string, fields ...any) {
	f.t.Helper()
	if err := w.rdb.HSet(f.ctx(), f.prefix+":{zoom:"+tenant+"}:grant", fields...).Err(); err != nil {
		f.t.Fatal(err)
	}
}

// score is what the due sets have of a grant.
func (f *fleet) score(w *worker, tenant string) float64 {
	f.t.Helper()
	for shard := range engine.DueShards {
		at, err := w.rdb.ZScore(f.ctx(), fmt.Sprintf("%s:due:zoom:%02d", f.prefix, shard), tenant).Result()
		if err == nil {
			return at
		}
	}
	f.t.Fatalf("no due set knows %s", tenant)
	return 0
}

// alter marks a grant, and makes it due.
func (f *fleet) alter(w *worker, tenant string, fields ...any) {
	f.t.Helper()
	f.mark(w, tenant, fields...)
	if err := w.cache.Grant(key(tenant)).Schedule(f.ctx(), 1); err != nil {
		f.t.Fatal(err)
	}
}

// redisNow is Redis' clock, unix ms.
func (f *fleet) redisNow(w *worker) int64 {
	f.t.Helper()
	_, now, err := w.cache.App("zoom").NextDue(f.ctx())
	if err != nil {
		f.t.Fatal(err)
	}
	return now
}

// inUse makes a grant due that is in use.
func (f *fleet) inUse(w *worker, tenant string) {
	f.t.Helper()
	now := f.redisNow(w)
	f.alter(w, tenant, "used_at", now, "refresh_at", now-1)
}

// run lets a worker renew in the background until the test ends, or stop is called.
func (f *fleet) run(w *worker) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				f.t.Errorf("Run ended with %v", err)
			}
		case <-time.After(60 * time.Second):
			f.t.Error("Run does not end")
		}
	})
	f.t.Cleanup(stop)
	return stop
}

// hears waits until an event of that kind has come for each tenant, and returns the last.
func (f *fleet) hears(events <-chan refresh.Event, kind refresh.EventKind, tenants ...string) (last refresh.Event) {
	f.t.Helper()
	missing := map[string]bool{}
	for _, t := range tenants {
		missing[t] = true
	}
	timeout := time.After(60 * time.Second)
	for len(missing) > 0 {
		select {
		case e, ok := <-events:
			if !ok {
				f.t.Fatalf("the channel was closed; %s is missing for %v", kind, missing)
			}
			if e.Kind == kind && missing[e.Tenant] {
				delete(missing, e.Tenant)
				last = e
			}
		case <-timeout:
			f.t.Fatalf("no %s for %v", kind, missing)
		}
	}
	return last
}

// rescheduled waits until Run has looked at a grant and put it off, and returns until when.
func (f *fleet) rescheduled(w *worker, tenant string) int64 {
	f.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for shard := range engine.DueShards {
			name := fmt.Sprintf("%s:due:zoom:%02d", f.prefix, shard)
			at, err := w.rdb.ZScore(f.ctx(), name, tenant).Result()
			if err == nil && int64(at) > f.redisNow(w)+2*time.Hour.Milliseconds() {
				return int64(at)
			}
		}
	}
	f.t.Fatalf("%s was not put off", tenant)
	return 0
}

func TestGrantsInUseAreRenewedBeforeTheyExpireEachByOneOfMany(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	events := w.Events(t.Context())
	var tenants []string
	for i := range 60 {
		tenants = append(tenants, fmt.Sprint("tenant", i))
	}
	for _, tenant := range tenants {
		f.connect(w, tenant, false)
		f.token(w, tenant) // so that w hears of it
		f.inUse(w, tenant)
	}
	for range 3 {
		f.run(f.worker())
	}
	f.hears(events, refresh.EventRefreshed, tenants...)
	for _, tenant := range tenants {
		f.lawful(w, tenant)
	}
	if n := len(f.server.Ledger()); n != len(tenants) {
		t.Errorf("%d exchanges for %d grants", n, len(tenants))
	}
}

func TestRunRenewsOnACluster(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	cluster := redistest.StartCluster(t)
	w := f.workerOn(cluster.Client(t))
	events := w.Events(t.Context())
	var tenants []string
	for i := range 20 {
		tenants = append(tenants, fmt.Sprint("tenant", i))
		f.connect(w, tenants[i], false)
		f.token(w, tenants[i])
		f.inUse(w, tenants[i])
	}
	f.run(f.workerOn(cluster.Client(t)))
	f.run(f.workerOn(cluster.Client(t)))
	f.hears(events, refresh.EventRefreshed, tenants...)
	if n := len(f.server.Ledger()); n != len(tenants) {
		t.Errorf("%d exchanges for %d grants", n, len(tenants))
	}
}

func TestAnIdleGrantIsLeftAloneUntilItsRefreshTokenNearsItsEnd(t *testing.T) {
	t.Parallel()
	profile := provider.Profile{RefreshTokenIdle: 30 * 24 * time.Hour}
	f := newFleet(t, refreshtest.Config{Profile: profile})
	w := f.worker()
	f.connect(w, "idle", false)
	now := f.redisNow(w)
	f.alter(w, "idle", "refresh_at", now-1)
	stop := f.run(w)
	day := 24 * time.Hour.Milliseconds()
	if at := f.rescheduled(w, "idle"); at < now+27*day || at > now+29*day {
		t.Errorf("it is to be kept alive in %d days", (at-now)/day)
	}
	if n := len(f.server.Ledger()); n != 0 {
		t.Errorf("%d exchanges for an idle grant", n)
	}
	if n := f.room(w.rdb, "idle", "journal"); n > 1000 {
		t.Errorf("the journal of a grant that rests takes %d bytes", n)
	}
	// Near the end of its refresh token it is refreshed, whether its access token lives or not.
	stop()
	f.alter(w, "idle", "issued_at", now-29*day, "rt_expires_at", now+day)
	other := f.worker() // which remembers nothing of it
	events := other.Events(t.Context())
	f.run(other)
	f.hears(events, refresh.EventRefreshed, "idle")
	f.lawful(w, "idle")
}

func TestAnotherProcessRenewsTheGrantsOfADeadSweeper(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	events := w.Events(t.Context())
	f.connect(w, "acme", false)
	f.token(w, "acme")
	f.inUse(w, "acme")
	for shard := range engine.DueShards { // taken by a process that dies
		if _, err := w.cache.App("zoom").TakeDue(f.ctx(), shard, 10, 0, 300*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	f.run(f.worker())
	f.hears(events, refresh.EventRefreshed, "acme")
	f.lawful(w, "acme")
}

func TestAGrantThatNoDueSetKnowsIsFound(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	events := w.Events(t.Context())
	f.connect(w, "acme", false)
	f.token(w, "acme")
	f.inUse(w, "acme")
	for shard := range engine.DueShards {
		w.rdb.Del(f.ctx(), fmt.Sprintf("%s:due:zoom:%02d", f.prefix, shard))
	}
	f.run(f.worker())
	f.hears(events, refresh.EventRefreshed, "acme")
	f.lawful(w, "acme")
}

func TestRunEndsCleanlyAndLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	f.inUse(w, "acme")
	gate := f.server.Hold(refreshtest.AfterCommit)
	stop := f.run(w)
	gate.Await(t)
	stop() // the refresh token is spent, and the answer on its way
	gate.Release()
	if err := w.Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	f.lawful(f.worker(), "acme")
	if err := w.Run(t.Context()); err == nil {
		t.Error("a closed coordinator runs")
	}
}

func TestTheFixedEndOfARefreshTokenIsReportedAheadOfTime(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{RefreshTokenLife: 60 * 24 * time.Hour}})
	w := f.worker()
	events := w.Events(t.Context())
	f.connect(w, "acme", false)
	f.token(w, "acme")
	now := f.redisNow(w)
	f.alter(w, "acme", "refresh_at", now-1, "rt_expires_at", now+8000)
	f.run(f.worker())
	f.run(f.worker())
	e := f.hears(events, refresh.EventReauthDue, "acme")
	if left := e.RefreshTokenExpiresAt.Sub(e.At); left > 2500*time.Millisecond { // the last quarter of its life, which began before
		t.Errorf("it ends in %s", left)
	}
	if st, err := w.Status(f.ctx(), "acme"); err != nil || st.WarnedAt.IsZero() || st.State != tokencache.Active {
		t.Errorf("%v, %v", st, err)
	}
	if n := len(f.server.Ledger()); n != 0 {
		t.Errorf("%d exchanges: they put nothing off", n)
	}
}

// The processes that made these changes have died before they could tell, nobody else listened,
// and nobody has said when to look again.
func TestRunReportsChangesThatNobodyCouldHear(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	changes := map[refresh.EventKind]func(tenant string){
		refresh.EventConnected: func(string) {},
		refresh.EventRefreshed: func(tenant string) {
			if err := w.Refresh(f.ctx(), tenant); err != nil {
				t.Fatal(err)
			}
		},
		refresh.EventFailed: func(tenant string) {
			f.alter(w, tenant, "error", "busy//503", "error_at", f.redisNow(w), "fails", 1, "retry_at", f.redisNow(w)+time.Hour.Milliseconds())
		},
		refresh.EventReauthorize: func(tenant string) {
			f.alter(w, tenant, "state", "reauthorize", "reason", "invalid_grant", "error_at", f.redisNow(w))
		},
		refresh.EventReauthDue: func(tenant string) { f.alter(w, tenant, "warned_at", f.redisNow(w)) },
		refresh.EventSuspect:   func(tenant string) { f.alter(w, tenant, "reason", "suspect") },
		refresh.EventDisconnected: func(tenant string) {
			if err := w.Disconnect(f.ctx(), tenant); err != nil {
				t.Fatal(err)
			}
		},
	}
	for kind, change := range changes {
		f.connect(w, string(kind), false)
		change(string(kind))
	}
	if err := w.Close(f.ctx()); err != nil { // it would say when to look again
		t.Fatal(err)
	}
	heard := f.worker()
	events := heard.Events(t.Context())
	for kind := range changes {
		if err := heard.cache.Grant(key(string(kind))).Schedule(f.ctx(), 1); err != nil {
			t.Fatal(err)
		}
	}
	f.run(heard)
	missing := map[string]bool{}
	for kind := range changes {
		missing[string(kind)] = true
	}
	timeout := time.After(60 * time.Second)
	for len(missing) > 0 {
		select {
		case e := <-events:
			if e.ID == "" || e.At.IsZero() {
				t.Errorf("%+v", e)
			}
			if e.Tenant == string(e.Kind) {
				delete(missing, e.Tenant)
			}
		case <-timeout:
			t.Fatalf("nobody told %v", missing)
		}
	}
}

// A grant that rests is looked at when it is due, and changes nothing by that.
func TestRunRepeatsNoReportWhenAGrantIsDue(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	f.alter(w, "acme", "refresh_at", 1) // and idle
	f.connect(w, "globex", false)
	heard := f.worker()
	events := heard.Events(t.Context())
	stop := f.run(heard)
	f.rescheduled(w, "acme")
	stop()
	if err := w.cache.Grant(key("globex")).Schedule(f.ctx(), 1); err != nil {
		t.Fatal(err)
	}
	f.run(heard) // which looks at once when it begins
	if e := <-events; e.Tenant != "globex" {
		t.Errorf("told %+v", e)
	}
}

// What waits for the budget is put back: by a process that ends, and by one that has had it for
// so long that it would come back and another would wait for it too.
func TestAGrantThatWaitsForTheBudgetIsPutBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.Budget = provider.Budget{Requests: 1, Per: time.Hour}
	first := f.worker()
	f.connect(first, "first", true)
	f.token(first, "first") // the budget of an hour
	f.config.ExchangeTimeout, f.config.ClaimTimeout = time.Second, 3*time.Second
	w := f.worker()
	f.connect(w, "acme", false)
	now := f.redisNow(w)
	due := now - 1000
	f.alter(w, "acme", "used_at", now, "issued_at", now-10_000, "refresh_at", due)
	scored := func(what string, ok func(at float64) bool) float64 {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if at := f.score(w, "acme"); ok(at) {
				return at
			}
		}
		t.Fatalf("it was not %s", what)
		return 0
	}
	stop := f.run(w)
	taken := scored("taken", func(at float64) bool { return at > float64(now) })
	again := scored("taken again", func(at float64) bool { return at > taken })
	if hold := 2 * f.config.ClaimTimeout; again-taken >= float64(hold.Milliseconds()) {
		t.Errorf("it was taken again after %.0f ms: not put back, it came back by itself", again-taken)
	}
	stop()
	if at := f.score(w, "acme"); at > float64(due) {
		t.Errorf("whoever ended has left it at %.1f, it was due at %d", at, due)
	}
	if n := len(f.server.Ledger()); n != 1 {
		t.Errorf("%d exchanges, the budget is one", n)
	}
}

// The reply that says what Run has taken comes when Run has just been told to end.
func TestARunThatEndsPutsBackWhatItHasJustTaken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	ctx, end := context.WithCancel(f.ctx())
	defer end()
	rdb := f.redis.Client(t)
	rdb.AddHook(after(func(cmd redis.Cmder) {
		if script, ok := cmd.(*redis.Cmd); ok && ctx.Err() == nil {
			if taken, _ := script.Slice(); len(taken) == 3 && taken[1] == "acme" {
				end()
				time.Sleep(50 * time.Millisecond) // whoever hears of the end alone has gone by then
			}
		}
	}))
	w := f.workerOn(rdb)
	f.connect(w, "acme", false)
	now := f.redisNow(w)
	f.alter(w, "acme", "used_at", now, "issued_at", now-10_000, "refresh_at", now-1000)
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if at := f.score(w, "acme"); at > float64(f.redisNow(w)) {
		t.Errorf("it is left at %.1f, and was due at %d", at, now-1000)
	}
}

// Somebody marks a grant, and dies over that, between the look at it and its turn.
func TestRunReportsAGrantFoundDead(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.Budget = provider.Budget{Concurrency: 1}
	w, heard := f.worker(), f.worker()
	f.connect(w, "first", true)
	f.connect(w, "acme", false)
	f.inUse(w, "acme")
	gate := f.server.Hold(refreshtest.BeforeCommit)
	ended := make(chan struct{})
	go func() { f.token(w, "first"); close(ended) }()
	gate.Await(t) // the budget is used
	events := heard.Events(t.Context())
	f.run(heard)
	for end := time.Now().Add(30 * time.Second); f.score(w, "acme") <= float64(f.redisNow(w)); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it was not taken")
		}
	}
	time.Sleep(50 * time.Millisecond) // for the look at it; without it this shows less, and does not fail
	f.mark(w, "acme", "state", "reauthorize", "reason", "invalid_grant", "error_at", f.redisNow(w))
	gate.Release()
	<-ended
	f.hears(events, refresh.EventReauthorize, "acme")
}

func TestACallForATokenIsNotedAsUse(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker(func(cfg *refresh.Config) { cfg.IdleAfter = 200 * time.Millisecond })
	f.connect(w, "acme", false)
	f.connect(w, "idle", false)
	used := func(tenant string) string {
		return w.rdb.HGet(f.ctx(), f.prefix+":{zoom:"+tenant+"}:grant", "used_at").Val()
	}
	for end := time.Now().Add(30 * time.Second); used("acme") == ""; time.Sleep(time.Millisecond) {
		f.token(w, "acme")
		if time.Now().After(end) {
			t.Fatal("that its token is asked for was not noted")
		}
	}
	if at := used("idle"); at != "" {
		t.Errorf("used at %s: nobody asked", at)
	}
}

func TestCloseEndsRun(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	f.inUse(w, "acme")
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	f.server.AwaitExchange(t) // it runs
	if err := w.Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := w.Run(f.ctx()); err == nil {
		t.Error("a closed coordinator runs")
	}
}

func TestLateListenersLearnThatTheCircuitIsOpen(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	now := w.Events(t.Context())
	f.connect(w, "acme", true)
	f.server.SetClientSecrets("another")
	if _, err := w.Token(f.ctx(), "acme"); err == nil {
		t.Fatal("a wrong secret was accepted")
	}
	later := f.worker()
	events := later.Events(t.Context())
	f.run(later)
	if a, b := f.hears(now, refresh.EventCircuitOpen, ""), f.hears(events, refresh.EventCircuitOpen, ""); a.ID != b.ID || a.Error != b.Error {
		t.Errorf("%+v, and later\n%+v", a, b)
	}
}

// A flight schedules its pair a moment after it was published; a consent may have come in between.
func TestALateWordOnWhenToLookYieldsToANewerPair(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	for i := range 10 {
		tenant := fmt.Sprint("tenant", i)
		f.connect(w, tenant, false)
		if err := w.Refresh(f.ctx(), tenant); err != nil {
			t.Fatal(err)
		}
		tok := f.server.Grant(tenant)
		tok.Expiry = time.Now().Add(time.Minute) // the pair before is due in an hour
		if err := w.Connect(f.ctx(), tenant, tok); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(f.ctx()); err != nil { // every flight has had its word
		t.Fatal(err)
	}
	for i := range 10 {
		tenant := fmt.Sprint("tenant", i)
		if left := f.score(w, tenant) - float64(f.redisNow(w)); left > float64(time.Minute.Milliseconds()) {
			t.Errorf("%s is looked at in %.0f s, when its token has expired", tenant, left/1000)
		}
	}
}

// People who look see how many processes renew an app, on each kind of Redis, and only while they do.
func TestPeopleSeeWhoRenews(t *testing.T) {
	t.Parallel()
	for name, rdb := range map[string]redis.UniversalClient{"one server": redistest.Own(t).Client(t), "a Cluster": redistest.StartCluster(t).Client(t)} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, refreshtest.Config{})
			in, err := inspect.New(rdb, inspect.Config{Prefix: f.prefix})
			if err != nil {
				t.Fatal(err)
			}
			renew := func(app string, want int64) {
				t.Helper()
				f.eventually(fmt.Sprintf("%d to renew %s", want, app), func() bool {
					n, err := in.Renewers(t.Context(), app)
					return err == nil && n == want
				})
			}
			one, two := f.workerOn(rdb), f.workerOn(rdb)
			stop := f.run(one)
			f.run(two)
			again := f.run(two) // in the same process
			renew("zoom", 2)
			renew("slack", 0)
			stop()
			renew("zoom", 1)
			again()
			slack := two.cache.App("slack")
			defer func() { _ = slack.Forget(t.Context()) }()
			defer slack.Renewing()() // Redis is told in order: what again has changed is done by then
			renew("slack", 1)
			if n, err := in.Renewers(t.Context(), "zoom"); n != 1 {
				t.Errorf("%d renew zoom, %v", n, err)
			}
			if n, err := in.Processes(t.Context()); err != nil || n > 2 {
				t.Errorf("%d processes, %v", n, err)
			}
		})
	}
}
