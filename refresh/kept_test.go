package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// impatient makes CommitPatience pass within a test.
func impatient(cfg *refresh.Config) { cfg.CommitPatience = time.Second }

// stored is the generation in Redis.
func (f *fleet) stored(w *worker, tenant string) int64 {
	n, _ := w.rdb.HGet(f.ctx(), f.prefix+":{zoom:"+tenant+"}:grant", "gen").Int64()
	return n
}

// logged is a worker whose log is kept.
func logged(to *lines) func(*refresh.Config) {
	return func(cfg *refresh.Config) { cfg.Log = zerolog.New(to) }
}

// trouble is how a Redis stops taking writes, and takes them again.
type trouble struct {
	start    func(t *testing.T) *redistest.Server
	ail      func(t *testing.T, s *redistest.Server, rdb *redis.Client)
	recover  func(t *testing.T, s *redistest.Server, rdb *redis.Client)
	survives bool // a pair is stored all the same
}

func configSet(name, value string) func(*testing.T, *redistest.Server, *redis.Client) {
	return func(t *testing.T, _ *redistest.Server, rdb *redis.Client) {
		if err := rdb.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func own(t *testing.T) *redistest.Server { return redistest.Own(t) }

var troubles = map[string]trouble{
	"OOM":        {own, configSet("maxmemory", "1"), configSet("maxmemory", "0"), true},
	"NOREPLICAS": {own, configSet("min-replicas-to-write", "1"), configSet("min-replicas-to-write", "0"), false},
	"READONLY": {own,
		func(t *testing.T, _ *redistest.Server, rdb *redis.Client) {
			if err := rdb.ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
				t.Fatal(err)
			}
		},
		func(t *testing.T, _ *redistest.Server, rdb *redis.Client) {
			if err := rdb.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
				t.Fatal(err)
			}
		}, false},
	"MISCONF": {
		func(t *testing.T) *redistest.Server {
			return redistest.Own(t, redistest.Set("dir", gone(t)), redistest.Set("save", "3600 1000000"))
		},
		func(t *testing.T, _ *redistest.Server, rdb *redis.Client) {
			dir := rdb.ConfigGet(t.Context(), "dir").Val()["dir"]
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			rdb.BgSave(t.Context())
			for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
				if err := rdb.Set(t.Context(), "probe", "x", 0).Err(); err != nil && strings.HasPrefix(err.Error(), "MISCONF") {
					return
				}
				if time.Now().After(end) {
					t.Fatal("the background save does not fail")
				}
			}
		}, configSet("stop-writes-on-bgsave-error", "no"), false},
	"away": {
		func(t *testing.T) *redistest.Server { return redistest.Own(t, redistest.AOF()) },
		func(t *testing.T, s *redistest.Server, _ *redis.Client) { s.Kill(t) },
		func(t *testing.T, s *redistest.Server, _ *redis.Client) { s.Restart(t) }, false},
}

// gone is a directory that will not be there for long.
func gone(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ailing is a worker that has been answered by the provider while Redis takes no writes, for much
// longer than CommitPatience.
func ailing(t *testing.T, how trouble, alter ...func(*refresh.Config)) (f *fleet, w *worker, rdb *redis.Client) {
	t.Helper()
	f = newFleet(t, refreshtest.Config{})
	f.redis = how.start(t)
	rdb = f.redis.Client(t)
	w = f.worker(append([]func(*refresh.Config){short, impatient}, alter...)...)
	f.connect(w, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	got := make(chan error, 1)
	go func() {
		tok, err := f.tokenAfterAll(w, "acme")
		if err == nil && !f.server.AccessAlive(tok.AccessToken) {
			err = errors.New("a dead token")
		}
		got <- err
	}()
	gate.Await(t)
	how.ail(t, f.redis, rdb)
	gate.Release()
	if err := <-got; err != nil {
		t.Fatalf("the pair is not served: %v", err)
	}
	if how.survives {
		return f, w, rdb
	}
	time.Sleep(3 * time.Second) // three times CommitPatience: the law is about it
	if s := w.cache.Grant(key("acme")).Recall(); s == nil || !s.Pending || s.Generation != 2 {
		t.Fatalf("the pair is not waiting to be stored: %+v", s)
	}
	return f, w, rdb
}

func TestAPairThatRedisRefusesIsStoredByTheProcessOnceRedisIsWell(t *testing.T) {
	t.Parallel()
	for name, how := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, w, rdb := ailing(t, how)
			if !how.survives {
				how.recover(t, f.redis, rdb)
			}
			f.eventually("the pair to be stored", func() bool { return f.stored(w, "acme") == 2 })
			if how.survives {
				how.recover(t, f.redis, rdb)
			}
			f.lawful(f.worker(short), "acme")
			f.token(f.worker(short), "acme")
		})
	}
}

func TestAPairThatRedisRefusesIsStoredByClose(t *testing.T) {
	t.Parallel()
	for name, how := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, w, rdb := ailing(t, how, func(cfg *refresh.Config) { cfg.CommitPatience = 10 * time.Second })
			how.recover(t, f.redis, rdb)
			if err := w.Close(f.ctx()); err != nil {
				t.Fatalf("Close: %v", err)
			}
			b := f.worker(short)
			if f.stored(b, "acme") != 2 {
				t.Error("Close returned, and the pair is not stored")
			}
			f.lawful(b, "acme")
		})
	}
}

