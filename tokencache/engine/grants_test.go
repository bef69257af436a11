package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

func TestHandleServesOnlyWhatIsCoherentAndFresh(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	grants := c.App(acme.App).Grants()
	h := grants.Handle(acme.Tenant)
	serves := func(when, want string) {
		t.Helper()
		for what, tok := range map[string]string{"handle": accessOf(h.Fresh()), "grants": accessOf(grants.Fresh(acme.Tenant))} {
			if tok != want {
				t.Errorf("%s: the %s serves %q, want %q", when, what, tok, want)
			}
		}
	}
	serves("before it is hot", "")
	p := hot(t, c, acme)
	serves("hot", "at-1")
	base := commit(t, c, claim(t, c, c.Grant(acme).Peek(), by), 2)
	serves("after a commit", "at-2")
	heard(t, c, p)
	entryOf(t, c, acme).Invalidate()
	serves("in doubt", "")
	read(t, c, acme)
	serves("read again", "at-2")

	// Due, by a push.
	soon := pairNo(3)(base.Now())
	soon.RefreshAt = base.At() - 1000
	if o, _, err := c.Grant(base.Key).As(by).Commit(t.Context(), base, NewID(), soon, false, false); o != grant.OutcomeOK {
		t.Fatal(o, err)
	}
	serves("due", "")
	disconnect(t, c, acme)
	serves("disconnected", "")
}

// heard waits until everything has arrived that was published before.
func heard(t *testing.T, c *Cache, p *Pin) {
	t.Helper()
	if err := c.Grant(acme).Alive(t.Context(), grant.MaxLease); err != nil {
		t.Fatal(err)
	}
	until(t, p, "what was published last", func() bool { return p.LeaseHeld() > 0 })
}

func accessOf(tok *oauth2.Token) string {
	if tok == nil {
		return ""
	}
	return tok.AccessToken
}

// A grant can be forgotten and remembered again while somebody holds its handle.
func TestHandleOutlivesEviction(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	h := c.App(acme.App).Grants().Handle(acme.Tenant)
	p := c.Grant(acme).Pin()
	confirm(t, p)
	read(t, c, acme)
	if accessOf(h.Fresh()) != "at-1" {
		t.Fatal("not hot")
	}
	p.Unpin()
	evict(c, acme)
	if h.Fresh() != nil {
		t.Error("a forgotten grant is served")
	}
	commit(t, c, claim(t, c, base, by), 2) // unheard
	hot(t, c, acme)
	if got := accessOf(h.Fresh()); got != "at-2" {
		t.Errorf("the handle serves %q", got)
	}
}

// The clock is read once a second for all; in the last seconds it is asked itself.
func TestTokenIsNotServedAsFreshAfterItIsDue(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	due := 300 * time.Millisecond
	_, err := c.Grant(acme).As(by).Connect(t.Context(), func(now int64) grant.Pair {
		p := pairNo(1)(now)
		p.RefreshAt = now + due.Milliseconds()
		return p
	})
	if err != nil {
		t.Fatal(err)
	}
	hot(t, c, acme)
	h := c.App(acme.App).Grants().Handle(acme.Tenant)
	for {
		now := c.Grant(acme).Peek().Now() // before: this goroutine may have to wait in between
		tok := h.Fresh()
		if tok != nil && now > c.Grant(acme).Peek().RefreshAt {
			t.Fatal("a due token was served as fresh")
		}
		if tok == nil {
			return
		}
	}
}

func TestAPassOverColdGrantsDoesNotPushHotOnesOut(t *testing.T) {
	t.Parallel()
	c := freshCache(t, func(cfg *Config) { cfg.HotGrants = 4 })
	for i := range 4 {
		k := grant.Key{App: "zoom", Tenant: fmt.Sprint("hot-", i)}
		connect(t, c, k, 1)
		c.Grant(k).Remember(read(t, c, k))
	}
	for i := range 50 {
		k := grant.Key{App: "zoom", Tenant: fmt.Sprint("cold-", i)}
		connect(t, c, k, 1)
		c.Grant(k).Remember(read(t, c, k))
	}
	for i := range 4 {
		if c.Grant(grant.Key{App: "zoom", Tenant: fmt.Sprint("hot-", i)}).Recall() == nil {
			t.Errorf("hot-%d was pushed out", i)
		}
	}
	again := grant.Key{App: "zoom", Tenant: "cold-49"}
	c.Grant(again).Remember(read(t, c, again))
	if c.Grant(again).Recall() == nil {
		t.Error("asked for twice, and not remembered")
	}
}

