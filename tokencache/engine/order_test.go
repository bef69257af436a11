package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// watcher holds every look at a cache against the one before.
type watcher struct {
	t    *testing.T
	c    *Cache
	k    grant.Key
	last *Snapshot
}

func (w *watcher) look() {
	for what, s := range map[string]*Snapshot{"Remembered": w.c.Grant(w.k).Recall(), "Peek": w.c.Grant(w.k).Peek()} {
		if s == nil {
			continue
		}
		if w.last != nil && (s.Epoch < w.last.Epoch || s.Epoch == w.last.Epoch && s.Generation < w.last.Generation) {
			w.t.Errorf("%s went back from (%d, %d) to (%d, %d)", what, w.last.Epoch, w.last.Generation, s.Epoch, s.Generation)
		}
		if what == "Remembered" { // Peek came first or later, in no order
			w.last = s
		}
	}
}

// Many processes change one grant in every way, Redis loses it and gets old states back:
// in no process's eyes does (epoch, generation) go backwards.
func TestGenerationsNeverGoBackwards(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { interleave(t, seed) })
	}
}

func interleave(t *testing.T, seed uint64) {
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	stage := newCache(t, server.Client(t), prefix)
	connect(t, stage, acme, 0)
	var all sync.WaitGroup
	caches := make([]*Cache, 5)
	for i := range caches {
		caches[i] = newCache(t, server.Client(t), prefix)
		hot(t, caches[i], acme) // before anybody changes anything
	}
	for i, c := range caches {
		for j := range 2 {
			random := rand.New(rand.NewPCG(seed, uint64(10*i+j)))
			all.Go(func() {
				w := &watcher{t: t, c: c, k: acme}
				for range 120 {
					step(t, c, random)
					w.look()
				}
			})
		}
	}
	for range 10 { // the operator
		backup := remember(t, stage, acme)
		random := rand.New(rand.NewPCG(seed, 99))
		for range 20 + random.IntN(20) {
			step(t, stage, random)
		}
		if random.IntN(2) == 0 {
			lose(t, stage, acme)
		} else if len(backup.grant) > 0 {
			rewind(t, stage, acme, backup)
		}
	}
	all.Wait()
}

// step does one random thing. Outcomes do not matter, errors do.
func step(t *testing.T, c *Cache, random *rand.Rand) {
	base, err := c.Grant(acme).Read(t.Context())
	if errors.Is(err, grant.ErrNone) {
		return
	}
	if err != nil {
		// A half-written backup is a record, but no pair.
		if !errors.Is(err, grant.ErrSealed) {
			t.Log(err)
		}
		return
	}
	id, n := NewID(), random.IntN(1000)
	takeover := []grant.Takeover{grant.AtOnce, grant.AfterDeadline, grant.Takeover(time.Millisecond)}[random.IntN(3)]
	switch random.IntN(12) {
	case 0:
		_, err = c.Grant(acme).As(by).Connect(t.Context(), pairNo(n))
	case 1:
		err = c.Grant(acme).As(by).Disconnect(t.Context())
	case 2, 3, 4:
		_, _, err = c.Grant(base.Key).As(by).Claim(t.Context(), base, id, time.Minute, takeover)
	case 5, 6, 7:
		_, _, err = c.Grant(base.Key).As(by).Commit(t.Context(), base, id, pairNo(n)(base.At()), false, false)
	case 8:
		c.Grant(base.Key).As(by).KeepPending(base, id, pairNo(n)(base.At()))
	case 9, 10:
		verdict := []grant.Verdict{grant.VerdictClear, grant.VerdictKeep, grant.VerdictDead}[random.IntN(3)]
		_, _, err = c.Grant(base.Key).As(by).Fail(t.Context(), base, grant.Failure{ID: id, Verdict: verdict})
	}
	if err != nil && !errors.Is(err, grant.ErrNone) && !errors.Is(err, grant.ErrSealed) {
		t.Log(err)
	}
}

