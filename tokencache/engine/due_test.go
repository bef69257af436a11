package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/due"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
)

// dueAt is when a grant is to be looked at next; 0 for never.
func dueAt(t testing.TB, c *Cache, k grant.Key) int64 {
	t.Helper()
	score, err := c.rdb.ZScore(t.Context(), c.names.App(k.App).Due(due.ShardOf(k.Tenant)), k.Tenant).Result()
	if err != nil && err != redis.Nil {
		t.Fatal(err)
	}
	return int64(score)
}

// takeAll takes what is due in all shards.
func takeAll(t testing.TB, c *Cache, app string, ahead, hold time.Duration) []Due {
	t.Helper()
	var all []Due
	for shard := range DueShards {
		for {
			due, err := c.App(app).TakeDue(context.Background(), shard, 5, ahead, hold)
			if err != nil {
				t.Error(err)
				return all
			}
			all = append(all, due...)
			if len(due) < 5 {
				break
			}
		}
	}
	return all
}

func schedule(t testing.TB, c *Cache, k grant.Key, at int64) {
	t.Helper()
	if err := c.Grant(k).Schedule(t.Context(), at); err != nil {
		t.Fatal(err)
	}
}

func TestAGrantIsDueFromItsConsentOnUntilItIsDisconnected(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	if got := dueAt(t, c, acme); got != base.RefreshAt {
		t.Errorf("due at %d, its pair at %d", got, base.RefreshAt)
	}
	if n := c.rdb.ZCard(t.Context(), string(c.names)+":due:zoom:"+fmt.Sprintf("%02d", due.ShardOf("acme"))).Val(); n != 1 {
		t.Error("the due set has another name than the documentation says")
	}
	if err := c.Grant(acme).NotifyReleased(t.Context(), 4711); err != nil || dueAt(t, c, acme) != 4711 {
		t.Error("a commit did not write it", err)
	}
	disconnect(t, c, acme)
	if got := dueAt(t, c, acme); got != 0 {
		t.Error("a disconnected grant is due at", got)
	}
}

func TestEachDueGrantIsTakenByOneOfMany(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	const grants = 300
	for i := range grants {
		schedule(t, c, grant.Key{App: "zoom", Tenant: fmt.Sprint("tenant", i)}, int64(i))
	}
	var mu sync.Mutex
	taken := map[string]int{}
	var takers sync.WaitGroup
	for range 8 {
		takers.Go(func() {
			for _, d := range takeAll(t, c, "zoom", 0, time.Hour) {
				mu.Lock()
				taken[d.Tenant]++
				mu.Unlock()
			}
		})
	}
	takers.Wait()
	if len(taken) != grants {
		t.Errorf("%d of %d grants were taken", len(taken), grants)
	}
	for tenant, n := range taken {
		if n != 1 {
			t.Errorf("%s was taken %d times", tenant, n)
		}
	}
}

func TestAGrantThatADeadProcessTookIsDueAgain(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	schedule(t, c, acme, 1)
	first := takeAll(t, c, "zoom", 0, 50*time.Millisecond)
	if len(first) != 1 || first[0].Key != acme {
		t.Fatalf("took %v", first)
	}
	var again []Due
	eventually(t, "the grant to come back", patience, func() bool {
		again = takeAll(t, c, "zoom", 0, time.Hour)
		return len(again) == 1
	})
	// The dead one wakes up and says when to look next: too late, somebody else has it.
	back := dueAt(t, c, acme)
	if err := c.Grant(first[0].Key).Reschedule(t.Context(), first[0], 99, nil); err != nil || dueAt(t, c, acme) != back {
		t.Error("a late word was heard", err)
	}
	if err := c.Grant(again[0].Key).Reschedule(t.Context(), again[0], 4711, nil); err != nil || dueAt(t, c, acme) != 4711 {
		t.Error("the word of who has it was not", err)
	}
}

