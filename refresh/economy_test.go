package refresh_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// apart is a Cluster on which slots that are not served stop nobody else, and a worker's client.
func apart(f *fleet) (*redistest.Cluster, *redis.ClusterClient) {
	f.t.Helper()
	cluster := redistest.StartCluster(f.t)
	for _, n := range cluster.Nodes {
		if err := n.Client(f.t).ConfigSet(f.ctx(), "cluster-require-full-coverage", "no").Err(); err != nil {
			f.t.Fatal(err)
		}
	}
	return cluster, cluster.Client(f.t)
}

// The node that has an app's state, or its budget, is away. Only the node of a grant decides
// about that grant.
func TestTheNodeOfTheAppsStateIsNotThatOfItsGrants(t *testing.T) {
	t.Parallel()
	for _, budget := range []provider.Budget{{}, {Requests: 1000, Per: time.Second}, {Concurrency: 20}} {
		t.Run(fmt.Sprint(budget.Requests, budget.Concurrency), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.profile.Budget = budget
			cluster, client := apart(f)
			warm := f.workerOn(client)
			away := warm.cache.App("zoom").AppKey()
			switch {
			case budget.Requests > 0:
				away = "rate:" + away
			case budget.Concurrency > 0:
				away = f.prefix + ":inflight:zoom"
			}
			node := func(key string) string {
				m, err := client.MasterForKey(f.ctx(), key)
				if err != nil {
					t.Fatal(err)
				}
				return m.Options().Addr
			}
			gone := node(away)
			var tenants []string
			for i := 0; len(tenants) < 9; i++ {
				tenant := fmt.Sprint("tenant", i)
				if node(f.prefix+":{zoom:"+tenant+"}:grant") == gone {
					continue
				}
				f.connect(warm, tenant, true)
				tenants = append(tenants, tenant)
			}
			f.token(warm, tenants[0])
			for i, n := range cluster.Nodes {
				if n.Addr() == gone {
					cluster.Nodes[i].Kill(t)
				}
			}
			cold := f.workerOn(cluster.Client(t))
			for i, w := range []*worker{warm, cold} {
				start := time.Now()
				// A worker whose subscriber connection was to that node says so, and connects anew.
				f.recovers(w, tenants[1+4*i:4+4*i])
				t.Logf("worker %d: served after %v", i, time.Since(start))
			}
		})
	}
}

// What lies at the app's key, or at the budget's, cannot be read: exchanges go on.
func TestAnAppsStateThatCannotBeReadStopsNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.Budget = provider.Budget{Requests: 1000, Per: time.Second, Concurrency: 20}
	w := f.worker()
	tenants := f.expired(w, 3)
	for _, key := range []string{w.cache.App("zoom").AppKey(), "rate:" + w.cache.App("zoom").AppKey(), f.prefix + ":inflight:zoom"} {
		if err := w.rdb.LPush(f.ctx(), key, "x").Err(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.rdb.Del(f.ctx(), key) })
	}
	for tenant, err := range f.all(w, tenants) {
		if err != nil {
			t.Errorf("%s: %v", tenant, err)
		}
	}
	f.inUse(w, tenants[0])
	events := w.Events(t.Context())
	f.listening(w, 1)
	f.due(w, tenants[0], time.Minute)
	f.run(f.worker())
	f.hears(events, refresh.EventRefreshed, tenants[0])
}

// What is known of the app costs no command, nor does an exchange that goes well.
func TestWhenAllIsWellTheAppsStateCostsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	w := f.worker()
	f.accepted(w)
	s := f.state(w, "a settled state", func(s *engine.AppState) bool { return s.ReadAt != 0 })
	if err := w.cache.App("zoom").WatchApp(f.ctx()); err != nil {
		t.Fatal(err)
	}
	tenants := f.expired(w, 5)
	f.token(w, tenants[0])
	rdb := f.redis.Client(t)
	calls := redistest.Commands(t, rdb, func() {
		for _, tenant := range tenants {
			if err := w.Refresh(f.ctx(), tenant); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(50 * time.Millisecond) // the leases are released a moment later
	})
	if n := calls["hgetall"]; n != 2*len(tenants) { // each script looks at one hash
		t.Errorf("%d hashes were read for %d exchanges, not the record at claim and commit: %v", n, len(tenants), calls)
	}
	if known := w.cache.App("zoom").KnownApp(); known.Rev != s.Rev {
		t.Errorf("the app's state was written: %+v", known)
	}
}
