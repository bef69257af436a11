package server

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
)

// go-redis asks a Cluster which node has what once a minute, and when a node says MOVED. One that is
// away says nothing, so this process has it asked again: every few seconds, and when a node has not
// answered.

// WatchMasters calls changed, until ctx ends, each time that a Cluster has a new master, which may not have all
// that the one before had. It looks every few seconds. The subscriber connection need not notice that, nor does a
// process at rest. To go-redis a node that is away says nothing of who has taken its place: it would
// ask the next time in a minute.
func (v *Servers) WatchMasters(ctx context.Context, changed func(context.Context, mono.Time) bool) {
	if _, ok := v.db.Redis.(*redis.ClusterClient); !ok {
		return
	}
	var work sync.WaitGroup
	defer work.Wait()
	var known masterSet
	for {
		if known.asking.Add(1) <= hub.MaxBeats {
			work.Go(func() { // a node that does not answer must not hold up the next look
				fresh := known.fresh(v.db.Masters(ctx))
				known.asking.Add(-1)
				if fresh {
					changed(ctx, mono.Now())
				}
			})
		} else {
			known.asking.Add(-1)
		}
		if mono.Sleep(ctx, proof.LookEvery) != nil {
			return
		}
	}
}

// masterSet are a Cluster's masters, as they were last seen.
type masterSet struct {
	asking atomic.Int32 // how many look just now

	mu    sync.Mutex // guards addrs
	addrs []string
}

// fresh takes the masters as they are now, and reports whether one of them is new.
func (m *masterSet) fresh(nodes []*redis.Client) (fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(nodes) == 0 {
		return false
	}
	before := m.addrs
	m.addrs = nil
	for _, node := range nodes {
		addr := node.Options().Addr
		m.addrs = append(m.addrs, addr)
		fresh = fresh || before != nil && !slices.Contains(before, addr)
	}
	return fresh
}