// A flight schedules its pair a moment after its commit; a consent may have come in between.
func TestOnlyTheProcessThatTookAGrantPutsItOff(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	older := commit(t, c, claim(t, c, base, "w"), 2)
	soon, err := c.Grant(acme).As("w").Connect(t.Context(), func(now int64) grant.Pair {
		p := pairNo(3)(now)
		p.RefreshAt = now + time.Minute.Milliseconds()
		return p
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // also by a repeat
		if err := c.Grant(acme).NotifyReleased(t.Context(), older.RefreshAt); err != nil || dueAt(t, c, acme) != soon.RefreshAt {
			t.Errorf("due %d ms after the newest pair, %v", dueAt(t, c, acme)-soon.RefreshAt, err)
		}
	}
	if err := c.Grant(acme).NotifyReleased(t.Context(), soon.RefreshAt-1); err != nil || dueAt(t, c, acme) != soon.RefreshAt-1 {
		t.Error("it was not brought nearer", err)
	}
}

// A process that took a grant reads its record, and is slow to put it off:
//  1. A reads generation 1, which may rest for weeks, or for ever.
//  2. B stores the next pair and schedules it, for later than A's entry returns by itself.
//  3. A puts it off.
func TestAPairStoredBeforeItsGrantIsPutOffKeepsItsTime(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]func(c *Cache, base *Snapshot) *Snapshot{
		"commit": func(c *Cache, base *Snapshot) *Snapshot {
			s := commit(t, c, claim(t, c, base, "w"), 2)
			if err := c.Grant(acme).NotifyReleased(t.Context(), s.RefreshAt); err != nil {
				t.Fatal(err)
			}
			return s
		},
		"consent":          func(c *Cache, _ *Snapshot) *Snapshot { return connect(t, c, acme, 2) },
		"first connection": func(c *Cache, _ *Snapshot) *Snapshot { return connect(t, c, acme, 2) },
	} {
		for what, at := range map[string]int64{"weeks": time.Now().Add(30 * 24 * time.Hour).UnixMilli(), "ever": 0} {
			c := freshCache(t)
			base := connect(t, c, acme, 1)
			seen := &base.Record
			if name == "first connection" {
				lose(t, c, acme)
				seen = nil
			}
			schedule(t, c, acme, 1)
			taken := takeAll(t, c, "zoom", 0, time.Minute)
			newest := store(c, base)
			if err := c.Grant(taken[0].Key).Reschedule(t.Context(), taken[0], at, seen); err != nil || dueAt(t, c, acme) != newest.RefreshAt {
				t.Errorf("%s, put off for %s: due at %d, its pair at %d, %v", name, what, dueAt(t, c, acme), newest.RefreshAt, err)
			}
		}
	}
}

// before runs f before a command of that name, once.
type before struct {
	redis.Hook
	command string
	f       func()
}

func (b *before) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (b *before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if f := b.f; f != nil && cmd.Name() == b.command {
			b.f = nil
			f()
		}
		return next(ctx, cmd)
	}
}

func TestAConsentThatOvertakesADisconnectStaysScheduled(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	rdb := server.Client(t)
	c, other := newCache(t, rdb, prefix), newCache(t, server.Client(t), prefix)
	connect(t, c, acme, 1)
	var again *Snapshot
	rdb.AddHook(&before{command: "zrem", f: func() { again = connect(t, other, acme, 2) }})
	disconnect(t, c, acme)
	if again == nil || dueAt(t, c, acme) != again.RefreshAt {
		t.Errorf("due at %d, its pair: %+v", dueAt(t, c, acme), again)
	}
}

func TestACommitKnowsBetterThanTheProcessThatTookTheGrant(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	for _, at := range []int64{99, 0} {
		schedule(t, c, acme, 1)
		taken := takeAll(t, c, "zoom", 0, time.Hour)
		schedule(t, c, acme, 4711)
		if err := c.Grant(taken[0].Key).Reschedule(t.Context(), taken[0], at, nil); err != nil || dueAt(t, c, acme) != 4711 {
			t.Errorf("rescheduled to %d over a commit: %v", at, err)
		}
	}
	schedule(t, c, acme, 1)
	taken := takeAll(t, c, "zoom", 0, time.Hour)
	if err := c.Grant(taken[0].Key).Reschedule(t.Context(), taken[0], 0, nil); err != nil || dueAt(t, c, acme) != 0 {
		t.Error("never is not never", err)
	}
}

func TestDueGrantsAreFoundAheadOfTimeAndCounted(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	_, now, err := c.App("zoom").NextDue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	schedule(t, c, acme, now+time.Hour.Milliseconds())
	schedule(t, c, grant.Key{App: "zoom", Tenant: "soon"}, now+time.Minute.Milliseconds())
	next, _, err := c.App("zoom").NextDue(t.Context())
	if d := next[due.ShardOf("acme")]; err != nil || d < 59*time.Minute || d > time.Hour {
		t.Errorf("next in %v, %v", d, err)
	}
	if n := slices.Index(next[:], -1); n < 0 || len(takeAll(t, c, "zoom", 0, time.Hour)) != 0 {
		t.Error("something is due that is not", next)
	}
	if got := takeAll(t, c, "zoom", 10*time.Minute, time.Minute); len(got) != 1 || got[0].Tenant != "soon" {
		t.Errorf("ahead of time: %v", got)
	}
	// Also by who looks further ahead than the taken one is away.
	if got := takeAll(t, c, "zoom", 3*time.Hour, time.Hour); len(got) != 1 || got[0].Tenant != "acme" {
		t.Errorf("taken again: %v", got)
	}
}

