package refresh_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

// deployment is a fleet with a database, a prefix and a keyset of its own, and a provider of its
// own, on a server that it shares.
type deployment struct {
	*fleet
	db   int
	aead tokencache.AEAD

	mu     sync.Mutex // guards events
	events map[string]refresh.EventKind
}

func newDeployment(t *testing.T, server *redistest.Server, db int, prefix string, aead tokencache.AEAD) *deployment {
	t.Helper()
	f := newFleet(t, refreshtest.Config{})
	f.redis, f.prefix = server, prefix
	return &deployment{fleet: f, db: db, aead: aead, events: map[string]refresh.EventKind{}}
}

func (d *deployment) start() *worker {
	d.t.Helper()
	rdb := d.redis.ClientWith(d.t, func(o *redis.Options) { o.DB = d.db })
	return d.workerOn(rdb, func(cfg *refresh.Config) {
		cache, err := tokencache.New(rdb, tokencache.Config{Prefix: d.prefix, AEAD: d.aead})
		if err != nil {
			d.t.Fatal(err)
		}
		cfg.Cache = cache
		cfg.OnEvent = func(e refresh.Event) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.events[e.ID] = e.Kind
		}
	})
}

// heat makes a worker serve a tenant from memory.
func (d *deployment) heat(w *worker) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); w.cache.Grant(key("acme")).Peek() == nil; {
		d.token(w, "acme")
		if time.Now().After(deadline) {
			d.t.Fatal("memory does not become coherent")
		}
	}
}

// kinds counts what was told, by kind.
func (d *deployment) kinds() map[refresh.EventKind]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := map[refresh.EventKind]int{}
	for _, kind := range d.events {
		n[kind]++
	}
	return n
}

func keyset(t *testing.T) tokencache.AEAD {
	t.Helper()
	keys, err := seal.Generate()
	if err != nil {
		t.Fatal(err)
	}
	aead, err := seal.FromJSON(keys)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// Channels know no database numbers: deployments in two databases of one server hear each other.
func TestDeploymentsOnOneServerLeaveEachOtherAlone(t *testing.T) {
	t.Parallel()
	same := keyset(t)
	for name, aeads := range map[string][2]tokencache.AEAD{
		"plaintext": {tokencache.Plaintext, tokencache.Plaintext}, "one keyset": {same, same}, "two keysets": {same, keyset(t)},
	} {
		for _, apart := range []string{"by database", "by prefix"} {
			t.Run(name+" "+apart, func(t *testing.T) {
				t.Parallel()
				server := redistest.Own(t)
				ours, theirs := newDeployment(t, server, 0, "tl", aeads[0]), newDeployment(t, server, 1, "tl", aeads[1])
				if apart == "by prefix" {
					theirs.db, theirs.prefix = 0, "tl:staging"
				}
				leaveEachOtherAlone(t, ours, theirs, apart == "by database")
			})
		}
	}
}

func leaveEachOtherAlone(t *testing.T, ours, theirs *deployment, flush bool) {
	a, b := ours.start(), ours.start()
	ours.connect(a, "acme", false)
	ours.heat(a)
	ours.heat(b)
	if err := a.Refresh(ours.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	ours.knows(b, "acme", 2)
	want := ours.token(a, "acme").AccessToken
	root := ours.redis.Client(t)
	record := root.HGetAll(t.Context(), "tl:{zoom:acme}:grant").Val()
	secret := root.Get(t.Context(), "tl:{zoom:acme}:secret").Val()

	same := func(after string) {
		t.Helper()
		for _, w := range []*worker{a, b} {
			if got := ours.token(w, "acme").AccessToken; got != want {
				t.Errorf("after their %s another token is served", after)
			}
			s, err := w.cache.Grant(key("acme")).Read(ours.ctx())
			if err != nil || s.Pair.AccessToken.Reveal() != want {
				t.Errorf("after their %s: read %v, %v", after, s, err)
			}
		}
		now := root.HGetAll(t.Context(), "tl:{zoom:acme}:grant").Val()
		for field, value := range record {
			if field != "used_at" && now[field] != value {
				t.Errorf("after their %s: %s is %q, was %q", after, field, now[field], value)
			}
		}
		if root.Get(t.Context(), "tl:{zoom:acme}:secret").Val() != secret {
			t.Errorf("after their %s our pair was changed", after)
		}
	}
	x, y := theirs.start(), theirs.start()
	theirs.connect(x, "acme", false) // of a later epoch
	theirs.heat(x)
	theirs.heat(y)
	same("consent")
	for range 3 {
		if err := x.Refresh(theirs.ctx(), "acme"); err != nil {
			t.Fatal(err)
		}
	}
	same("refreshes")
	theirs.knows(y, "acme", 4)
	base, err := y.cache.Grant(key("acme")).Read(theirs.ctx())
	if err != nil {
		t.Fatal(err)
	}
	name := theirs.prefix + ":{zoom:acme}:"
	if err := x.rdb.Del(theirs.ctx(), name+"grant", name+"secret").Err(); err != nil {
		t.Fatal(err)
	}
	if s, err := y.cache.Grant(key("acme")).Read(theirs.ctx()); err != nil || s.Generation != base.Generation { // restores
		t.Fatalf("%v %v", s, err)
	}
	same("restore")
	if err := x.Disconnect(theirs.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	same("end")
	if _, err := y.cache.Grant(key("acme")).Ask(theirs.ctx(), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	same("question")
	theirs.connect(x, "acme", false)
	if flush {
		if err := x.rdb.(*redis.Client).FlushDB(theirs.ctx()).Err(); err != nil {
			t.Fatal(err)
		}
		_, _ = x.Token(theirs.ctx(), "acme")
		same("FLUSHDB")
	}
	if err := b.Refresh(ours.ctx(), "acme"); err != nil {
		t.Errorf("Refresh: %v", err)
	}
	ours.lawful(b, "acme")
	if v := theirs.server.Ledger().Violations(theirs.profile); len(v) > 0 {
		t.Errorf("theirs: %s", v)
	}
	deadline := time.Now().Add(patience)
	for ours.kinds()[refresh.EventRefreshed] < 2 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if got := ours.kinds(); got[refresh.EventConnected] != 1 || got[refresh.EventRefreshed] != 2 || len(got) != 2 {
		t.Errorf("we were told %v: theirs, too", got)
	}
	if err := b.Disconnect(ours.ctx(), "acme"); err != nil {
		t.Error(err)
	}
	if _, err := b.Token(ours.ctx(), "acme"); !errors.Is(err, refresh.ErrNotConnected) {
		t.Errorf("after our own end: %v", err)
	}
}
