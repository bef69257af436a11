package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Masters are a Cluster's, by a map of the slots that is loaded now; nil where it is not a Cluster. A load that
// comes upon a silent node is not waited for: the next one begins soon, and asks the nodes in another order.
func (st *Store) Masters(ctx context.Context) []*redis.Client {
	if _, ok := st.Redis.(*redis.ClusterClient); !ok {
		return nil
	}
	nodes, _ := insist(ctx, hedge/4, func(int) ([]*redis.Client, error) { return st.slots.load(ctx), nil })
	return nodes
}

// NoteError takes the error of a command, or nil. On a Cluster, where a node has not answered, it has
// the map of the slots loaded again.
func (st *Store) NoteError(err error) {
	if _, ok := st.Redis.(*redis.ClusterClient); ok && NoAnswer(err) {
		st.slots.loadSoon()
	}
}

// NoAnswer reports whether an error is none that Redis has answered, or says that a Cluster is down. A client that
// is closed is neither: nobody answers by it any more.
func NoAnswer(err error) bool {
	var said redis.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, redis.ErrClosed):
		return false
	case errors.As(err, &said):
		return strings.HasPrefix(said.Error(), "CLUSTERDOWN ")
	}
	return true
}

// hedge is after how long a Cluster's node that does not answer is asked again.
const hedge = time.Second

// Insist asks something that may be asked twice. On a Cluster it loads the map of the slots and asks anew
// while there is no answer, once a second. go-redis sends a transaction that is not answered to the same
// node again, for up to a minute, and so does a caller that has picked the node itself.
func Insist[T any](ctx context.Context, st *Store, ask func() (T, error)) (T, error) {
	if _, ok := st.Redis.(*redis.ClusterClient); !ok {
		return ask()
	}
	return insist(ctx, hedge, func(n int) (T, error) {
		if n > 1 {
			st.slots.load(ctx)
		}
		return ask()
	})
}

// insist asks for the n-th time, counted from 1, each time that nothing has answered for so long.
func insist[T any](ctx context.Context, every time.Duration, ask func(n int) (T, error)) (T, error) {
	type answer struct {
		got T
		err error
	}
	const most = 8
	answers := make(chan answer, most)
	again := time.NewTicker(every)
	defer again.Stop()
	for n := 1; ; n++ {
		if n <= most {
			go func() { // nobody waits for one in vain: it ends with go-redis' patience, or with the client
				got, err := ask(n)
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
		}
	}
}

// NodeOf is the Redis that has a key: on a Cluster its own node, to which also a PUBLISH about it is
// sent best: go-redis sends one to any node, which may be the one that is away.
func (st *Store) NodeOf(ctx context.Context, key string) (node redis.Cmdable, addr string, err error) {
	cluster, ok := st.Redis.(*redis.ClusterClient)
	if !ok {
		return st.Redis, "", nil
	}
	master, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		return nil, "", err
	}
	return master, master.Options().Addr, nil
}
