package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// slotMap has go-redis load a Cluster's map of the slots.
type slotMap struct {
	rdb   redis.UniversalClient
	asked atomic.Int64 // mono: when commands that were not answered last had it loaded
	loads atomic.Int32 // how many such loads run, which a silent node keeps waiting
}

// maxLoads is how many loads run at once after commands that were not answered.
const maxLoads = 4

// load loads the map, and returns the masters in it; nil where it is not a Cluster. go-redis asks the nodes
// in an order of chance, each for as long as it has patience: one load may come upon a node that is silent,
// and the next one not. A node that has left the Cluster may be asked, and knows none: others are asked then.
func (m *slotMap) load(ctx context.Context) (nodes []*redis.Client) {
	cluster, ok := m.rdb.(*redis.ClusterClient)
	if !ok {
		return nil
	}
	for range 5 {
		var mu sync.Mutex // ForEachMaster calls at the same time
		err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			nodes = append(nodes, node)
			return nil
		})
		if err != nil || len(nodes) > 0 {
			break
		}
	}
	return nodes
}

// loadSoon loads the map in the background, at most once a second.
func (m *slotMap) loadSoon() {
	now, last := mono.Now(), m.asked.Load()
	if now-mono.Time(last) < time.Second || !m.asked.CompareAndSwap(last, int64(now)) {
		return
	}
	if m.loads.Add(1) > maxLoads {
		m.loads.Add(-1)
		return
	}
	go func() { // it ends with go-redis' patience, or with the client
		defer m.loads.Add(-1)
		m.load(context.Background())
	}()
}
