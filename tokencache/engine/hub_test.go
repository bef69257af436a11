package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
)

func TestMemoryIsCoherentOnlyWhileSubscribed(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	read(t, c, acme)
	if c.Grant(acme).Peek() != nil || c.Grant(acme).Recall() != nil {
		t.Fatal("a grant that nobody pinned is remembered")
	}
	p := c.Grant(acme).Pin()
	defer p.Unpin()
	if c.Grant(acme).Peek() != nil {
		t.Fatal("coherent before anything was read")
	}
	confirm(t, p)
	if c.Grant(acme).Peek() != nil {
		t.Fatal("coherent before anything was read")
	}
	read(t, c, acme)
	if s := c.Grant(acme).Peek(); s == nil || s.Token().AccessToken != "at-1" {
		t.Fatalf("read while subscribed, and Peek is %v", s)
	}
}

// What is read before the subscription stands may have changed since, unheard.
func TestReadBeforeTheSubscriptionIsNotCoherent(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	prefix := redistest.Prefix(t)
	direct := newCache(t, server.Client(t), prefix)
	connect(t, direct, acme, 1)
	proxy := redistest.NewProxy(t, server.Addr())
	rdb := server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() })
	c := newCache(t, rdb, prefix)
	if err := rdb.Ping(t.Context()).Err(); err != nil { // one pooled connection
		t.Fatal(err)
	}
	proxy.Refuse() // the subscriber's
	p := c.Grant(acme).Pin()
	defer p.Unpin()
	if err := p.Confirm(t.Context()); !errors.Is(err, hub.ErrSubscriber) {
		t.Fatalf("Confirm says %v", err)
	}
	if s := read(t, c, acme); s.Generation != 1 || c.Grant(acme).Peek() != nil || c.Grant(acme).Recall() == nil {
		t.Fatalf("generation %d, Peek %v", s.Generation, c.Grant(acme).Peek())
	}
	proxy.Accept()
	confirm(t, p)
	if c.Grant(acme).Peek() != nil {
		t.Fatal("coherent by a reading from before")
	}
	read(t, c, acme)
	if c.Grant(acme).Peek() == nil {
		t.Fatal("not coherent")
	}
}

func TestPushArrivesInEveryProcess(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	holder := newCache(t, server.Client(t), prefix)
	base := connect(t, holder, acme, 1)
	var pins []*Pin
	var caches []*Cache
	for range 4 {
		c := newCache(t, server.Client(t), prefix)
		caches, pins = append(caches, c), append(pins, hot(t, c, acme))
	}
	base = claim(t, holder, base, "holder")
	commit(t, holder, base, 2)
	for i, c := range caches {
		until(t, pins[i], "the new pair", func() bool {
			s := c.Grant(acme).Peek()
			if s == nil {
				t.Fatal("not coherent")
			}
			return s.Generation == 2 && s.Token().AccessToken == "at-2" && s.Pair.RefreshToken.Reveal() == "rt-2"
		})
	}
	disconnect(t, holder, acme)
	for i, c := range caches {
		until(t, pins[i], "the end", func() bool { return c.Grant(acme).Peek().State == grant.Disconnected })
		if c.Grant(acme).Peek().Token() != nil {
			t.Error("a disconnected grant has a token")
		}
	}
}

func TestSignOfLifeReachesTheWaiters(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	p := hot(t, c, acme)
	if err := c.Grant(acme).Alive(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	until(t, p, "the sign of life", func() bool { return p.LeaseHeld() > 30*time.Second })
	if left := p.LeaseHeld(); left > time.Minute {
		t.Errorf("the lease is known to be held for %v", left)
	}
	if c.Grant(acme).Peek() == nil {
		t.Error("a sign of life made memory suspect")
	}
}

// A push that this version cannot read says that something has changed.
func TestUnreadableEventMakesMemorySuspect(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"commit 1\n\n", "x", "commit 17\nv 99\ngen 7\nepoch 1\nstate active\n\n", "commit 17\ngen x\n\n"} {
		c := freshCache(t)
		connect(t, c, acme, 1)
		p := hot(t, c, acme)
		payload := c.proof.Sign(t.Context(), c.Grant(acme).EventsChannel(), body)
		if err := c.rdb.Publish(t.Context(), c.Grant(acme).EventsChannel(), payload).Err(); err != nil {
			t.Fatal(err)
		}
		until(t, p, "doubt", func() bool { return c.Grant(acme).Peek() == nil })
		if s := read(t, c, acme); s.Generation != 1 || c.Grant(acme).Peek() == nil {
			t.Errorf("%q: generation %d, Peek %v", payload, s.Generation, c.Grant(acme).Peek())
		}
	}
}

