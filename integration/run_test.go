package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// A process that renews in the background is killed wherever it can be caught. What it had
// taken comes back, and another renews it; nobody asks for a token in all of this.
func TestAKilledSweeperIsReplaced(t *testing.T) {
	t.Parallel()
	for _, point := range []string{afterLease, afterClaim, afterAnswer, afterCommit} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			profile := provider.Profile{Replay: provider.ReplayGrace, Grace: time.Minute}
			f := newFleet(t, redistest.Start(t), refreshtest.Config{Profile: profile}, func(s *setup) {
				s.Lease, s.Exchange, s.Claim = time.Second, 2*time.Second, 2500*time.Millisecond
			})
			var tenants []string
			for i := range 12 {
				tenants = append(tenants, fmt.Sprint("tenant", i))
				f.connect(tenants[i])
				used := f.status(tenants[i]).Now.UnixMilli()
				if err := f.rdb.HSet(f.ctx(), f.key(tenants[i], "grant"), "used_at", used).Err(); err != nil {
					t.Fatal(err)
				}
			}
			victim, other := f.worker(), f.worker()
			victim.arm(point)
			victim.send(order{Op: "run"})
			victim.awaitPoint(point)
			victim.kill()
			other.send(order{Op: "run"})
			for _, tenant := range tenants {
				f.stored(tenant, 2)
				f.living(tenant)
			}
			if v := f.server.Ledger().Violations(profile); len(v) > 0 {
				t.Errorf("spent refresh tokens were presented again:\n%s", v)
			}
		})
	}
}
