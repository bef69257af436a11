package refresh_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// With one place for the whole app a caller and a renewal of one grant want both that place and the
// grant's lease:
//
//  1. X has the place. A has the lease, for a caller, and waits for the place. B's Run comes by the grant.
//  2. X is done. If B could take the place before it has the lease, each had what the other needs.
func TestARenewalNeverKeepsTheBudgetsPlaceFromTheHolderOfALease(t *testing.T) {
	t.Parallel()
	for try := range 8 {
		t.Run(fmt.Sprint(try), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.profile.Budget = provider.Budget{Concurrency: 1}
			f.config.ExchangeTimeout, f.config.ClaimTimeout = 60*time.Second, 61*time.Second // longer than A's caller waits
			x, a, b := f.worker(), f.worker(), f.worker()
			f.connect(x, "x", true)
			gate := f.server.Hold(refreshtest.BeforeCommit, "x")
			first := make(chan error, 1)
			go func() { _, err := x.Token(f.ctx(), "x"); first <- err }()
			gate.Await(t)
			f.connect(x, "acme", true)
			f.mark(x, "acme", "used_at", f.redisNow(x))
			f.run(b)
			done := make(chan error, 1)
			go func() { _, err := a.Token(f.ctx(), "acme"); done <- err }()
			time.Sleep(700 * time.Millisecond) // both are waiting, in any order
			gate.Release()
			if err := <-done; err != nil {
				t.Errorf("after the app's only exchange had ended: %v", err)
			}
			if err := <-first; err != nil {
				t.Error(err)
			}
			f.lawful(x, "acme")
		})
	}
}

// Due grants for which nobody waits are renewed as fast when another process is asked for their
// tokens, whose flights want the same leases and the same places.
func TestGrantsInUseElsewhereAreRenewedAsFastWithinABudget(t *testing.T) {
	t.Parallel()
	const grants = 60
	took := map[bool]time.Duration{}
	for _, asked := range []bool{false, true} {
		f := newFleet(t, refreshtest.Config{AccessTokenLife: time.Hour, LatencyAfter: 50 * time.Millisecond})
		f.profile.Budget = provider.Budget{Concurrency: 4}
		a, b := f.worker(), f.worker()
		var tenants []string
		for i := range grants {
			tenants = append(tenants, fmt.Sprint("tenant", i))
			f.due(a, tenants[i], 10*time.Minute)
			f.inUse(a, tenants[i])
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for asked && ctx.Err() == nil {
				for _, tenant := range tenants {
					_, _ = a.Token(ctx, tenant) // returns at once, and starts a renewal
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
		start := time.Now()
		stop := f.run(b)
		f.renewed(25*time.Second, tenants)
		took[asked] = time.Since(start)
		stop()
		cancel()
		<-ended
		if n := f.server.Ledger().Exchanges(); n != grants {
			t.Errorf("%d exchanges of %d grants", n, grants)
		}
	}
	t.Logf("alone %v, asked for elsewhere %v", took[false], took[true])
	if took[true] > 3*took[false]+3*time.Second {
		t.Errorf("alone it took %v, asked for elsewhere %v", took[false], took[true])
	}
}

// A caller that joins a renewal which gives way gets a token, and not that renewal's answer.
func TestACallerIsNotToldThatARenewalGaveWay(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{LatencyAfter: 10 * time.Millisecond})
	f.profile.Budget = provider.Budget{Concurrency: 1}
	w, other := f.worker(), f.worker()
	f.run(w)
	f.run(other)
	for i := range 12 {
		tenant := fmt.Sprint("tenant", i)
		f.due(w, tenant, 300*time.Millisecond)
		f.inUse(w, tenant)
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		for _, w := range []*worker{w, other} {
			for i := range 12 {
				tenant := fmt.Sprint("tenant", i)
				if _, err := w.Token(f.ctx(), tenant); err != nil {
					kind(t, err, refresh.ErrUnavailable, "")
					t.Fatalf("%s: %v", tenant, err)
				}
			}
		}
	}
}