func TestKilledSubscriberIsNoticedAndComesBack(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	c, other := newCache(t, server.Client(t), "tl"), newCache(t, server.Client(t), "tl")
	base := connect(t, other, acme, 1)
	p := hot(t, c, acme)
	for n := 2; n < 5; n++ {
		killed, err := other.rdb.Do(t.Context(), "client", "kill", "type", "pubsub").Int()
		if err != nil || killed != 1 {
			t.Fatalf("killed %d: %v", killed, err)
		}
		base = commit(t, other, base, n) // in the gap, perhaps unheard
		eventually(t, "the loss to be noticed", patience, func() bool { return c.Grant(acme).Peek() == nil })
		confirm(t, p)
		if s := c.Grant(acme).Peek(); s != nil && s.Generation != base.Generation {
			t.Fatal("coherent, and yet not the newest")
		}
		if s := read(t, c, acme); s.Generation != base.Generation || c.Grant(acme).Peek() == nil {
			t.Fatalf("generation %d, Peek %v", s.Generation, c.Grant(acme).Peek())
		}
		base = commit(t, other, base, n+10)
		until(t, p, "a push over the new connection", func() bool {
			s := c.Grant(acme).Peek()
			return s != nil && s.Generation == base.Generation
		})
	}
}

// A peer that vanished without a word is noticed by its silence.
func TestHalfOpenSubscriberIsNoticedWithinTenSeconds(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	proxy := redistest.NewProxy(t, server.Addr())
	c := newCache(t, server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() }), prefix)
	other := newCache(t, server.Client(t), prefix)
	base := connect(t, other, acme, 1)
	p := hot(t, c, acme)

	proxy.Freeze()
	base = commit(t, other, base, 2) // unheard
	start := time.Now()
	eventually(t, "the silence to be noticed", 10*time.Second, func() bool { return c.Grant(acme).Peek() == nil })
	t.Logf("noticed after %v", time.Since(start))
	proxy.Cut()
	proxy.Thaw()
	confirm(t, p)
	if s := read(t, c, acme); s.Generation != base.Generation || c.Grant(acme).Peek() == nil {
		t.Fatalf("generation %d, Peek %v", s.Generation, c.Grant(acme).Peek())
	}
}

func TestRestartedRedisIsSubscribedToAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t, redistest.AOF())
	c, other := newCache(t, server.Client(t), "tl"), newCache(t, server.Client(t), "tl")
	base := connect(t, other, acme, 1)
	p := hot(t, c, acme)
	server.Kill(t)
	eventually(t, "the loss to be noticed", patience, func() bool { return c.Grant(acme).Peek() == nil })
	if s := c.Grant(acme).Recall(); s == nil || !s.Valid() {
		t.Fatal("the token that is still valid is forgotten")
	}
	if err := p.Confirm(t.Context()); err == nil {
		t.Fatal("confirmed by a dead server")
	}
	server.Restart(t)
	confirm(t, p)
	read(t, c, acme)
	commit(t, other, base, 2)
	until(t, p, "a push", func() bool { s := c.Grant(acme).Peek(); return s != nil && s.Generation == 2 })
}

func TestConnectionLivesWhileSomethingIsHot(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	c := newCache(t, server.Client(t), "tl")
	subscribers := func() int64 {
		list, err := server.Client(t).Do(t.Context(), "client", "list", "type", "pubsub").Text()
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for _, r := range list {
			if r == '\n' {
				n++
			}
		}
		return n
	}
	for range 3 {
		var pins []*Pin
		for i := range 5 {
			k := grant.Key{App: "zoom", Tenant: fmt.Sprint(i)}
			connect(t, c, k, 1)
			p := c.Grant(k).Pin()
			confirm(t, p)
			read(t, c, k)
			pins = append(pins, p, c.Grant(k).Pin()) // twice
		}
		if n := subscribers(); n != 1 {
			t.Fatalf("%d subscriber connections", n)
		}
		for _, p := range pins {
			p.Unpin()
		}
		if n := subscribers(); n != 1 {
			t.Fatalf("%d subscriber connections after Unpin: the grants are still hot", n)
		}
		if err := c.App("zoom").Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		if running := c.hub.Running(); running || c.mem.Size() != 0 {
			t.Fatalf("hub running: %v, %d grants", running, c.mem.Size())
		}
		eventually(t, "the connection to close", patience, func() bool { return subscribers() == 0 })
	}
}

func TestForgetLeavesOtherAppsAndPinnedGrants(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	other, cold := grant.Key{App: "xero", Tenant: "acme"}, grant.Key{App: "zoom", Tenant: "cold"}
	for _, k := range []grant.Key{acme, other, cold} {
		connect(t, c, k, 1)
	}
	hot(t, c, acme)
	p := c.Grant(other).Pin()
	confirm(t, p)
	read(t, c, other)
	p.Unpin()
	p = c.Grant(cold).Pin()
	read(t, c, cold)
	p.Unpin()
	if err := c.App("zoom").Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Grant(acme).Peek() == nil || c.Grant(other).Peek() == nil || c.Grant(cold).Recall() != nil {
		t.Errorf("pinned %v, other app %v, forgotten %v", c.Grant(acme).Peek(), c.Grant(other).Peek(), c.Grant(cold).Recall())
	}
}

