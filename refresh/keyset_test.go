package refresh_test

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// sealedWith is a worker with a keyset of its own, and its log.
func (f *fleet) sealedWith(aead tokencache.AEAD, name string) (*worker, *lines) {
	f.t.Helper()
	rdb, log := f.redis.Client(f.t), &lines{}
	cache, err := tokencache.New(rdb, tokencache.Config{Prefix: f.prefix, AEAD: aead})
	if err != nil {
		f.t.Fatal(err)
	}
	w := f.workerOn(rdb, func(cfg *refresh.Config) {
		cfg.Cache, cfg.Log, cfg.Name, cfg.Locker = cache, zerolog.New(log), name, nil
	})
	return w, log
}

// useDue connects grants that are in use and due.
func (f *fleet) useDue(w *worker, what string, n int) (tenants []string) {
	f.t.Helper()
	for i := range n {
		tenants = append(tenants, fmt.Sprint(what, i))
		f.connect(w, tenants[i], false)
		f.inUse(w, tenants[i])
	}
	return tenants
}

// A worker with the wrong keyset takes part in the renewals, and is the first that comes by.
func TestAWorkerWithAnotherKeysetDelaysNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	right, wrong := keyset(t), keyset(t)
	maker, _ := f.sealedWith(right, "maker")
	tenants := f.useDue(maker, "tenant", 20)
	stranger, log := f.sealedWith(wrong, "stranger/1")
	f.run(stranger)
	f.eventually("the stranger to look", func() bool { return log.count("not ready") > 0 })
	// It puts nothing off: for the others all is due still.
	f.eventually("all to be given back", func() bool {
		now := float64(f.redisNow(maker))
		return !slices.ContainsFunc(tenants, func(tenant string) bool { return f.score(maker, tenant) > now })
	})
	if n := len(f.server.Ledger()); n != 0 {
		t.Errorf("%d exchanges by a worker that can open nothing", n)
	}
	for i := range 3 {
		w, _ := f.sealedWith(right, fmt.Sprint("worker/", i))
		f.run(w)
	}
	f.renewed(15*time.Second, tenants)

	line := regexp.MustCompile(`"level":"error".*"process":"stranger/1".*"sealed_with":"key \d+ of a Tink keyset"`)
	log.mu.Lock()
	if n := len(slices.DeleteFunc(slices.Clone(log.all), func(l string) bool { return !line.MatchString(l) })); n != 1 {
		t.Errorf("it was said %d times which process needs which key: %v", n, log.all)
	}
	log.mu.Unlock()

	// Its callers are told, and hinder nobody.
	for range 3 {
		_, err := stranger.Token(f.ctx(), tenants[0])
		kind(t, err, refresh.ErrClientConfig, "sealed")
		kind(t, stranger.Refresh(f.ctx(), tenants[0]), refresh.ErrClientConfig, "sealed")
	}
	if err := maker.Refresh(f.ctx(), tenants[0]); err != nil {
		t.Error(err)
	}
	f.lawful(maker, tenants[0])
}

// Of two keysets a process has one: what it cannot open, it passes over.
func TestRunPassesOverGrantsThatItCannotOpen(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	mine := keyset(t)
	theirs, _ := f.sealedWith(keyset(t), "theirs")
	others := f.useDue(theirs, "other", 200) // due before mine, and more than are taken at once in each shard
	ours, _ := f.sealedWith(mine, "ours")
	tenants := f.useDue(ours, "tenant", 20)
	for i, tenant := range tenants { // behind those
		if err := ours.rdb.ZAdd(f.ctx(), f.dueKey(f.shardOf(ours.rdb, tenant)), dueAt(tenant, f.redisNow(ours)-int64(i))).Err(); err != nil {
			t.Fatal(err)
		}
	}
	f.run(ours)
	f.renewed(20*time.Second, tenants)
	for tenant := range f.presentedFor() {
		if slices.Contains(others, tenant) {
			t.Errorf("%s was presented", tenant)
		}
	}
}
