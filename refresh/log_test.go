package refresh_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// of are the lines of a level, without those of another message if one is given.
func (l *lines) of(level string, message ...string) (some []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["level"] == level && (len(message) == 0 || strings.Contains(line, message[0])) {
			some = append(some, fields)
		}
	}
	return some
}

// A refresh is one line at info, which says why it was made, how long it took, for how many callers, and by
// which process.
func TestARefreshIsOneLine(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	log := &lines{}
	w := f.named("w1", func(cfg *refresh.Config) { cfg.Log = zerolog.New(log) })
	f.connect(w, "acme", true)
	before := len(log.of("info"))
	gate := f.server.Hold(refreshtest.AfterCommit)
	var callers sync.WaitGroup
	for range 5 {
		callers.Go(func() { _, _ = w.Token(f.ctx(), "acme") })
	}
	gate.Await(t)
	time.Sleep(100 * time.Millisecond) // the others join: nothing tells when they have
	gate.Release()
	callers.Wait()
	all := log.of("info")[before:]
	if len(all) != 1 || len(log.of("warn"))+len(log.of("error")) > 0 {
		t.Fatalf("%v", log.all)
	}
	line := all[0]
	took, _ := line["took_ms"].(float64)
	waited, _ := line["waited"].(float64)
	if line["message"] != "refreshed" || line["tenant"] != "acme" || line["why"] != "asked" || line["by"] != "w1" || took < 50 || waited < 1 || waited > 5 {
		t.Errorf("%v", line)
	}
}

// A customer who uninstalls the app is no error: nobody is to be paged for that.
func TestATenantsOwnTroubleIsAWarning(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	log := &lines{}
	w := f.worker(func(cfg *refresh.Config) { cfg.Log = zerolog.New(log) })
	f.connect(w, "acme", true)
	f.server.Revoke("acme")
	_, err := w.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrReauthorize, "invalid_grant")
	if errs := log.of("error"); len(errs) > 0 || len(log.of("warn", "the tenant must reauthorize")) != 1 {
		t.Errorf("%v", log.all)
	}
}

// However much of a process finds Redis away, the log says it once, every ten seconds while it lasts, and once
// when it is over.
func TestARedisThatIsAwayIsOneLineAndOneWhenItIsBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	proxy, log := redistest.NewProxy(t, f.redis.Addr()), &lines{}
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: -1, DialTimeout: 10 * time.Second})
	t.Cleanup(func() { rdb.Close() })
	cache, err := tokencache.New(rdb, tokencache.Config{Prefix: f.prefix, AEAD: tokencache.Plaintext, Log: zerolog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	w := f.workerOn(rdb, func(cfg *refresh.Config) {
		cfg.Cache, cfg.Log, cfg.Locker = cache, zerolog.New(log), lock.New(lock.Config{}, rdb)
	})
	f.connect(w, "acme", false)
	f.connect(w, "due", true)
	f.inUse(w, "due")
	f.token(w, "acme")
	f.listens(w, "acme")
	f.run(w)
	f.eventually("the renewal", func() bool { return len(log.of("info", "refreshed")) > 0 })
	log.forget() // on a busy machine there may be something to tell before
	proxy.Refuse()
	proxy.Cut()
	f.eventually("the second line", func() bool {
		_, _ = w.Token(f.ctx(), "acme")
		_, _ = w.Token(f.ctx(), "unknown")
		return len(log.of("error")) > 0
	})
	proxy.Accept()
	f.eventually("the end", func() bool { return len(log.of("info", "the connection to Redis is back")) == 1 })
	if warned := log.of("warn"); len(warned) != 1 || warned[0]["message"] != "the connection to Redis is lost: valid tokens are served, and nothing is refreshed until it is back" {
		t.Errorf("%v", warned)
	}
	if errs := log.of("error"); len(errs) != 1 || errs[0]["message"] != "there is still no connection to Redis" || errs[0]["away_ms"].(float64) < 10_000 {
		t.Errorf("%v", errs)
	}
}