func TestDueGrantsAreCountedByASample(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	_, now, err := c.App("zoom").NextDue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const grants = 4000
	for shard := range DueShards {
		var due []redis.Z
		for i := range grants / DueShards {
			due = append(due, redis.Z{Score: float64(now + time.Hour.Milliseconds()), Member: i})
		}
		if err := c.rdb.ZAdd(t.Context(), c.names.App("zoom").Due(shard), due...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	counts, err := c.App("zoom").CountDue(t.Context(), now, time.Minute, 2*time.Hour)
	if err != nil || !slices.Equal(counts, []int64{0, grants}) {
		t.Errorf("counted %v, %v", counts, err)
	}
}

func TestALostDueEntryIsPutBack(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func() redis.UniversalClient{
		"one Redis": func() redis.UniversalClient { return redistest.Start(t).Client(t) },
		"Cluster":   func() redis.UniversalClient { return redistest.StartCluster(t).Client(t) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t, start(), redistest.Prefix(t))
			odd := grant.Key{App: "zoom", Tenant: "a:b}/ü"}
			kept, other := grant.Key{App: "zoom", Tenant: "kept"}, grant.Key{App: "slack", Tenant: "acme"}
			lostDue := []grant.Key{acme, odd}
			for i := range 20 {
				lostDue = append(lostDue, grant.Key{App: "zoom", Tenant: fmt.Sprint("t", i)})
			}
			for _, k := range append([]grant.Key{kept, other, {App: "zoom", Tenant: "gone"}}, lostDue...) {
				connect(t, c, k, 1)
			}
			disconnect(t, c, grant.Key{App: "zoom", Tenant: "gone"})
			schedule(t, c, kept, 4711)
			for _, k := range append([]grant.Key{other}, lostDue...) {
				c.rdb.ZRem(t.Context(), c.names.App(k.App).Due(due.ShardOf(k.Tenant)), k.Tenant)
			}
			missing, err := c.App("zoom").Repair(t.Context(), 0)
			if err != nil || missing != len(lostDue) {
				t.Errorf("%d were missing, not %d: %v", missing, len(lostDue), err)
			}
			for _, k := range lostDue {
				if want := read(t, c, k).RefreshAt; dueAt(t, c, k) != want {
					t.Errorf("%v is due at %d, its pair at %d", k, dueAt(t, c, k), want)
				}
			}
			if dueAt(t, c, kept) != 4711 || dueAt(t, c, other) != 0 || dueAt(t, c, grant.Key{App: "zoom", Tenant: "gone"}) != 0 {
				t.Error("something was scheduled that should not be")
			}
			if n, err := c.App("zoom").Repair(t.Context(), 0); n != 0 || err != nil {
				t.Errorf("still missing: %d, %v", n, err)
			}
		})
	}
}

func TestOneProcessAtATimeHasTheTurn(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	a, err1 := c.App("zoom").As("a").TakeTurn(t.Context(), "repair", time.Minute)
	b, err2 := c.App("zoom").As("b").TakeTurn(t.Context(), "repair", time.Minute)
	if !a || b || err1 != nil || err2 != nil {
		t.Error(a, b, err1, err2)
	}
}

func TestUseIsNotedOnceAndOnlyIfSomebodyAsked(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Own(t).Client(t), redistest.Prefix(t)
	a, b := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
	connect(t, a, acme, 1)
	hot(t, a, acme)
	hot(t, b, acme)
	usedAt := func() string { return rdb.HGet(t.Context(), a.Grant(acme).keys().Grant(), "used_at").Val() }
	touch := func(c *Cache, coarse time.Duration) {
		t.Helper()
		if err := c.App("zoom").Touch(t.Context(), coarse); err != nil {
			t.Fatal(err)
		}
	}
	touch(a, time.Hour)
	if got := usedAt(); got != "" {
		t.Fatal("looking at it, and pinning it, is not using it", got)
	}
	ask := func(c *Cache) {
		t.Helper()
		eventually(t, "the next tick", patience, func() bool { return c.App("zoom").Grants().Fresh("acme") != nil })
	}
	ask(a)
	ask(b)
	touch(a, time.Hour)
	first := usedAt()
	if first == "" {
		t.Fatal("use was not noted")
	}
	touch(b, time.Hour)
	calls := redistest.Commands(t, rdb, func() { touch(a, time.Hour); touch(b, time.Hour) })
	if delete(calls, "get"); redistest.Total(calls) != 0 { // the proof key is looked at every few seconds
		t.Errorf("noted already, and yet %v", calls)
	}
	if got := usedAt(); got != first {
		t.Error("noted twice within the hour")
	}
	time.Sleep(2 * hub.TickEvery) // so that it is asked for after the last note
	ask(a)
	touch(a, time.Millisecond)
	if got := usedAt(); got == first {
		t.Error("later use was not noted")
	}
	if s := read(t, a, acme); s.UsedAt == 0 || s.Rev != 1 {
		t.Errorf("used_at %d, rev %d", s.UsedAt, s.Rev)
	}
}

