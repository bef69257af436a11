package refresh_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// The lease is one of a majority of three servers, of which one is dead, and five workers want it
// at the same time: the votes are split. Nobody hears of it.
func TestSplitVotesOfALeaseAreNoError(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{LatencyAfter: 20 * time.Millisecond})
	f.redis = redistest.Own(t)
	servers := []*redistest.Server{redistest.Own(t), redistest.Own(t), redistest.Own(t)}
	var workers []*worker
	for i := range 5 {
		workers = append(workers, f.worker(func(cfg *refresh.Config) {
			var clients []redis.UniversalClient
			for _, s := range servers {
				clients = append(clients, s.Client(t))
			}
			cfg.Locker = lock.New(lock.Config{Name: fmt.Sprint("worker-", i)}, clients...)
		}))
	}
	servers[2].Kill(t)
	const rounds = 6
	for round := range rounds {
		tenant := fmt.Sprint("tenant", round)
		f.connect(workers[0], tenant, true)
		watch := redistest.StartStopwatch(t)
		var callers sync.WaitGroup
		for _, w := range workers {
			for range 10 {
				callers.Go(func() {
					if _, err := w.Token(f.ctx(), tenant); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				})
			}
		}
		callers.Wait()
		if took, over := watch.Over(5 * time.Second); round > 0 && over { // a vote that nobody gives back stands for ten
			t.Errorf("round %d took %v", round, took)
		}
		f.lawful(workers[0], tenant)
	}
	if n := f.server.Ledger().Exchanges(); n != rounds {
		t.Errorf("%d exchanges of %d generations", n, rounds)
	}
}
