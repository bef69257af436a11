package engine

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/inbox"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/server"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// next exchanges a generation, as holder `by`, for pair n.
func next(t *testing.T, c *Cache, base *Snapshot, by string, n int) *Snapshot {
	t.Helper()
	_, claimed, err := c.Grant(base.Key).As(by).Claim(t.Context(), base, NewID(), time.Minute, grant.AfterDeadline)
	if err != nil {
		t.Fatal(err)
	}
	outcome, s, err := c.Grant(claimed.Key).As(by).Commit(t.Context(), claimed, NewID(), pairNo(n)(base.At()), false, false)
	if err != nil || outcome != grant.OutcomeOK {
		t.Fatal(outcome, err)
	}
	return s
}

// The reply to a commit is lost; when it is repeated, its refresh token has been spent.
func TestCommitRepeatedAfterTheNextGenerationIsNoSpare(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(t *testing.T, c *Cache, claimed *Snapshot, id string) *Snapshot{
		"stored by commit": func(t *testing.T, c *Cache, claimed *Snapshot, id string) *Snapshot {
			_, s, err := c.Grant(claimed.Key).As("a").Commit(t.Context(), claimed, id, pairNo(2)(claimed.At()), false, false)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"stored by restore": func(t *testing.T, c *Cache, claimed *Snapshot, id string) *Snapshot {
			held := c.Grant(claimed.Key).As("a").KeepPending(claimed, id, pairNo(2)(claimed.At()))
			for !held.KnownBefore(mono.Now()) { // the read is sent after memory knew
				time.Sleep(time.Millisecond)
			}
			return read(t, c, acme)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := freshCache(t)
			defer c.Grant(acme).Pin().Unpin()
			_, claimed, err := c.Grant(acme).As("a").Claim(t.Context(), connect(t, c, acme, 1), NewID(), time.Minute, grant.AfterDeadline)
			if err != nil {
				t.Fatal(err)
			}
			id := NewID()
			s := next(t, c, first(t, c, claimed, id), "b", 3)
			if outcome, _, err := c.Grant(claimed.Key).As("a").Commit(t.Context(), claimed, id, pairNo(2)(s.At()), false, false); outcome != grant.OutcomeMoved || err != nil {
				t.Fatal(outcome, err)
			}
			if p, ok, err := c.Grant(s.Key).Spare(t.Context(), s); ok || err != nil {
				t.Errorf("%s is spent, and lies spare (%v)", p, err)
			}
		})
	}
}

// A pair that comes late, after its sibling won and died, is the only living one.
func TestSiblingThatComesAfterTheWinnerDiedIsCommitted(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	s := connect(t, c, acme, 1)
	late := claim(t, c, s, "late")
	winner := claim(t, c, next(t, c, s, "wins", 2), "wins")
	if _, _, err := c.Grant(winner.Key).As("wins").Fail(t.Context(), winner, grant.Failure{ID: NewID(), Verdict: grant.VerdictDead, Reason: "invalid_grant"}); err != nil {
		t.Fatal(err)
	}
	id := NewID()
	for range 2 { // a repeat is answered like the first
		outcome, got, err := c.Grant(late.Key).As("late").Commit(t.Context(), late, id, pairNo(3)(s.At()), false, false)
		if err != nil || outcome != grant.OutcomeOK || got.State != grant.Active || got.Generation != 3 || got.Pair.AccessToken.Reveal() != pairNo(3)(0).AccessToken.Reveal() {
			t.Fatalf("%s %v: generation %d is %s", outcome, err, got.Generation, got.State)
		}
	}
}