func TestNothingIsNotedOfWhatIsGone(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	hot(t, c, acme)
	eventually(t, "the token", patience, func() bool { return c.App("zoom").Grants().Fresh("acme") != nil })
	lose(t, c, acme)
	if err := c.App("zoom").Touch(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if n := c.rdb.Exists(t.Context(), c.Grant(acme).keys().Grant()).Val(); n != 0 {
		t.Error("half a record was made")
	}
}

func TestTheFixedEndOfARefreshTokenIsReportedOnce(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	p := hot(t, c, acme)
	o, s, err := c.Grant(base.Key).As("w").Warn(t.Context(), base)
	if o != grant.OutcomeOK || err != nil || s.WarnedAt == 0 {
		t.Fatalf("%s, %v, warned at %d", o, err, s.WarnedAt)
	}
	until(t, p, "the push", func() bool { return c.Grant(acme).Peek() != nil && c.Grant(acme).Peek().WarnedAt != 0 })
	if o, again, err := c.Grant(base.Key).As("w").Warn(t.Context(), base); o != grant.OutcomeOK || err != nil || again.Rev != s.Rev {
		t.Errorf("said again: %s, %v", o, err)
	}
	want := []string{"connect", "reauth_due"}
	if got := journaled(t, c, acme); !slices.Equal(got, want) {
		t.Errorf("journal %v", got)
	}
	// A pair whose refresh token ends at the same date leaves it said; a later end, a
	// consent and a disconnect do not.
	s = commit(t, c, claim(t, c, s, "w"), 2)
	if s.WarnedAt == 0 {
		t.Error("forgotten by a commit that puts nothing off")
	}
	if o, _, err := c.Grant(base.Key).As("w").Warn(t.Context(), base); o != grant.OutcomeMoved || err != nil {
		t.Errorf("of an old generation: %s, %v", o, err)
	}
	later := pairNo(3)(s.At())
	later.RefreshTokenExpiresAt += 2 * 86_400_000
	s = claim(t, c, s, "w")
	if _, s, err = c.Grant(s.Key).As("w").Commit(t.Context(), s, NewID(), later, false, true); err != nil || s.WarnedAt != 0 || s.UsedAt == 0 {
		t.Errorf("warned_at %d, used_at %d, %v", s.WarnedAt, s.UsedAt, err)
	}
	if _, s, err = c.Grant(s.Key).As("w").Warn(t.Context(), s); err != nil || s.WarnedAt == 0 {
		t.Fatal(err)
	}
	if s = connect(t, c, acme, 4); s.WarnedAt != 0 {
		t.Error("a new consent is warned from the start")
	}
	disconnect(t, c, acme)
	if o, _, err := c.Grant(acme).As("w").Warn(t.Context(), read(t, c, acme)); o != grant.OutcomeDead || err != nil {
		t.Errorf("of a tombstone: %s, %v", o, err)
	}
}

// Whether or not it has the grant in memory: a monitor has none.
func TestAWatcherHearsOfItsOwnChangesAndOfAllOthers(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func() redis.UniversalClient{
		"one Redis": func() redis.UniversalClient { return redistest.Start(t).Client(t) },
		"Cluster":   func() redis.UniversalClient { return redistest.StartCluster(t).Client(t) },
	} {
		t.Run(name, func(t *testing.T) {
			rdb, prefix := start(), redistest.Prefix(t)
			a, b := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
			k := grant.Key{App: "my app:{x}", Tenant: "a:b}c"}
			heard, also := make(chan Change, 100), make(chan Change, 100)
			stop, stopOther := a.App(k.App).OnChange(func(ch Change) { heard <- ch }), a.App(k.App).OnChange(func(ch Change) { also <- ch })
			if _, err := a.hub.Confirm(t.Context(), a.App(k.App).ChangesChannel()); err != nil {
				t.Fatal(err)
			}
			hear := func(from <-chan Change, kind string, rev int64) {
				t.Helper()
				for {
					select {
					case ch := <-from:
						if ch.Kind == kind && ch.Key == k && ch.Record.Rev == rev && ch.At > 0 {
							return
						}
					case <-time.After(patience):
						t.Fatalf("%s was not heard", kind)
					}
				}
			}
			base := connect(t, b, k, 1)
			hear(heard, "connect", 1)
			if a.Grant(k).Recall() != nil {
				t.Fatal("it is in memory: that shows nothing")
			}
			commit(t, a, claim(t, a, base, "a"), 2)
			hear(heard, "commit", 3)
			hear(also, "commit", 3)
			stop()
			disconnect(t, b, k)
			hear(also, "disconnect", 4)
			for len(heard) > 0 {
				if ch := <-heard; ch.Kind == "disconnect" {
					t.Error("heard of a change after the end")
				}
			}
			stopOther()
			stopOther()
			if err := a.App(k.App).Forget(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestACompactedJournalTakesLessRoomAndKeepsWhatIsNotRoutine(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	name := c.Grant(acme).keys().Journal()
	if err := c.Grant(acme).Compact(t.Context()); err != nil || c.rdb.Exists(t.Context(), name).Val() != 0 {
		t.Fatalf("of no journal: %v", err)
	}
	base := connect(t, c, acme, 1)
	for i := range 20 {
		base = commit(t, c, claim(t, c, base, "w"), i+2)
	}
	base = claim(t, c, base, "dies")
	_, base, err := c.Grant(base.Key).As("w").Claim(t.Context(), base, NewID(), time.Minute, grant.AtOnce) // takes over
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Grant(base.Key).As("w").Fail(t.Context(), base, grant.Failure{ID: NewID(), Verdict: grant.VerdictClear, Error: "busy//503"})
	if err != nil {
		t.Fatal(err)
	}
	base = connect(t, c, acme, 30)
	for i := range 10 {
		base = commit(t, c, claim(t, c, base, "w"), i+31)
	}
	entries := func() (said []string) {
		for _, e := range c.rdb.XRange(t.Context(), name, "-", "+").Val() {
			said = append(said, fmt.Sprint(e))
		}
		return said
	}
	size := func() int64 { return c.rdb.MemoryUsage(t.Context(), name, 0).Val() }
	said, before := entries(), size()
	for range 2 {
		if err := c.Grant(acme).Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var kept []string
	for i, e := range said {
		if i >= len(said)-keptAtRest || !strings.Contains(e, "kind:claim") && !strings.Contains(e, "kind:commit") || strings.Contains(e, "takeover") {
			kept = append(kept, e)
		}
	}
	if got := entries(); !slices.Equal(got, kept) || len(kept) != 5 {
		t.Errorf("it says\n%s, not\n%s", got, kept)
	}
	if after := size(); after > before || after > 2000 {
		t.Errorf("%d bytes, before %d", after, before)
	}
	claim(t, c, base, "w")
	if got := journaled(t, c, acme); len(got) != 6 || got[5] != "claim" {
		t.Errorf("goes on as %v", got)
	}
	young := grant.Key{App: "zoom", Tenant: "young"}
	connect(t, c, young, 1)
	if err := c.Grant(young).Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := c.rdb.MemoryUsage(t.Context(), c.Grant(young).keys().Journal(), 0).Val(); n > 1000 {
		t.Errorf("a journal of one entry takes %d bytes", n)
	}
}

// A grant that memory has no room for is in use too.
func TestUseOfAColdGrantIsNoted(t *testing.T) {
	t.Parallel()
	c := freshCache(t, func(cfg *Config) { cfg.HotGrants = 1 })
	connect(t, c, grant.Key{App: "zoom", Tenant: "hot"}, 1)
	hot(t, c, grant.Key{App: "zoom", Tenant: "hot"})
	connect(t, c, acme, 1)
	if s, err := c.Grant(acme).ReadFresh(t.Context()); s == nil || err != nil {
		t.Fatalf("ReadFresh: %v", err)
	}
	for range 2 { // and once only
		if err := c.App("slack").Touch(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := c.App("zoom").Touch(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if s := read(t, c, acme); s.UsedAt == 0 {
		t.Error("it was not noted")
	}
}
