package integration

import (
	"slices"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestAHerdPresentsARefreshTokenOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{})
	workers := f.workers(8)
	f.connect("acme")
	f.served(herd(workers, "acme", 250), 8*250)
	f.presented("acme", 1)
	f.living("acme")
	for _, w := range workers {
		w.close()
	}
}

func TestALeaseShorterThanTheAnswerIsExtended(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{LatencyBefore: 2500 * time.Millisecond, LatencyAfter: 2500 * time.Millisecond},
		func(s *setup) { s.Lease = 2 * time.Second })
	workers := f.workers(4)
	f.connect("acme")
	f.served(herd(workers, "acme", 50), 4*50)
	f.presented("acme", 1)
	f.living("acme")
}

func TestAHerdOutlivesItsHolder(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayGrace, Grace: time.Minute}})
	workers := f.workers(8)
	f.connect("acme")
	gate := f.server.Hold(refreshtest.AfterCommit)
	asked := ask(workers, "acme", 250)
	gate.Await(t)
	f.subscribed("acme", 8)
	holder, i := f.holder(workers, "acme")
	holder.kill()
	gate.Release()
	within(t, "taking over", f.setup.Lease+promise, func() {
		f.served(gather(slices.Delete(asked, i, i+1)), 7*250)
	})
	f.ledger("acme", 2, 2, 0)
	f.living("acme")
}

// A lease running out is not permission to present again: the claim stands.
func TestALostLeaseIsNoPermissionToPresent(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{}, func(s *setup) { s.Lease = 2 * time.Second })
	workers := f.workers(3)
	f.connect("acme")
	gate := f.server.Hold(refreshtest.AfterCommit)
	asked := ask(workers, "acme", 20)
	gate.Await(t)
	for range 3 { // whoever tried now would get it
		if n := f.rdb.Del(f.ctx(), f.key("acme", "lock")).Val(); n > 1 {
			t.Fatal(n)
		}
		time.Sleep(f.setup.Lease / 2)
		asked = append(asked, ask(workers, "acme", 20)...)
	}
	gate.Release()
	f.served(gather(asked), 4*3*20)
	f.presented("acme", 1)
	f.living("acme")
}

// What a process has heard of a lease must not outlive the lease.
func TestAReleasedLeaseIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{LatencyAfter: 2500 * time.Millisecond},
		func(s *setup) { s.Lease = 6 * time.Second }) // extended once, of which all hear
	workers := f.workers(2)
	f.connect("acme")
	f.served(herd(workers, "acme", 20), 2*20)
	f.server.SetLatency(0, 0)
	for i, w := range workers {
		w.do(order{Op: "warm", Tenant: "acme", Generation: int64(i + 2)})
		f.eventually("the lease to be released", func() bool { return f.rdb.Exists(f.ctx(), f.key("acme", "lock")).Val() == 0 })
		within(t, "a refresh while nobody is at work", 2*promise, func() {
			w.do(order{Op: "refresh", Tenant: "acme", Callers: 1})
		})
	}
	f.presented("acme", 3)
	f.living("acme")
}