// full is a cache whose memory has no room.
func full(t *testing.T, rdb redis.UniversalClient, prefix string) *Cache {
	t.Helper()
	c := newCache(t, rdb, prefix, func(cfg *Config) { cfg.HotGrants = 1 })
	hot(t, c, grant.Key{App: "zoom", Tenant: "takes-the-room"})
	return c
}

func TestReadFreshIsOneGet(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	stage := newCache(t, rdb, "tl")
	connect(t, stage, grant.Key{App: "zoom", Tenant: "takes-the-room"}, 9)
	connect(t, stage, acme, 1)
	c := full(t, rdb, "tl")
	calls := redistest.Commands(t, rdb, func() {
		s, err := c.Grant(acme).ReadFresh(t.Context())
		if err != nil || s == nil || !s.Fresh() || s.Token().AccessToken != "at-1" {
			t.Fatalf("%v, %v", s, err)
		}
	})
	if delete(calls, "get"); len(calls) != 1 || calls["getrange"] != 1 { // the proof key is looked at every few seconds
		t.Errorf("ReadFresh cost %v", calls)
	}
	if s, err := c.Grant(acme).ReadFresh(t.Context()); s != nil || err != nil {
		t.Errorf("asked for twice: it is to be read and remembered, not its token alone: %v, %v", s, err)
	}
}

