package store

import (
	"context"
	"slices"
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

	mu     sync.Mutex // guards latest
	latest *slotLoad
}

// slotLoad is one load of the map.
type slotLoad struct {
	begun mono.Time
	done  chan struct{} // closed when nodes are there
	nodes []*redis.Client
}

// loadsApart is how long after a load the next one begins: all who wait for a silent node ask for one, once
// a second each, and the nodes that answer have enough to do then.
const loadsApart = 100 * time.Millisecond

// maxLoads is how many loads run at once after commands that were not answered.
const maxLoads = 4

// load loads the map, and returns the masters in it, which are the caller's own; nil where it is not a Cluster,
// or ctx ends. Those who ask at about the same time share a load. go-redis asks the nodes in an order of
// chance, each for as long as it has patience: one load may come upon a node that is silent, and the next
// one not.
func (m *slotMap) load(ctx context.Context) []*redis.Client {
	cluster, ok := m.rdb.(*redis.ClusterClient)
	if !ok {
		return nil
	}
	m.mu.Lock()
	l := m.latest
	if l == nil || mono.Now()-l.begun >= loadsApart {
		l = &slotLoad{begun: mono.Now(), done: make(chan struct{})}
		m.latest = l
		go func() { // it ends with go-redis' patience, or with the client
			defer close(l.done)
			l.nodes = loadMasters(context.WithoutCancel(ctx), cluster)
		}()
	}
	m.mu.Unlock()
	select {
	case <-l.done:
		return slices.Clone(l.nodes)
	case <-ctx.Done():
		return nil
	}
}

// loadMasters is one load. A node that has left the Cluster may be asked, and knows none: others are asked then.
func loadMasters(ctx context.Context, cluster *redis.ClusterClient) (nodes []*redis.Client) {
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
