package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// go-redis asks a Cluster which node has what once a minute, and when a node says MOVED. One that is
// away says nothing, so this process has it asked again: every few seconds, and when a node has not
// answered.

// masters are a Cluster's, by a map of the slots that is loaded now. A node that has left the Cluster
// may be asked for it, and knows none: others are asked then.
func masters(ctx context.Context, cluster *redis.ClusterClient) (nodes []*redis.Client) {
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

// watchMasters looks every few seconds whether a Cluster has a new master, which may not have all
// that the one before had, until ctx ends. The subscriber connection need not notice that, nor does a
// process at rest. To go-redis a node that is away says nothing of who has taken its place: it would
// ask the next time in a minute.
func (c *Cache) watchMasters(ctx context.Context) {
	cluster, ok := c.rdb.(*redis.ClusterClient)
	if !ok {
		return
	}
	var work sync.WaitGroup
	defer work.Wait()
	var known masterSet
	for {
		if known.asking.Add(1) <= hub.MaxBeats {
			work.Go(func() { // a node that does not answer must not hold up the next look
				fresh := known.fresh(masters(ctx, cluster))
				known.asking.Add(-1)
				if fresh {
					c.readAgain(ctx, mono.Now())
				}
			})
		} else {
			known.asking.Add(-1)
		}
		if mono.Sleep(ctx, lookEvery) != nil {
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

// unanswered is told of errors of commands. On a Cluster, where a node has not answered, it has
// the map of the slots loaded again, at most once a second.
func (st *store) unanswered(err error) {
	cluster, ok := st.rdb.(*redis.ClusterClient)
	if !ok || !noAnswer(err) {
		return
	}
	now, last := mono.Now(), st.reloaded.Load()
	if now-mono.Time(last) >= time.Second && st.reloaded.CompareAndSwap(last, int64(now)) {
		cluster.ReloadState(context.Background())
	}
}

// noAnswer reports whether an error is none that Redis has answered, or says that a Cluster is down.
func noAnswer(err error) bool {
	var said redis.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &said):
		return strings.HasPrefix(said.Error(), "CLUSTERDOWN ")
	}
	return true
}

// hedge is after how long a Cluster's node that does not answer is asked again.
const hedge = time.Second

var errNodeSilent = errors.New("tokencache: a node of the Cluster does not answer")

// insist asks something of a Cluster that may be asked twice, and asks anew, by the map of the slots as
// it is then, while there is no answer. go-redis sends a transaction that is not answered to the
// same node again, for up to a minute, and so does whoever has picked the node himself.
func insist[T any](ctx context.Context, st *store, ask func() (T, error)) (T, error) {
	type answer struct {
		got T
		err error
	}
	const most = 8
	answers := make(chan answer, most)
	again := time.NewTicker(hedge)
	defer again.Stop()
	for n := 1; ; n++ {
		if n <= most {
			go func() { // nobody waits for one in vain: it ends with go-redis' patience, or with the client
				got, err := ask()
				answers <- answer{got, err}
			}()
		}
		select {
		case a := <-answers:
			return a.got, a.err
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		case <-again.C:
			st.unanswered(errNodeSilent)
		}
	}
}

// nodeOf is the Redis that has a grant: on a Cluster its own node, to which also a PUBLISH about it
// is sent best: go-redis sends one to any node, which may be the one that is away.
func (g Grant) nodeOf(ctx context.Context) (node redis.Cmdable, addr string, err error) {
	cluster, ok := g.c.rdb.(*redis.ClusterClient)
	if !ok {
		return g.c.rdb, "", nil
	}
	master, err := cluster.MasterForKey(ctx, g.keys().grant())
	if err != nil {
		return nil, "", err
	}
	return master, master.Options().Addr, nil
}

// say publishes a message about a grant. It returns how many listen where it was sent to.
func (g Grant) say(ctx context.Context, body string) (listeners int64, err error) {
	channel := g.keys().events()
	message := g.c.sign(ctx, channel, body)
	node, addr, err := g.nodeOf(ctx)
	if err == nil {
		listeners, err = node.Publish(ctx, channel, message).Result()
	}
	g.c.db.unanswered(err)
	if err != nil && addr != "" {
		return g.c.rdb.Publish(ctx, channel, message).Result() // any node will do
	}
	return listeners, err
}