// FLUSHALL: every warm process can restore, and one of them is enough.
func TestWarmCacheRestoresAfterFlushAll(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	warm, cold := newCache(t, server.Client(t), "tl"), newCache(t, server.Client(t), "tl")
	var want []*Snapshot
	keys := []grant.Key{acme, {App: "zoom", Tenant: "umbrella"}, {App: "xero", Tenant: "acme"}}
	for i, k := range keys {
		connect(t, warm, k, i)
		hot(t, warm, k)
		want = append(want, warm.Grant(k).Peek())
	}
	if err := cold.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		if _, err := cold.Grant(k).Read(t.Context()); !errors.Is(err, grant.ErrNone) {
			t.Errorf("cold: %v", err)
		}
		s := read(t, warm, k)
		got := read(t, cold, k)
		if got.Epoch != want[i].Epoch || got.Generation != want[i].Generation || got.Pair.RefreshToken.Reveal() != want[i].Pair.RefreshToken.Reveal() || s.Pending {
			t.Errorf("%s: %+v became %+v", k, want[i].Record, got.Record)
		}
	}
}

// A process that found nothing asks the others, who restore.
func TestAskedProcessesRestore(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	cold := newCache(t, server.Client(t), prefix)
	base := connect(t, cold, acme, 1)
	p := cold.Grant(acme).Pin()
	defer p.Unpin()
	confirm(t, p)
	for range 3 {
		hot(t, newCache(t, server.Client(t), prefix), acme)
	}
	lose(t, cold, acme)
	if anybody, err := cold.Grant(acme).Ask(t.Context(), 0, 0, 0); err != nil || !anybody {
		t.Fatalf("Ask: %v %v", anybody, err)
	}
	until(t, p, "the restored grant", func() bool { return cold.Grant(acme).Recall() != nil })
	if s := read(t, cold, acme); s.Generation != base.Generation || s.Pair.RefreshToken.Reveal() != "rt-1" {
		t.Errorf("%+v", s.Record)
	}
	if got := journaled(t, cold, acme); len(got) != 1 || got[0] != "restore" {
		t.Errorf("journal %v", got)
	}
}

// asked is a process whom another has asked for a grant that Redis has lost, and whose answers do not reach Redis.
func asked(t *testing.T) (c *Cache, network *hangingUp) {
	t.Helper()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	c, cold := newCache(t, server.Client(t), prefix), newCache(t, server.Client(t), prefix)
	network = &hangingUp{}
	c.rdb.AddHook(network)
	connect(t, cold, acme, 1)
	p := c.Grant(acme).Pin()
	confirm(t, p)
	read(t, c, acme)
	p.Unpin()
	lose(t, cold, acme)
	const many = 1 << 30
	network.left.Store(many)
	if anybody, err := cold.Grant(acme).Ask(t.Context(), 0, 0, 0); err != nil || !anybody {
		t.Fatalf("Ask: %v %v", anybody, err)
	}
	eventually(t, "its first answer", patience, func() bool { return network.left.Load() < many })
	return c, network
}

// It may be the only one that remembers the grant.
func TestAnAskedProcessGivesTheGrantBackBeforeItEnds(t *testing.T) {
	t.Parallel()
	c, network := asked(t)
	network.left.Store(0)
	if err := c.App(acme.App).Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := c.rdb.Exists(t.Context(), c.Grant(acme).keys().Grant()).Val(); n != 1 {
		t.Error("it has ended, and Redis has no grant")
	}
}