func TestReplyThatCrossesAnEvictionIsNotCoherent(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Start(t).Client(t), redistest.Prefix(t)
	c, other := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
	keep := c.Grant(grant.Key{App: "zoom", Tenant: "keeps the connection"}).Pin()
	defer keep.Unpin()
	s := connect(t, other, acme, 1)
	p := c.Grant(acme).Pin()
	confirm(t, p)
	late, err := c.Grant(acme).in().Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.Unpin()
	evict(c, acme)
	next(t, other, s, "b", 2) // nobody here hears it
	hot(t, c, acme)
	if _, err := c.Grant(acme).in().Reconcile(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if s := c.Grant(acme).Peek(); s != nil && s.Generation == 1 {
		t.Error("generation 1 is served, 2 is stored")
	}
}

func TestGenerationWhosePairIsGoneIsNeverPresented(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Start(t).Client(t), redistest.Prefix(t)
	c, other := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
	s := connect(t, other, acme, 1)
	hot(t, other, acme)
	next(t, other, s, "b", 2)
	rdb.Del(t.Context(), c.Grant(acme).keys().Secret())
	p := c.Grant(acme).Pin()
	defer p.Unpin()
	outcome, got, err := c.Grant(s.Key).As("a").Claim(t.Context(), s, NewID(), time.Minute, grant.AfterDeadline)
	if outcome != grant.OutcomeMoved || err != nil || !errors.Is(got.Err, grant.ErrSealed) {
		t.Errorf("%s %v: the pair's error is %v", outcome, err, got.Err)
	}
	// A worker that remembers the pair puts it back.
	if s := read(t, other, acme); s.Err != nil || rdb.Exists(t.Context(), c.Grant(acme).keys().Secret()).Val() != 1 {
		t.Errorf("not put back: %v", s.Err)
	}
}

func TestPinnedGrantIsAlwaysSubscribed(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	keep := c.Grant(grant.Key{App: "zoom", Tenant: "keeps the connection"}).Pin()
	defer keep.Unpin()
	var pinners sync.WaitGroup
	for range 3 {
		pinners.Go(func() {
			for range 2000 {
				p := c.Grant(acme).Pin()
				if !c.hub.Listens(c.Grant(acme).EventsChannel()) {
					t.Error("pinned, but not subscribed")
				}
				p.Unpin()
			}
		})
	}
	pinners.Wait()
}

// After lost writes two pairs can share epoch, generation and revision.
func TestPairThatIsNotTheStoredOneIsNeverPresented(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	hot(t, c, acme)
	mine := c.Grant(acme).Peek()
	stored := pairNo(2)(mine.At())
	ks := c.Grant(acme).keys()
	c.rdb.Set(t.Context(), ks.Secret(), mustSeal(t, c, acme, mine.Epoch, mine.Generation, stored), 0)
	c.rdb.HSet(t.Context(), ks.Grant(), "rt_fp", grant.Fingerprint(stored.RefreshToken.Reveal()))
	outcome, _, err := c.Grant(mine.Key).As("a").Claim(t.Context(), mine, NewID(), time.Minute, grant.AfterDeadline)
	if outcome != grant.OutcomeMoved || err != nil {
		t.Fatalf("the claim of the other pair: %s %v", outcome, err)
	}
	now := c.Grant(acme).Peek()
	if now == nil || now.Pair.RefreshToken.Reveal() != stored.RefreshToken.Reveal() {
		t.Fatal("memory keeps the pair that is not stored")
	}
	// A push without a pair does not lend the one of memory to another's record.
	ev := grant.Event{Kind: "claim", Now: now.At(), Record: now.Record}
	ev.Record.Rev++
	ev.Record.RefreshFP = mine.RefreshFP
	c.in.ApplyEvent(entryOf(t, c, acme), ev, mono.Now())
	if c.Grant(acme).Peek() != nil {
		t.Error("a record is coherent with a pair that is not its own")
	}
}

// Two consents can bring the same refresh token; a pair is sealed with its consent.
func TestPairOfAnOlderConsentIsNotPutBesideANewerRecord(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	older := connect(t, c, acme, 1)
	connect(t, c, acme, 2)
	hset(t, c, acme, "rt_fp", older.RefreshFP)
	secret := c.Grant(acme).keys().Secret()
	c.rdb.Del(t.Context(), secret)
	got, err := c.Grant(older.Key).in().Restore(t.Context(), older)
	if err != nil || !errors.Is(got.Err, grant.ErrSealed) {
		t.Errorf("%v: the pair's error is %v", err, got.Err)
	}
	if c.rdb.Exists(t.Context(), secret).Val() != 0 {
		t.Error("a pair that nobody can open stands in Redis")
	}
}

// What a server says that has just begun is doubted, unless it has changed the grant itself.
func TestAStateThatIsOlderThanTheServerIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, rdb := range map[string]redis.UniversalClient{
		"one Redis": redistest.Own(t).Client(t), "Cluster": redistest.StartCluster(t).Client(t),
	} {
		t.Run(name, func(t *testing.T) { doubted(t, newCache(t, rdb, "tl")) })
	}
}