func TestCloseNamesTheGrantsWhosePairsItLeavesBehind(t *testing.T) {
	t.Parallel()
	f, w, rdb := ailing(t, troubles["NOREPLICAS"])
	watch := redistest.StartStopwatch(t)
	err := w.Close(f.ctx())
	if err == nil || !strings.Contains(err.Error(), "zoom:acme, generation 2") || !strings.Contains(err.Error(), "NOREPLICAS") {
		t.Errorf("Close: %v", err)
	}
	if took, over := watch.Over(10 * time.Second); took < time.Second || over {
		t.Errorf("Close took %v with a CommitPatience of 1 s", took)
	}
	for _, tok := range f.server.Issued() {
		if strings.Contains(fmt.Sprint(err), tok) {
			t.Error("the error holds a token")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Close(ctx); err == nil || !strings.Contains(err.Error(), "zoom:acme, generation 2") {
		t.Errorf("Close whose ctx has ended: %v", err)
	}
	troubles["NOREPLICAS"].recover(t, f.redis, rdb) // the process lives on
	b := f.worker(short)
	f.eventually("the pair to be stored", func() bool { return f.stored(b, "acme") == 2 })
	f.lawful(b, "acme")
}

// A pair that waits takes no part in what memory has room for.
func TestAPairThatWaitsIsNotPushedOutOfMemory(t *testing.T) {
	t.Parallel()
	how := troubles["NOREPLICAS"]
	prefix := redistest.Prefix(t)
	ail := how.ail
	how.ail = func(t *testing.T, s *redistest.Server, rdb *redis.Client) {
		crowd, err := tokencache.New(rdb, tokencache.Config{Prefix: prefix, AEAD: tokencache.Plaintext})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			_, err := crowd.Grant(key(fmt.Sprint("crowd-", i))).As("crowd").Connect(t.Context(), func(now int64) grant.Pair {
				return grant.Pair{AccessToken: grant.Hide("at"), IssuedAt: now, RefreshAt: now + 3e6, ExpiresAt: now + 3e6}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		ail(t, s, rdb)
	}
	f, w, rdb := ailing(t, how, func(cfg *refresh.Config) {
		cache, err := tokencache.New(cfg.Cache.Redis(), tokencache.Config{Prefix: prefix, AEAD: tokencache.Plaintext, HotGrants: 1})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Cache = cache
	})
	for i := range 20 {
		for range 2 {
			f.token(w, fmt.Sprint("crowd-", i))
		}
	}
	f.token(w, "acme")
	if s := w.cache.Grant(key("acme")).Recall(); s == nil || !s.Pending {
		t.Error("pushed out")
	}
	how.recover(t, f.redis, rdb)
	f.prefix = prefix
	f.eventually("the pair to be stored", func() bool { return f.stored(w, "acme") == 2 })
}

// The master dies after the claim, with the answer on its way.
func TestAPairIsStoredOnTheNextMaster(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	fo := redistest.StartFailover(t)
	f.redis = fo.Master
	w := f.workerOn(fo.Client(t), impatient)
	f.connect(w, "acme", true)
	f.eventually("the consent on the replica", func() bool {
		return fo.Replica.Client(t).Exists(f.ctx(), f.prefix+":{zoom:acme}:secret").Val() == 1
	})
	gate := f.server.Hold(refreshtest.AfterCommit)
	got := make(chan error, 1)
	go func() { _, err := w.Token(f.ctx(), "acme"); got <- err }()
	gate.Await(t)
	fo.Master.Kill(t)
	gate.Release()
	if err := <-got; err != nil {
		t.Errorf("the pair is not served: %v", err)
	}
	f.eventually("the pair to be stored", func() bool { return f.stored(w, "acme") == 2 })
	f.lawful(w, "acme")
}

// scriptsSeen are the first keys of the scripts that a client runs, in order.
type scriptsSeen struct {
	mu   sync.Mutex // guards keys
	keys []string
}

func (o *scriptsSeen) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o *scriptsSeen) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); len(args) > 3 && strings.HasPrefix(cmd.Name(), "eval") {
			o.mu.Lock()
			o.keys = append(o.keys, fmt.Sprint(args[3]))
			o.mu.Unlock()
		}
		return next(ctx, cmd)
	}
}

func (o *scriptsSeen) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (o *scriptsSeen) first(part string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.IndexFunc(o.keys, func(key string) bool { return strings.Contains(key, part) })
}

func (o *scriptsSeen) last(part string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, key := range slices.Backward(o.keys) {
		if strings.Contains(key, part) {
			return i
		}
	}
	return -1
}

// The pair is stored before the fleet is told what it says about the app.
func TestThePairIsStoredBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	rdb := f.redis.Client(t)
	w := f.workerOn(rdb)
	f.connect(w, "acme", true)
	order := &scriptsSeen{}
	rdb.AddHook(order)
	f.token(w, "acme") // the first acceptance of the app, which is told
	f.eventually("word about the app", func() bool { return order.first(":app:zoom") >= 0 })
	grant := order.last("{zoom:acme}:grant")
	if app := order.first(":app:zoom"); app < grant {
		t.Errorf("the app's script ran as number %d, the grant's last as %d: %v", app, grant, order.keys)
	}
}
