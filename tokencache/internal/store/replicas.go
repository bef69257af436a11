package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

type Acknowledgement struct {
	Replicas int
	Within   time.Duration
}

// Lacks says what WAIT's answer lacks; nil for nothing.
func (a Acknowledgement) Lacks(wait *redis.IntCmd) error {
	switch n, err := wait.Result(); {
	case err != nil:
		return fmt.Errorf("%w (WAIT: %w)", grant.ErrNotReplicated, err)
	case n < int64(a.Replicas):
		return fmt.Errorf("%w (%d of %d have, in %v)", grant.ErrNotReplicated, n, a.Replicas, a.Within)
	}
	return nil
}

// RunAndWait runs a script, and waits for the acknowledgement on the connection that ran it.
func (st *Store) RunAndWait(ctx context.Context, ack Acknowledgement, s *redis.Script, keys []string, args []any) (cmd *redis.Cmd, wait *redis.IntCmd, err error) {
	eval := s.EvalSha
	err = st.atMaster(ctx, keys[0], func(node pipeliner, asking bool) error {
		cmd, wait = nil, nil
		leave, err := st.lineAt(node, s).enter(ctx)
		if err != nil {
			return err
		}
		defer func() { leave(cmd.Err() == nil && ack.Lacks(wait) != nil) }()
		for {
			_, _ = node.Pipelined(ctx, func(p redis.Pipeliner) error {
				if asking {
					p.Do(ctx, "ASKING")
				}
				cmd = eval(ctx, p, keys, args...)
				wait = redis.NewIntCmd(ctx, "WAIT", ack.Replicas, shorter(ack.Within, node).Milliseconds())
				return p.Process(ctx, wait)
			})
			if !redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
				return cmp.Or(cmd.Err(), wait.Err())
			}
			eval = s.Eval
		}
	})
	if cmd != nil && cmd.Err() == nil {
		err = nil // wait tells
		st.noteUnpublished(cmd, keys)
	}
	return cmd, wait, err
}

// inLine is how many claims may wait for the replicas of one server at once. Each takes a connection,
// and those that read need some too.
const inLine = 8

// line is the claims that wait for the replicas of one server.
type line struct {
	places chan struct{}
	vain   atomic.Int64 // when one last waited in vain
}

// lineAt is the line before a server for a script that claims; nil for others: what comes after a
// claim does not queue.
func (st *Store) lineAt(node pipeliner, s *redis.Script) *line {
	if s != ClaimScript {
		return nil
	}
	addr := ""
	if client, ok := node.(*redis.Client); ok {
		addr = client.Options().Addr
	}
	l, _ := st.lines.LoadOrCompute(addr, func() (*line, bool) {
		return &line{places: make(chan struct{}, inLine)}, false
	})
	return l
}

// enter waits for a place. What somebody before waits for in vain those behind need not wait for: the
// error is ErrNotReplicated then.
func (l *line) enter(ctx context.Context) (leave func(vain bool), err error) {
	if l == nil {
		return func(bool) {}, nil
	}
	since := mono.Now()
	select {
	case l.places <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if l.vain.Load() > int64(since) {
		<-l.places
		return nil, fmt.Errorf("%w (others have just waited in vain)", grant.ErrNotReplicated)
	}
	return func(vain bool) {
		if vain {
			l.vain.Store(int64(mono.Now()))
		}
		<-l.places
	}, nil
}

type pipeliner interface {
	Pipelined(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

// shorter is a timeout for WAIT that ends before the client gives the pipeline up; never 0, which
// would be for ever.
func shorter(within time.Duration, node pipeliner) time.Duration {
	if client, ok := node.(*redis.Client); ok && client.Options().ReadTimeout > 0 {
		within = min(within, client.Options().ReadTimeout/2)
	}
	return max(within, time.Millisecond)
}

// elsewhere bounds how often a Cluster is asked for the node that has a key: for about three seconds.
const elsewhere = 10

// atMaster calls do with the node that has a key, until it answers. asking: it is being given the
// key just now.
func (st *Store) atMaster(ctx context.Context, key string, do func(node pipeliner, asking bool) error) error {
	cluster, ok := st.Redis.(*redis.ClusterClient)
	if !ok {
		return do(st.Redis, false) // which tries again by itself
	}
	pause := 10 * time.Millisecond
	for n := 1; ; n++ {
		node, err := cluster.MasterForKey(ctx, key)
		if err == nil {
			err = do(node, false)
		}
		if to, ask := redis.IsAskError(err); ask {
			if node := nodeAt(ctx, cluster, to); node != nil {
				err = do(node, true)
			}
		}
		if err == nil || !passing(err) || n == elsewhere {
			return err
		}
		cluster.ReloadState(ctx) // begins to
		if mono.Sleep(ctx, pause) != nil {
			return err
		}
		pause = min(2*pause, 500*time.Millisecond)
	}
}

func nodeAt(ctx context.Context, cluster *redis.ClusterClient, addr string) (node *redis.Client) {
	var mu sync.Mutex
	_ = cluster.ForEachMaster(ctx, func(_ context.Context, m *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		if m.Options().Addr == addr {
			node = m
		}
		return nil
	})
	return node
}

// passing reports whether a node of a Cluster may answer otherwise in a moment, or another one in
// its place.
func passing(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, grant.ErrNotReplicated) {
		return false
	}
	var said redis.Error
	if !errors.As(err, &said) {
		return true // the network's
	}
	for _, prefix := range []string{"MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN ", "READONLY ", "LOADING ", "MASTERDOWN ", "UNBLOCKED "} {
		if strings.HasPrefix(said.Error(), prefix) {
			return true
		}
	}
	return false
}