func doubted(t *testing.T, c *Cache) {
	s := connect(t, c, acme, 1)
	if _, left, doubtful, err := c.Grant(s.Key).MayHaveLost(t.Context(), s); doubtful || err != nil {
		t.Errorf("a consent of this moment, %s before the others are back", left)
	}
	old := aged(s)
	if _, left, doubtful, _ := c.Grant(old.Key).MayHaveLost(t.Context(), old); !doubtful || left > server.ReunionOnCluster || left < -time.Minute {
		t.Errorf("a consent of an hour ago: %v, %s", doubtful, left)
	}
	old.ErrorAt = s.Epoch
	if _, _, doubtful, _ := c.Grant(old.Key).MayHaveLost(t.Context(), old); doubtful {
		t.Error("a failure of this moment")
	}
}

// aged is a grant as if nothing had changed it for an hour.
func aged(s *Snapshot) *Snapshot {
	old := *s
	old.Epoch, old.IssuedAt = s.Epoch-3_600_000, s.IssuedAt-3_600_000
	return &old
}

// Times are cut to milliseconds: a server that is first seen just now can seem to be of the next.
func TestAServerOfThisMomentIsDoubted(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	old := aged(connect(t, c, acme, 1))
	for _, ahead := range []int64{0, 1, 2} {
		now := old.Now()
		c.servers.Note("", &server.Server{ReplID: "a", Began: now + ahead, Believed: now + ahead, Now: now, At: mono.Now()})
		if _, left, doubtful, err := c.Grant(old.Key).MayHaveLost(t.Context(), old); !doubtful || err != nil {
			t.Errorf("%d ms ahead: not doubted, with %s left, %v", ahead, left, err)
		}
	}
}

// Where INFO is forbidden nothing is doubted; where Redis does not answer nothing is presented.
func TestAServerThatDoesNotTellItsAgeIsTrusted(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	acl := []any{"ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all", "-info"}
	if err := server.Client(t).Do(t.Context(), acl...).Err(); err != nil {
		t.Fatal(err)
	}
	c := newCache(t, server.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "worker", "secret" }), "tl")
	old := aged(connect(t, c, acme, 1))
	if judged, _, doubtful, err := c.Grant(old.Key).MayHaveLost(t.Context(), old); doubtful || err != nil || judged.Judged() != "" {
		t.Errorf("doubted: %v, %v", doubtful, err)
	}
	away := newCache(t, server.Client(t), "tl")
	server.Kill(t)
	if _, _, _, err := away.Grant(old.Key).MayHaveLost(t.Context(), old); err == nil {
		t.Error("who does not answer is trusted")
	}
}

// A clock that was set back must not keep anybody waiting until it is where it was.
func TestAServerFromTheFutureIsNotDoubted(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	s := connect(t, c, acme, 1)
	ahead := s.At() + 3_600_000
	c.servers.Note("", &server.Server{ReplID: "a", Began: ahead, Believed: ahead, Now: s.At(), At: mono.Now()})
	if _, left, doubtful, err := c.Grant(s.Key).MayHaveLost(t.Context(), s); doubtful || err != nil {
		t.Errorf("doubted, with %s left", left)
	}
}

