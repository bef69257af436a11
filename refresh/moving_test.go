package refresh_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// Redis moves to another server as docs/deploying.md says, while workers refresh all the time.
func TestRedisMovesToAnotherServerAndNoGrantIsLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	old := redistest.Own(t)
	host, port, _ := net.SplitHostPort(old.Addr())
	next := redistest.Own(t, redistest.Set("replicaof", host, port))
	proxy := redistest.NewProxy(t, old.Addr())
	client := func() *redis.Client {
		rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
		t.Cleanup(func() { _ = rdb.Close() })
		return rdb
	}
	workers := []*worker{f.workerOn(client()), f.workerOn(client())}
	var tenants []string
	for i := range 8 {
		tenants = append(tenants, fmt.Sprint("tenant-", i))
		f.connect(workers[0], tenants[i], true)
	}
	f.saysOfItself(next.Client(t), "master_link_status:up")
	f.saysOfItself(old.Client(t), "state=online") // else it refuses to hand over

	var work sync.WaitGroup
	over := make(chan struct{})
	var mu sync.Mutex
	var longest time.Duration
	for i, tenant := range tenants {
		work.Go(func() {
			for n := i; ; n++ {
				start := time.Now()
				f.refreshed(workers[n%2], tenant)
				mu.Lock()
				longest = max(longest, time.Since(start))
				mu.Unlock()
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	host, port, _ = net.SplitHostPort(next.Addr())
	if err := old.Client(t).Do(f.ctx(), "FAILOVER", "TO", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	f.saysOfItself(next.Client(t), "role:master")
	proxy.Move(next.Addr())
	before := f.server.Ledger().Exchanges()
	for end := time.Now().Add(2 * patience); f.server.Ledger().Exchanges() < before+4*len(tenants); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d exchanges after the move, %d before", f.server.Ledger().Exchanges()-before, before)
		}
	}
	close(over)
	work.Wait()
	t.Logf("no refresh for %v", longest)
	for _, tenant := range tenants {
		f.lawful(workers[0], tenant)
	}
	calls := redistest.Commands(t, old.Client(t), func() { f.refreshed(workers[0], tenants[0]) })
	if calls["evalsha"] > 0 {
		t.Errorf("the old server is still used: %v", calls)
	}
}

// saysOfItself waits until a server says something of itself.
func (f *fleet) saysOfItself(rdb *redis.Client, line string) {
	f.t.Helper()
	for ctx := f.ctx(); !strings.Contains(rdb.Info(ctx, "replication").Val(), line); time.Sleep(10 * time.Millisecond) {
		if ctx.Err() != nil {
			f.t.Fatalf("it never says %s", line)
		}
	}
}
