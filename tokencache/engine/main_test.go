package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // servers are killed here, and go-redis says so at length
	goleak.VerifyTestMain(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// patience is far above what any of these tests takes on a busy machine.
const patience = 30 * time.Second

var acme = grant.Key{App: "zoom", Tenant: "acme"}

// newCache returns a cache, which forgets everything when the test ends.
func newCache(t testing.TB, rdb redis.UniversalClient, prefix string, alter ...func(*Config)) *Cache {
	t.Helper()
	cfg := Config{Prefix: prefix, AEAD: grant.Plaintext}
	for _, a := range alter {
		a(&cfg)
	}
	c, err := New(rdb, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeCache(t, c) })
	return c
}

// stranger is a cache with the same Redis that remembers nothing: what a test has written itself was not pushed.
func stranger(t testing.TB, c *Cache) *Cache {
	t.Helper()
	return newCache(t, c.rdb, string(c.names))
}

// closeCache forgets pinned grants too, and waits for the hub's end, and that of what goes on beside it.
func closeCache(t testing.TB, c *Cache) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for e := range c.mem.All() {
		c.mem.Drop(e)
	}
	for a := range c.apps.All() {
		c.apps.Forget(a.Name())
	}
	if err := c.hub.Wait(ctx); err != nil {
		t.Errorf("the hub does not end: %v", err)
	}
	if err := c.in.Idle(ctx); err != nil {
		t.Errorf("something goes on: %v", err)
	}
}

// entryOf is a hot grant's place in memory.
func entryOf(t testing.TB, c *Cache, k grant.Key) *memory.Entry {
	t.Helper()
	e, ok := c.mem.Entry(k)
	if !ok {
		t.Fatalf("%s is not hot", k)
	}
	return e
}

// evict forgets a grant unless it is pinned.
func evict(c *Cache, k grant.Key) {
	if e, ok := c.mem.Entry(k); ok {
		c.mem.Evict(e)
	}
}

// freshCache is a cache on a prefix of its own of a Redis that others may share.
func freshCache(t testing.TB, alter ...func(*Config)) *Cache {
	t.Helper()
	return newCache(t, redistest.Start(t).Client(t), redistest.Prefix(t), alter...)
}

// pairNo returns a pair that lives for an hour.
func pairNo(n int) func(now int64) grant.Pair {
	return func(now int64) grant.Pair {
		return grant.Pair{
			AccessToken: grant.Hide(fmt.Sprint("at-", n)), RefreshToken: grant.Hide(fmt.Sprint("rt-", n)), TokenType: "Bearer", Scope: "a b",
			IssuedAt: now, ExpiresAt: now + 3_600_000, RefreshAt: now + 3_000_000, RefreshTokenExpiresAt: now + 86_400_000,
		}
	}
}

func connect(t testing.TB, c *Cache, k grant.Key, n int) *Snapshot {
	t.Helper()
	s, err := c.Grant(k).As("connector").Connect(t.Context(), pairNo(n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t testing.TB, c *Cache, k grant.Key) *Snapshot {
	t.Helper()
	s, err := c.Grant(k).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func claim(t testing.TB, c *Cache, base *Snapshot, by string) *Snapshot {
	t.Helper()
	o, s, err := c.Grant(base.Key).As(by).Claim(t.Context(), base, NewID(), time.Minute, grant.AfterDeadline)
	if err != nil || o != grant.OutcomeOK {
		t.Fatalf("claim: %s, %v", o, err)
	}
	return s
}

func commit(t testing.TB, c *Cache, base *Snapshot, n int) *Snapshot {
	t.Helper()
	o, s, err := c.Grant(base.Key).As("committer").Commit(t.Context(), base, NewID(), pairNo(n)(base.At()), false, false)
	if err != nil || o != grant.OutcomeOK {
		t.Fatalf("commit: %s, %v", o, err)
	}
	return s
}

func disconnect(t testing.TB, c *Cache, k grant.Key) {
	t.Helper()
	if err := c.Grant(k).As("disconnector").Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// hset writes record fields behind the cache's back, to make a past or a future.
func hset(t testing.TB, c *Cache, k grant.Key, values ...any) {
	t.Helper()
	if err := c.rdb.HSet(context.Background(), c.Grant(k).keys().Grant(), values...).Err(); err != nil {
		t.Fatal(err)
	}
}

// lose deletes all that Redis has of a grant, as FLUSHALL would.
func lose(t testing.TB, c *Cache, k grant.Key) {
	t.Helper()
	ks := c.Grant(k).keys()
	if err := c.rdb.Del(context.Background(), ks.Grant(), ks.Secret(), ks.Spare(), ks.Journal()).Err(); err != nil {
		t.Fatal(err)
	}
}

// stored is what Redis has: the grant's keys, to be put back by rewind.
type stored struct {
	grant  map[string]string
	secret string
}

func remember(t testing.TB, c *Cache, k grant.Key) stored {
	t.Helper()
	ks := c.Grant(k).keys()
	return stored{c.rdb.HGetAll(t.Context(), ks.Grant()).Val(), c.rdb.Get(t.Context(), ks.Secret()).Val()}
}

// rewind puts an older state back, as the restore of a backup would.
func rewind(t testing.TB, c *Cache, k grant.Key, s stored) {
	t.Helper()
	lose(t, c, k)
	for name, value := range s.grant {
		hset(t, c, k, name, value)
	}
	if err := c.rdb.Set(t.Context(), c.Grant(k).keys().Secret(), s.secret, 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// hot pins a grant and waits until it is subscribed and coherent.
func hot(t testing.TB, c *Cache, k grant.Key) *Pin {
	t.Helper()
	p := c.Grant(k).Pin()
	t.Cleanup(p.Unpin)
	confirm(t, p)
	read(t, c, k)
	if c.Grant(k).Peek() == nil {
		t.Fatal("subscribed and read, and yet not coherent")
	}
	return p
}

func confirm(t testing.TB, p *Pin) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := p.Confirm(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no subscription: %v", err)
		}
	}
}

// until waits for news of a pinned grant until what it looks for is true.
func until(t testing.TB, p *Pin, what string, reached func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		news := p.Changed()
		if reached() {
			return
		}
		select {
		case <-news:
		case <-timeout:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// eventually is for what makes no event.
func eventually(t testing.TB, what string, within time.Duration, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", within, what)
		}
	}
}

// journaled is the kinds of a grant's journal entries, in order.
func journaled(t testing.TB, c *Cache, k grant.Key) []string {
	t.Helper()
	entries, err := c.rdb.XRange(t.Context(), c.Grant(k).keys().Journal(), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{}
	for _, e := range entries {
		kinds = append(kinds, fmt.Sprint(e.Values["kind"]))
	}
	return kinds
}

// published is the event in a message, whose sender must have proven that it may send it.
func published(t testing.TB, c *Cache, m *redis.Message) grant.Event {
	t.Helper()
	c.proof.Key(t.Context())
	body, ok := c.proof.Proven(m.Channel, m.Payload)
	if !ok {
		t.Fatalf("%s: %q is not proven", m.Channel, m.Payload)
	}
	if strings.HasPrefix(m.Channel, c.db.Names.Changes()) { // behind the grant's channel, and without a pair
		_, body, _ = strings.Cut(body, "\n")
		body += "\n\n"
	}
	e, err := grant.ParseEvent(body)
	if err != nil {
		t.Fatalf("published %q: %v", body, err)
	}
	return e
}