// A server that was a replica says so for ever: what counts is when it was first seen.
func TestANewMasterIsFirstSeenOnce(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Start(t).Client(t), redistest.Prefix(t)
	a, b := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
	for i, c := range []*Cache{a, b, a} {
		if at := c.servers.FirstSeen(t.Context(), "replid", int64(100+i)); at != 100 {
			t.Errorf("%d: %d", i, at)
		}
	}
}

// Just after a failover nothing may work yet, and one grant must not hold up the others.
func TestLateChangesAreGivenBackAfterAReconnection(t *testing.T) {
	t.Parallel()
	rdb := redistest.Own(t).Client(t)
	c := newCache(t, rdb, "tl")
	keys := []grant.Key{acme, {App: "zoom", Tenant: "globex"}, {App: "zoom", Tenant: "initech"}}
	for _, k := range keys {
		connect(t, c, k, 1)
		hot(t, c, k)
		lose(t, c, k)
		hset(t, c, k, "v", 99) // this cannot be read
	}
	before := calls(t, rdb, "hmget")
	if n := rdb.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Val(); n != 1 {
		t.Fatalf("%d connections", n)
	}
	eventually(t, "all to be tried", patience, func() bool {
		return calls(t, rdb, "hmget") >= before+len(keys)
	})
	lose(t, c, acme)
	eventually(t, "the grant to be back", patience, func() bool {
		return rdb.HGet(t.Context(), c.Grant(acme).keys().Grant(), "gen").Val() == "1"
	})
}

func TestOnlyChangesOfLateAreReadAgain(t *testing.T) {
	const minute = int64(60_000)
	for _, c := range []struct {
		change, read, lost int64 // Redis' clock, ms
		want               bool
	}{
		{change: 100 * minute, read: 100 * minute, lost: 101 * minute, want: true},
		{change: 100 * minute, read: 100 * minute, lost: 103 * minute},
		{change: 100 * minute, read: 150 * minute, lost: 151 * minute},            // read of late, and old
		{change: 100 * minute, read: 100 * minute, lost: 99 * minute, want: true}, // made when the connection had gone
	} {
		d := memory.NewDraft(acme, c.read, time.Hour)
		d.IssuedAt = c.change
		if got := d.Finish().ChangedWithin(inbox.AtRisk, time.Hour+time.Duration(c.lost-c.read)*time.Millisecond); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// calls is how often a command was called on a server.
func calls(t *testing.T, rdb redis.UniversalClient, command string) int {
	t.Helper()
	said := store.InfoOf(rdb.Info(t.Context(), "commandstats").Val())["cmdstat_"+command]
	n, _, _ := strings.Cut(strings.TrimPrefix(said, "calls="), ",")
	count, _ := strconv.Atoi(n)
	return count
}

// The first that notices puts the key back, and most grants: what tells the others is the count of losses.
func TestAProcessThatNoticesALossLateGivesBackWhatItAloneRemembers(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Own(t).Client(t), redistest.Prefix(t)
	first, late := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
	for i := range 20 {
		k := grant.Key{App: "zoom", Tenant: strconv.Itoa(i)}
		connect(t, first, k, i)
		hot(t, first, k)
	}
	other := grant.Key{App: "zoom", Tenant: "globex"}
	for _, k := range []grant.Key{acme, other} {
		connect(t, first, k, 100)
		hot(t, late, k)
	}
	if _, err := first.App("zoom").AppState(t.Context()); err != nil { // it works for that app
		t.Fatal(err)
	}
	rdb.FlushAll(t.Context())
	for _, c := range []*Cache{first, late} {
		if err := c.App("zoom").Rescue(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := rdb.Exists(t.Context(), first.Grant(acme).keys().Grant(), first.Grant(other).keys().Grant(), first.Grant(grant.Key{App: "zoom", Tenant: "0"}).keys().Grant()).Val(); n != 3 {
		t.Error("what only one of them remembered is lost")
	}
}
