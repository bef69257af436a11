package integration

import (
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// slowFleet is a holder that waits for a provider which is slower than the exchange's timeout, and
// another process.
func slowFleet(t *testing.T) (f *fleet, holder, other *process, gate *refreshtest.Gate) {
	t.Helper()
	f = newFleet(t, redistest.Start(t), refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayDead}}, func(s *setup) {
		s.Lease, s.Exchange, s.Claim, s.Patience = 2*time.Second, 2*time.Second, 3*time.Second, 2*time.Second
	})
	holder, other = f.worker(), f.worker()
	f.connect(tenant)
	gate = f.server.Hold(refreshtest.AfterCommit)
	own := holder.token(tenant, 5)
	gate.Await(t)
	first := f.status(tenant).ClaimUntil
	waiting := other.token(tenant, 5)
	f.refused(own.report(), 5, "unavailable/slow_exchange")
	f.refused(waiting.report(), 5, "unavailable/slow_exchange")
	f.eventually("the claim to be put off", func() bool { return f.status(tenant).ClaimUntil.After(first.Add(time.Second)) })
	return f, holder, other, gate
}

func TestASlowAnswerIsPushedToAllWhenItComes(t *testing.T) {
	t.Parallel()
	f, holder, other, gate := slowFleet(t)
	time.Sleep(4 * time.Second) // for longer than a claim of its own would stand
	gate.Release()
	f.stored(tenant, 2)
	epoch := f.status(tenant).Epoch.UnixMilli()
	for _, p := range []*process{holder, other} {
		p.do(order{Op: "knows", Tenant: tenant, Epoch: epoch, Generation: 2})
		f.served(p.token(tenant, 5).report(), 5)
	}
	f.presented(tenant, 1)
	f.living(tenant)
}

// A dead process puts nothing off.
func TestTheClaimOfADeadHolderEndsAtTheDeadlineThatItSaidLast(t *testing.T) {
	t.Parallel()
	f, holder, other, gate := slowFleet(t)
	holder.kill()
	gate.Release()
	f.server.AwaitIdle(t)
	last := f.status(tenant).ClaimUntil
	if left := time.Until(last); left > 5*time.Second {
		t.Errorf("it stands for %v more", left)
	}
	watch := redistest.StartStopwatch(t)
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		r := other.token(tenant, 1).report()
		if r.Errors["unavailable/slow_exchange"] == 1 && time.Now().Before(end) {
			continue
		}
		f.refused(r, 1, "reauthorize/lost_response")
		break
	}
	if late := time.Since(last); late < 0 || late > 3*time.Second+watch.Late() {
		t.Errorf("taken over %v after the hard deadline", late)
	}
	f.ledger(tenant, 2, 2, 1)
	f.dead(tenant, "lost_response")
}
