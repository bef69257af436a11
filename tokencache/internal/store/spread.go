package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// NodePatience is how long one of a Cluster's nodes may take, where others have answered or may.
const NodePatience = time.Second

// Spread sends one command for each key, in one round trip. Each is judged by itself: what failed, or
// was not answered, is nil, and the error says why of the first. On a Cluster every node is asked on its
// own, so that one which is dead or hangs holds up nobody else.
func Spread[C interface {
	redis.Cmder
	comparable
}](ctx context.Context, rdb redis.UniversalClient, keys []string, queue func(p redis.Pipeliner, i int) C) ([]C, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		all := make([]int, len(keys))
		for i := range all {
			all[i] = i
		}
		return gather(keys, sendTo(ctx, rdb, all, queue))
	}
	nodes := map[*redis.Client][]int{} // nil: nobody knows which
	for i, key := range keys {
		node, _ := cluster.MasterForKey(ctx, key)
		nodes[node] = append(nodes[node], i)
	}
	answers := make(chan []sent[C], len(nodes))
	for _, some := range nodes {
		go func() { answers <- sendTo(ctx, rdb, some, queue) }() // as the Cluster: redirects are followed
	}
	timeout := time.NewTimer(NodePatience)
	defer timeout.Stop()
	var got []sent[C]
	for range nodes {
		select {
		case some := <-answers:
			got = append(got, some...)
		case <-timeout.C:
			return gather(keys, got)
		case <-ctx.Done():
			return gather(keys, got)
		}
	}
	return gather(keys, got)
}

// sent is a command, and which of them it was.
type sent[C redis.Cmder] struct {
	i   int
	cmd C
}

func sendTo[C redis.Cmder](ctx context.Context, rdb redis.UniversalClient, which []int, queue func(p redis.Pipeliner, i int) C) []sent[C] {
	var out []sent[C]
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, i := range which {
			out = append(out, sent[C]{i, queue(p, i)})
		}
		return nil
	})
	return out
}

var errNoAnswer = errors.New("the node that has it does not answer in time")

func gather[C interface {
	redis.Cmder
	comparable
}](keys []string, got []sent[C]) ([]C, error) {
	out := make([]C, len(keys))
	failed, why := 0, error(nil)
	for _, s := range got {
		if err := s.cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			failed++
			why = cmp.Or(why, fmt.Errorf("%s: %w", keys[s.i], err))
			continue
		}
		out[s.i] = s.cmd
	}
	if silent := len(keys) - len(got); silent > 0 {
		failed += silent
		why = cmp.Or(why, errNoAnswer)
	}
	if failed > 1 {
		why = fmt.Errorf("%d of %d keys, first: %w", failed, len(keys), why)
	}
	return out, why
}

// Bounded runs f for d at most, since nothing interrupts go-redis. f goes on.
func Bounded[T any](ctx context.Context, d time.Duration, f func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	got := make(chan answer, 1)
	go func() {
		defer cancel()
		value, err := f(ctx)
		got <- answer{value, err}
	}()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		select {
		case a := <-got: // cancel comes after the answer
			return a.value, a.err
		default:
		}
		var none T
		return none, context.Cause(ctx)
	}
}