func TestAProcessThatCannotWaitSaysWhatItHasNotGivenBack(t *testing.T) {
	t.Parallel()
	c, network := asked(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := c.App(acme.App).Forget(ctx)
	if want := "let the process live: " + acme.String() + ": Redis has lost it"; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want it to say %q", err, want)
	}
	network.left.Store(0)
	if err := c.App(acme.App).Forget(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnAskedProcessDoesNotGoOnWithAClosedClient(t *testing.T) {
	t.Parallel()
	c, network := asked(t)
	if err := c.rdb.Close(); err != nil {
		t.Fatal(err)
	}
	network.left.Store(0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.in.Idle(ctx); err != nil {
		t.Fatal(err)
	}
	if n := -network.left.Load(); n > 2 {
		t.Errorf("it has tried %d times more", n)
	}
}

// A cache hears its own question. To answer it would say "still at it" to itself, and give back over and
// over what it knows anyway.
func TestACacheDoesNotAnswerItsOwnQuestion(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	asking, other := newCache(t, server.Client(t), prefix), newCache(t, server.Client(t), prefix)
	connect(t, asking, acme, 1)
	p := hot(t, asking, acme)
	atIt := make(chan struct{}, 8)
	defer p.AtIt(func() { atIt <- struct{}{} })()
	read(t, other, acme) // it knows Redis' clock now
	lose(t, asking, acme)

	told := p.LeaseNews()
	if _, err := asking.Grant(acme).Ask(t.Context(), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := asking.Grant(acme).Alive(t.Context(), time.Second); err != nil { // it is heard after the question
		t.Fatal(err)
	}
	until(t, p, "its own messages", func() bool { return p.LeaseNews() > told })
	answers := entryOf(t, asking, acme).Answers()
	if answers || len(atIt) > 0 {
		t.Errorf("it gives itself the grant: %v; it says to itself that it is at it: %v", answers, len(atIt) > 0)
	}

	if _, err := other.Grant(acme).Ask(t.Context(), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the answer to another cache", patience, func() bool {
		return len(atIt) > 0 && asking.rdb.Exists(t.Context(), asking.Grant(acme).keys().Grant()).Val() == 1
	})
}

func TestAskedProcessesGiveBackALostClaim(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	rdb := server.Client(t)
	warm, late := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
	base := connect(t, warm, acme, 1)
	hot(t, warm, acme)
	p := late.Grant(acme).Pin()
	defer p.Unpin()
	confirm(t, p)
	name := warm.Grant(acme).keys().Grant()
	before := rdb.HGetAll(t.Context(), name).Val()
	claimed := claim(t, warm, base, "w")
	rdb.Del(t.Context(), name)
	rdb.HSet(t.Context(), name, before)
	if anybody, err := late.Grant(acme).Ask(t.Context(), claimed.Epoch, claimed.Generation, claimed.Rev); err != nil || !anybody {
		t.Fatal(anybody, err)
	}
	if _, err := late.Grant(acme).Ask(t.Context(), base.Epoch, base.Generation, base.Rev); err != nil {
		t.Fatal(err)
	}
	until(t, p, "the claim", func() bool { return rdb.HGet(t.Context(), name, "claim_id").Val() == claimed.Claim.ID })
	if got := journaled(t, late, acme); strings.Join(got, " ") != "connect claim restore" {
		t.Errorf("who knows no more than asked for says something: %v", got)
	}
}

// A pair that could not be committed is served, and is committed by whoever reads next.
func TestHeldPairIsServedAndStored(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := claim(t, c, connect(t, c, acme, 1), by)
	t.Cleanup(c.Grant(acme).Pin().Unpin)
	read(t, c, acme)
	id := NewID()
	held := c.Grant(base.Key).As(by).KeepPending(base, id, pairNo(2)(base.At()))
	if !held.Pending || c.Grant(acme).Recall() != held || held.Token().AccessToken != "at-2" || c.Grant(acme).Peek() != nil {
		t.Fatalf("held %+v", held.Record)
	}
	s := read(t, c, acme)
	if s.Pending || s.Generation != 2 || s.Pair.RefreshToken.Reveal() != "rt-2" || s.RetryAt > s.At() {
		t.Errorf("stored %+v", s.Record)
	}
	if o, _, err := c.Grant(base.Key).As(by).Commit(t.Context(), base, id, pairNo(2)(base.At()), false, false); o != grant.OutcomeOK || err != nil {
		t.Errorf("the commit that comes through at last: %s %v", o, err)
	}
}

func TestHeldPairYieldsToTheSiblingThatWasStored(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	c, other := newCache(t, server.Client(t), prefix), newCache(t, server.Client(t), prefix)
	base := claim(t, c, connect(t, c, acme, 1), by)
	hot(t, c, acme)
	p := c.Grant(acme).Pin()
	defer p.Unpin()
	c.Grant(base.Key).As(by).KeepPending(base, NewID(), pairNo(2)(base.At()))
	commit(t, other, base, 3)
	until(t, p, "the sibling", func() bool { s := c.Grant(acme).Peek(); return s != nil && s.Token().AccessToken == "at-3" })
	if o, s, err := c.Grant(base.Key).As(by).Commit(t.Context(), base, NewID(), pairNo(2)(base.At()), false, false); o != grant.OutcomeMoved || err != nil || s.Pair.AccessToken.Reveal() != "at-3" {
		t.Errorf("%s %v", o, err)
	}
	if spare, ok, err := c.Grant(base.Key).Spare(t.Context(), base); !ok || err != nil || spare.RefreshToken.Reveal() != "rt-2" {
		t.Errorf("spare %v %v %v", spare, ok, err)
	}
}

// Redis that lost the pair alone: whoever remembers it goes on, others say so.
func TestRecordWithoutItsPair(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	warm, cold := newCache(t, server.Client(t), prefix), newCache(t, server.Client(t), prefix)
	base := connect(t, warm, acme, 1)
	hot(t, warm, acme)
	if err := warm.rdb.Del(t.Context(), warm.Grant(acme).keys().Secret()).Err(); err != nil {
		t.Fatal(err)
	}
	if s, err := cold.Grant(acme).Read(t.Context()); err != nil || !errors.Is(s.Err, grant.ErrSealed) || s.Valid() {
		t.Errorf("cold: %v %v", s, err)
	}
	if s := read(t, warm, acme); s.Err != nil || s.Pair.RefreshToken.Reveal() != "rt-1" {
		t.Errorf("warm: %v %v", s.Pair, s.Err)
	}
	commit(t, warm, claim(t, warm, base, by), 2)
	if s := read(t, cold, acme); s.Pair.RefreshToken.Reveal() != "rt-2" {
		t.Errorf("after a commit: %v %v", s.Pair, s.Err)
	}
}

// Keys and script of a grant share one slot; a push reaches subscribers on every node.
func TestWholeLifeOnACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	c, other := newCache(t, cluster.Client(t), "tl"), newCache(t, cluster.Client(t), "tl")
	var nodes []func() []grant.Event
	for i := range 9 { // some of each slot range
		k := grant.Key{App: "zoom", Tenant: fmt.Sprint("tenant ", i)}
		var slots []int64
		ks := c.Grant(k).keys()
		for _, name := range []string{ks.Grant(), ks.Secret(), ks.Spare(), ks.Lock(), ks.Journal(), ks.Events()} {
			slots = append(slots, c.rdb.(*redis.ClusterClient).ClusterKeySlot(t.Context(), name).Val())
		}
		for _, slot := range slots {
			if slot != slots[0] {
				t.Fatalf("slots %v", slots)
			}
		}
		owner, err := c.rdb.(*redis.ClusterClient).MasterForKey(t.Context(), ks.Grant())
		if err != nil {
			t.Fatal(err)
		}
		nodes = nodes[:0]
		for _, node := range cluster.Nodes {
			nodes = append(nodes, listen(t, c, node.Client(t), owner, ks.Events()))
		}
		p := other.Grant(k).Pin()
		confirm(t, p)
		base := claim(t, c, connect(t, c, k, 1), by)
		commit(t, c, base, 2)
		if o, _, err := c.Grant(base.Key).As(by).Commit(t.Context(), base, NewID(), pairNo(3)(base.At()), false, false); o != grant.OutcomeMoved || err != nil {
			t.Fatal(o, err)
		}
		s := claim(t, c, read(t, c, k), by)
		if o, _, err := c.Grant(s.Key).As(by).Fail(t.Context(), s, grant.Failure{ID: NewID(), Verdict: grant.VerdictDead}); o != grant.OutcomeOK || err != nil {
			t.Fatal(o, err)
		}
		until(t, p, "the death", func() bool { s := other.Grant(k).Peek(); return s != nil && s.State == grant.Reauthorize })
		lose(t, c, k)
		read(t, other, k) // restores
		disconnect(t, c, k)
		until(t, p, "the end", func() bool { return other.Grant(k).Peek().State == grant.Disconnected })
		p.Unpin()
		want := []string{"connect", "claim", "commit", "spare", "claim", "reauthorize", "restore", "disconnect"}
		for n, published := range nodes {
			var kinds []string
			for _, e := range published() {
				kinds = append(kinds, e.Kind)
			}
			if fmt.Sprint(kinds) != fmt.Sprint(want) {
				t.Errorf("node %d heard %v, not %v", n, kinds, want)
			}
		}
	}
}
