package refresh_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// Whoever notices an empty Redis first puts the proof key back: the processes of another app of this prefix
// must notice the loss all the same, and nobody a second one when a backup is restored.
func TestEachAppGivesBackWhatRedisHasLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	rdb := f.redis.Client(t)
	var ended atomic.Int32 // restorations: to put the key back is the last thing that each process does
	client := func() *redis.Client {
		c := f.redis.Client(t)
		c.AddHook(after(func(cmd redis.Cmder) {
			if args := cmd.Args(); strings.HasPrefix(cmd.Name(), "set") && args[1] == f.prefix+":proof" {
				ended.Add(1)
			}
		}))
		return c
	}
	zoom := f.workerOn(client())
	hubspot := f.workerOn(client(), func(c *refresh.Config) { c.App = "hubspot" })
	tenants := []string{"a", "b", "c", "d"}
	for _, w := range []*worker{zoom, hubspot} {
		for _, tenant := range tenants {
			f.connect(w, tenant, false)
			f.token(w, tenant)
		}
	}
	backup := rdb.Get(f.ctx(), f.prefix+":proof").Val()

	ended.Store(0)
	rdb.FlushAll(f.ctx())
	for _, app := range []string{"zoom", "hubspot"} {
		f.givenBack(rdb, app, tenants)
		if f.lostAt(rdb, app) == "" {
			t.Errorf("%s: nobody says that Redis has lost its data: an unknown tenant counts as not connected", app)
		}
	}
	f.eventually("both processes to be done", func() bool { return ended.Load() == 2 })
	if now := rdb.Get(f.ctx(), f.prefix+":proof").Val(); now != backup+".1" {
		t.Errorf("the key of %q is put back as %q", backup, now)
	}

	rdb.Set(f.ctx(), f.prefix+":proof", backup, 0)
	for _, app := range []string{"zoom", "hubspot"} {
		rdb.HDel(f.ctx(), f.prefix+":app:"+app, "lost_at", "born", "born_before")
		for _, key := range rdb.Keys(f.ctx(), f.prefix+":{"+app+":*").Val() {
			rdb.Del(f.ctx(), key)
		}
	}
	for _, app := range []string{"zoom", "hubspot"} {
		f.givenBack(rdb, app, tenants)
		if at := f.lostAt(rdb, app); at != "" {
			t.Errorf("%s: a backup without a loss was restored, and it has one of %s", app, at)
		}
	}
}

func (f *fleet) lostAt(rdb *redis.Client, app string) string {
	return rdb.HGet(f.ctx(), f.prefix+":app:"+app, "lost_at").Val()
}

// givenBack waits until an app has all its grants again.
func (f *fleet) givenBack(rdb *redis.Client, app string, tenants []string) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n := 0
		for _, tenant := range tenants {
			n += int(rdb.Exists(f.ctx(), f.prefix+":{"+app+":"+tenant+"}:grant").Val())
		}
		if n == len(tenants) {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("%s: %d of %d grants are given back", app, n, len(tenants))
		}
	}
}
