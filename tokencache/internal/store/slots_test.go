package store

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// While a node is silent all who wait for its keys insist: the nodes that answer are not asked once more for
// each of them.
func TestCallersThatInsistShareTheMapOfTheSlots(t *testing.T) {
	t.Parallel()
	var loads atomic.Int64
	rdb := redis.NewClusterClient(&redis.ClusterOptions{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
		loads.Add(1)
		time.Sleep(time.Millisecond)
		return []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: "127.0.0.1:1"}}}}, nil
	}})
	t.Cleanup(func() { _ = rdb.Close() })
	st := New(rdb, "tl", zerolog.Nop())
	silent, spoke := make(chan struct{}), atomic.Int64{}
	began := time.Now()
	var callers sync.WaitGroup
	for range 200 {
		callers.Go(func() {
			if got, err := Insist(t.Context(), st, func() (int, error) { <-silent; return 1, nil }); got == 1 && err == nil {
				spoke.Add(1)
			}
		})
	}
	time.Sleep(2*hedge + hedge/2)
	for loads.Load() == 0 && time.Since(began) < time.Minute {
		time.Sleep(time.Millisecond)
	}
	close(silent)
	callers.Wait()
	took := time.Since(began)
	if n := loads.Load(); n == 0 || n > int64(took/loadsApart)+5 {
		t.Errorf("the map was loaded %d times in %v", n, took)
	}
	if spoke.Load() != 200 {
		t.Errorf("%d of 200 have an answer", spoke.Load())
	}
	if nodes := st.Masters(t.Context()); len(nodes) != 1 {
		t.Errorf("masters: %v", nodes)
	}
}
