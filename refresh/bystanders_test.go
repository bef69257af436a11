package refresh_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// One bad thing stops only what it is about.

func (f *fleet) dueKey(shard int) string { return fmt.Sprintf("%s:due:zoom:%02d", f.prefix, shard) }

// shardOf is in which due set a grant lies.
func (f *fleet) shardOf(rdb redis.UniversalClient, tenant string) int {
	f.t.Helper()
	for shard := range engine.DueShards {
		if rdb.ZScore(f.ctx(), f.dueKey(shard), tenant).Err() == nil {
			return shard
		}
	}
	f.t.Fatalf("no due set knows %s", tenant)
	return 0
}

// presentedFor are the tenants for which a refresh token was presented.
func (f *fleet) presentedFor() map[string]bool {
	all := map[string]bool{}
	for _, p := range f.server.Ledger() {
		all[p.Tenant] = true
	}
	return all
}

// renewed waits until those tenants' grants were refreshed.
func (f *fleet) renewed(within time.Duration, tenants []string) {
	f.t.Helper()
	if len(tenants) == 0 {
		f.t.Fatal("no grants: nothing would be proven")
	}
	start := time.Now()
	for {
		seen := f.presentedFor()
		missing := slices.DeleteFunc(slices.Clone(tenants), func(tenant string) bool { return seen[tenant] })
		if len(missing) == 0 {
			f.t.Logf("%d grants renewed after %v", len(tenants), time.Since(start))
			return
		}
		if time.Since(start) > within {
			f.t.Fatalf("after %v %d of %d grants were not renewed: %v", within, len(missing), len(tenants), missing)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestANodeThatIsAwayStopsNoOtherNodesRenewals(t *testing.T) {
	t.Parallel()
	for how, leave := range map[string]func(*testing.T, *redistest.Server){
		"killed": func(t *testing.T, s *redistest.Server) { s.Kill(t) },
		"hangs":  func(t *testing.T, s *redistest.Server) { s.Pause(t); t.Cleanup(func() { s.Resume(t) }) },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			cluster, client := apart(f)
			maker := f.workerOn(client)
			gone := cluster.Nodes[1]
			living := func(key string) bool {
				m, err := client.MasterForKey(f.ctx(), key)
				if err != nil {
					t.Fatal(err)
				}
				return m.Options().Addr != gone.Addr()
			}
			var tenants []string
			lost := ""
			now := f.redisNow(maker)
			for i := range 40 {
				tenant := fmt.Sprint("tenant", i)
				f.connect(maker, tenant, false)
				if !living(f.dueKey(f.shardOf(client, tenant))) || !living(f.prefix+":{zoom:"+tenant+"}:grant") {
					continue // its look is put off, or nobody knows of it
				}
				tenants = append(tenants, tenant)
				f.mark(maker, tenant, "used_at", now, "refresh_at", now+4000)
				if err := maker.cache.Grant(key(tenant)).Schedule(f.ctx(), now+4000); err != nil {
					t.Fatal(err)
				}
				if lost == "" { // one that no due set knows is found by a repair, which comes to the dead node too
					lost = tenant
					client.ZRem(f.ctx(), f.dueKey(f.shardOf(client, tenant)), tenant)
				}
			}
			log := &lines{}
			var workers []*worker
			for range 2 {
				w := f.workerOn(cluster.Client(t), func(cfg *refresh.Config) { cfg.Log = zerolog.New(log) })
				f.token(w, tenants[1])
				workers = append(workers, w)
			}
			leave(t, gone)
			for _, w := range workers {
				f.run(w)
			}
			f.renewed(45*time.Second, tenants)
			f.eventually("it to be said", func() bool { return log.count("looking for due grants failed") > 0 })
			if n := log.count("looking for due grants failed"); n > 2*4 {
				t.Errorf("it was said %d times that due sets are missing", n)
			}
		})
	}
}

// count is how many lines have a part.
func (l *lines) count(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func TestADueSetOfAnotherTypeStopsNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	var tenants []string
	for i := range 32 {
		tenants = append(tenants, fmt.Sprint("tenant", i))
		f.connect(w, tenants[i], false)
		f.inUse(w, tenants[i])
	}
	for _, shard := range []int{f.shardOf(w.rdb, tenants[0]), f.shardOf(w.rdb, tenants[1])} {
		w.rdb.Set(f.ctx(), f.dueKey(shard), "oops", 0)
	}
	log := &lines{}
	f.run(f.worker(func(cfg *refresh.Config) { cfg.Log = zerolog.New(log) }))
	f.renewed(20*time.Second, tenants) // also of these shards: they are made anew from the grants
	f.eventually("the log to say that a due set was damaged", func() bool { return log.has("error", "of another type") })
}

// A key of Run's own turns is there for ever, since somebody has made it by hand.
func TestATurnThatNobodyGivesBackEnds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	w.rdb.LPush(f.ctx(), f.prefix+":turn:zoom:repair", "oops")
	f.run(w)
	f.eventually("the turn to end by itself", func() bool {
		left, err := w.rdb.PTTL(f.ctx(), f.prefix+":turn:zoom:repair").Result()
		return err == nil && left > 0
	})
}

func dueAt(tenant string, at int64) redis.Z { return redis.Z{Score: float64(at), Member: tenant} }