// One grant that is pinned and dropped all the time, as for a tenant that is not
// connected, must not disturb the others, nor itself.
func TestChurnOfOneGrantLeavesTheOthersCoherent(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	hot(t, c, acme)
	session := c.hub.Session()
	unknown := grant.Key{App: "zoom", Tenant: "unknown"}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 300 {
				p := c.Grant(unknown).Pin()
				if i%3 == 0 {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					if err := p.Confirm(ctx); err != nil {
						t.Error(err)
					}
					cancel()
				}
				p.Unpin()
			}
		})
	}
	all.Wait()
	if c.Grant(acme).Peek() == nil || c.hub.Session() != session {
		t.Errorf("Peek %v, session %d after %d", c.Grant(acme).Peek(), c.hub.Session(), session)
	}
	p := c.Grant(unknown).Pin()
	defer p.Unpin()
	confirm(t, p)
	connect(t, c, unknown, 1)
	until(t, p, "a push", func() bool { return c.Grant(unknown).Peek() != nil })
}

// Whoever takes Changed before looking misses nothing, however fast it comes.
func TestChangedMissesNothing(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	c, other := newCache(t, server.Client(t), prefix), newCache(t, server.Client(t), prefix)
	base := connect(t, other, acme, 1)
	p := hot(t, c, acme)
	const last = 200
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			timeout := time.After(patience)
			for seen := int64(0); seen < last; {
				news := p.Changed()
				s := c.Grant(acme).Recall()
				if s.Generation < seen {
					t.Errorf("generation %d after %d", s.Generation, seen)
				}
				if seen = s.Generation; seen == last {
					return
				}
				select {
				case <-news:
				case <-timeout:
					t.Errorf("slept through generation %d", seen+1)
					return
				}
			}
		})
	}
	for n := 2; n <= last; n++ {
		base = commit(t, other, base, n)
	}
	all.Wait()
}

func TestHotGrantsAreBounded(t *testing.T) {
	t.Parallel()
	c := freshCache(t, func(cfg *Config) { cfg.HotGrants = 10 })
	pinned := grant.Key{App: "zoom", Tenant: "pinned"}
	connect(t, c, pinned, 1)
	hot(t, c, pinned)
	for i := range 1000 {
		k := grant.Key{App: "zoom", Tenant: fmt.Sprint("t-", i)}
		if i < 100 {
			connect(t, c, k, 1)
		}
		p := c.Grant(k).Pin()
		if i < 100 {
			read(t, c, k)
		}
		p.Unpin()
		if n := c.mem.Size(); n > 10 {
			t.Fatalf("%d hot grants after %d", n, i)
		}
	}
	if c.Grant(pinned).Peek() == nil {
		t.Error("the pinned grant was forgotten")
	}
	if channels := c.hub.Channels(); channels != c.mem.Size() {
		t.Errorf("%d channels for %d grants", channels, c.mem.Size())
	}
}

func TestBoundHoldsUnderConcurrentUse(t *testing.T) {
	t.Parallel()
	c := freshCache(t, func(cfg *Config) { cfg.HotGrants = 10 })
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			for range 200 {
				k := grant.Key{App: "zoom", Tenant: fmt.Sprint("t-", random.IntN(40))}
				p := c.Grant(k).Pin()
				if random.IntN(4) == 0 {
					if _, err := c.Grant(k).As(by).Connect(t.Context(), pairNo(1)); err != nil {
						t.Error(err)
					}
				}
				p.Unpin()
			}
		})
	}
	all.Wait()
	if n := c.mem.Size(); n > 10+8 {
		t.Errorf("%d hot grants", n)
	}
	for e := range c.mem.All() { // each is subscribed
		p := c.Grant(e.Key).Pin()
		confirm(t, p)
		p.Unpin()
	}
}

func TestPeekDoesNotAllocate(t *testing.T) {
	c := freshCache(t)
	connect(t, c, acme, 1)
	hot(t, c, acme)
	if n := testing.AllocsPerRun(1000, func() {
		if s := c.Grant(acme).Peek(); s == nil || !s.Fresh() || s.Token() == nil {
			t.Fatal("no token")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What was heard of a lease before a connection was lost says nothing: its release may have been missed.
func TestALeaseIsNotWaitedForBeyondASession(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	c := newCache(t, server.Client(t), "tl")
	connect(t, c, acme, 1)
	p := hot(t, c, acme)
	told := p.LeaseNews()
	p.SetLeaseHeld(time.Hour, told)
	if n := server.Client(t).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Val(); n != 1 {
		t.Fatalf("%d connections", n)
	}
	until(t, p, "the lease to be forgotten", func() bool { return p.LeaseHeld() == 0 })
	if p.SetLeaseHeld(time.Hour, told); p.LeaseHeld() != 0 {
		t.Error("what was found before the session is believed in it")
	}
}

// A lease can be given back between being found held and that being noted.
func TestLeaseThatWasGivenBackMeanwhileIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	p := hot(t, c, acme)
	told := p.LeaseNews()
	p.SetLeaseHeld(time.Hour, told) // the control
	if p.LeaseHeld() == 0 {
		t.Error("a held lease was not noted")
	}
	if err := c.Grant(acme).Alive(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	until(t, p, "the release", func() bool { return p.LeaseHeld() == 0 })
	p.SetLeaseHeld(time.Hour, told)
	if left := p.LeaseHeld(); left > 0 {
		t.Errorf("a free lease counts as held for %s", left)
	}
}