func TestReadFreshReturnsNothingButFreshTokens(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	rdb := server.Client(t)
	stage := newCache(t, rdb, prefix)
	connect(t, stage, grant.Key{App: "zoom", Tenant: "takes-the-room"}, 9)
	c := full(t, rdb, prefix)
	made := func(name string, alter func(now int64, p *grant.Pair)) grant.Key {
		k := grant.Key{App: "zoom", Tenant: name}
		_, err := stage.Grant(k).As(by).Connect(t.Context(), func(now int64) grant.Pair {
			p := pairNo(1)(now)
			alter(now, &p)
			return p
		})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	gone := made("gone", func(int64, *grant.Pair) {})
	disconnect(t, stage, gone)
	broken := made("broken", func(int64, *grant.Pair) {})
	rdb.Set(t.Context(), stage.Grant(broken).keys().Secret(), "no epoch here", 0)
	other := made("other", func(int64, *grant.Pair) {})
	copied := rdb.Get(t.Context(), stage.Grant(other).keys().Secret()).Val()
	foreign := made("foreign", func(int64, *grant.Pair) {})
	rdb.Set(t.Context(), stage.Grant(foreign).keys().Secret(), copied, 0)
	for _, k := range []grant.Key{
		made("due", func(now int64, p *grant.Pair) { p.RefreshAt = now - 1000 }),
		made("expired", func(now int64, p *grant.Pair) { p.RefreshAt, p.ExpiresAt = now-2, now-1 }),
		gone, broken, foreign, {App: "zoom", Tenant: "nobody"},
	} {
		if s, err := c.Grant(k).ReadFresh(t.Context()); s != nil || err != nil {
			t.Errorf("%s: %v, %v", k.Tenant, s, err)
		}
	}
	if s, _ := c.Grant(made("control", func(int64, *grant.Pair) {})).ReadFresh(t.Context()); s == nil {
		t.Error("a fresh token was not seen: nothing is proven")
	}
	c.clock.Unheard(2 * time.Minute)
	if s, _ := c.Grant(made("stale clock", func(int64, *grant.Pair) {})).ReadFresh(t.Context()); s != nil {
		t.Error("ReadFresh by a clock that Redis has not told for long")
	}
}

func TestReadIsRepeatedWhenItsReplyIsLost(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	connect(t, newCache(t, server.Client(t), prefix), acme, 1)
	proxy := redistest.NewProxy(t, server.Addr())
	c := newCache(t, server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() }), prefix)
	eaten := proxy.EatReply("hmget")
	read(t, c, acme)
	eaten.Await(t)

	proxy.Refuse()
	proxy.Cut()
	if _, err := c.Grant(acme).Read(t.Context()); err == nil || errors.Is(err, grant.ErrNone) {
		t.Errorf("without Redis: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	hungUp := errors.New("hung up")
	cancel(hungUp)
	if _, err := c.Grant(acme).Read(ctx); !errors.Is(err, hungUp) {
		t.Errorf("got %v, want the cause", err)
	}
}

// A snapshot is shared by readers: what is forgotten and remembered again is a copy.
func TestRememberingAgainDoesNotWriteToWhatOthersRead(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	p := c.Grant(acme).Pin()
	confirm(t, p)
	s := read(t, c, acme)
	before := *s
	p.Unpin()
	evict(c, acme)
	c.Grant(s.Key).Remember(s)
	if !reflect.DeepEqual(*s, before) || c.Grant(acme).Recall() == nil || c.Grant(acme).Peek() != nil {
		t.Errorf("%+v became %+v", before, *s)
	}
}

// One question is one knock, also if ReadFresh found that the token is due.
func TestGrantThatIsAskedForOnceTakesNoPlace(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	stage := newCache(t, server.Client(t), prefix)
	room := grant.Key{App: "zoom", Tenant: "takes-the-room"}
	connect(t, stage, room, 9)
	c := newCache(t, server.Client(t), prefix, func(cfg *Config) { cfg.HotGrants = 1 })
	c.Grant(room).Remember(read(t, c, room)) // not pinned: it could be displaced
	if _, err := stage.Grant(acme).As(by).Connect(t.Context(), func(now int64) grant.Pair {
		p := pairNo(1)(now)
		p.RefreshAt = now - 1000
		return p
	}); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Grant(acme).ReadFresh(t.Context()); s != nil || err != nil {
		t.Fatal(s, err)
	}
	c.Grant(acme).Remember(read(t, c, acme))
	if c.Grant(acme).Recall() != nil || c.Grant(room).Recall() == nil {
		t.Error("remembered, though asked for once")
	}
}

func TestClusterClientThatReadsFromReplicasIsRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []redis.ClusterOptions{{ReadOnly: true}, {RouteByLatency: true}, {RouteRandomly: true}} {
		o.Addrs = []string{"127.0.0.1:1"}
		rdb := redis.NewClusterClient(&o)
		if _, err := New(rdb, Config{AEAD: grant.Plaintext}); err == nil {
			t.Errorf("%+v was accepted", o)
		}
		_ = rdb.Close()
	}
}

// Who comes again after many more others than memory has room for would be pushed out before the
// next time, too: to remember it costs a reading and a subscription, and helps nobody.
func TestARoundThroughMoreGrantsThanThereIsRoomForReadsTheirTokensAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	stage := newCache(t, rdb, "tl")
	connect(t, stage, grant.Key{App: "zoom", Tenant: "takes-the-room"}, 9)
	const grants = 1000
	for i := range grants {
		connect(t, stage, grant.Key{App: "zoom", Tenant: fmt.Sprint(i)}, 1)
	}
	c := full(t, rdb, "tl")
	tokensAlone := 0
	for range 2 {
		for i := range grants {
			if s, err := c.Grant(grant.Key{App: "zoom", Tenant: fmt.Sprint(i)}).ReadFresh(t.Context()); err != nil {
				t.Fatal(err)
			} else if s != nil {
				tokensAlone++
			}
		}
	}
	if tokensAlone < 2*grants-20 {
		t.Errorf("%d of %d reads were of the token alone", tokensAlone, 2*grants)
	}
}
