package lock

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// minute is a TTL of which a server that is away may hold up the others for 1.5 s.
const minute = time.Minute

// three independent servers.
type three struct {
	servers []*redistest.Server
	clients []redis.UniversalClient
}

func startThree(t *testing.T) *three {
	t.Helper()
	n := &three{}
	for range 3 {
		s := redistest.Own(t)
		n.servers, n.clients = append(n.servers, s), append(n.clients, s.ClientWith(t, unanswered))
	}
	return n
}

func (n *three) take(t *testing.T, i int, value string, expiry time.Duration) {
	t.Helper()
	if err := n.clients[i].Set(t.Context(), "lock", value, expiry).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestMajorityGivesTheLease(t *testing.T) {
	t.Parallel()
	n := startThree(t)
	l := New(Config{Name: "first", TTL: long}, n.clients...)
	lease := try(t, l, "lock")
	if held := mustBeHeld(t, New(Config{TTL: long}, n.clients...), "lock"); held.By != "first" || held.For <= 0 {
		t.Errorf("held by %q for %v", held.By, held.For)
	}
	release(t, lease)
	release(t, try(t, l, "lock"))
}

func TestOneServerOfThreeMayBeAway(t *testing.T) {
	t.Parallel()
	away := map[string]func(*testing.T, *redistest.Server){
		"killed": func(t *testing.T, s *redistest.Server) { s.Kill(t) },
		"silent": func(t *testing.T, s *redistest.Server) { s.Pause(t); t.Cleanup(func() { s.Resume(t) }) },
	}
	for name, leave := range away {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startThree(t)
			l := New(Config{TTL: minute}, n.clients...)
			release(t, try(t, l, "lock"))
			leave(t, n.servers[2])

			start := time.Now()
			lease := try(t, l, "lock")
			for range 4 {
				if !extends(lease) {
					t.Fatal("the lease was lost although two of three answer")
				}
			}
			mustBeHeld(t, New(Config{TTL: minute}, n.clients...), "lock")
			release(t, lease)
			if took := time.Since(start); took > patience {
				t.Errorf("it took %v: the server that is away was waited for", took)
			}
		})
	}
}

func TestTwoServersOfThreeMayNot(t *testing.T) {
	t.Parallel()
	n := startThree(t)
	n.servers[0].Kill(t)
	n.servers[2].Kill(t)
	_, err := New(Config{TTL: long}, n.clients...).Try(t.Context(), "lock")
	if err == nil || errors.Is(err, ErrHeld) {
		t.Fatalf("error: %v", err)
	}
	gone(t, n.clients[1], "lock")
}

func TestTakenMajorityIsHeld(t *testing.T) {
	t.Parallel()
	n := startThree(t)
	n.take(t, 0, "long", time.Hour)
	n.take(t, 2, "short", time.Hour/2)
	held := mustBeHeld(t, New(Config{TTL: minute}, n.clients...), "lock")
	if held.By != "long" || held.For < 59*time.Minute {
		t.Errorf("held by %q for %v", held.By, held.For)
	}
	gone(t, n.clients[1], "lock")
}

func TestTakenMinorityIsNotHeld(t *testing.T) {
	t.Parallel()
	n := startThree(t)
	n.take(t, 0, "alone", time.Hour)
	release(t, try(t, New(Config{TTL: long}, n.clients...), "lock"))
	if got := n.clients[0].Get(t.Context(), "lock").Val(); got != "alone" {
		t.Errorf("the other's key became %q", got)
	}
}

// Of three servers one is dead, so that a lease needs both others. Contenders that come at the same
// time split the votes: none of them has a majority, and nobody holds the lease.
func TestSplitVotesAreWaitedOut(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*testing.T, *redistest.Server){
		"killed": func(t *testing.T, s *redistest.Server) { s.Kill(t) },
		"silent": func(t *testing.T, s *redistest.Server) { s.Pause(t); t.Cleanup(func() { s.Resume(t) }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startThree(t)
			leave(t, n.servers[1])
			const contenders, rounds = 5, 12
			lockers := make([]*Locker, contenders)
			for i := range lockers {
				var clients []redis.UniversalClient
				for _, s := range n.servers {
					clients = append(clients, s.ClientWith(t, unanswered))
				}
				lockers[i] = New(Config{Name: fmt.Sprint("worker-", i), TTL: minute}, clients...)
			}
			for round := range rounds {
				key := fmt.Sprint("lock-", round)
				var mu sync.Mutex
				var won []*Lease
				var slowest time.Duration
				start := make(chan struct{})
				var all sync.WaitGroup
				for i, l := range lockers {
					all.Go(func() {
						<-start
						began := time.Now()
						lease, err := l.Try(t.Context(), key)
						mu.Lock()
						defer mu.Unlock()
						slowest = max(slowest, time.Since(began))
						if lease != nil {
							won = append(won, lease)
						} else if !errors.Is(err, ErrHeld) {
							t.Errorf("round %d, worker %d: %v", round, i, err)
						}
					})
				}
				close(start)
				all.Wait()
				if len(won) != 1 {
					t.Errorf("round %d: %d leases", round, len(won))
				}
				for _, lease := range won {
					began := time.Now()
					release(t, lease)
					slowest = max(slowest, time.Since(began))
				}
				if slowest > minute/5 { // the server that is away would be waited for for a quarter
					t.Errorf("round %d: the slowest took %v", round, slowest)
				}
			}
		})
	}
}
