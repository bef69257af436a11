package refresh_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// BenchmarkReplicas compares what a holder does in Redis, claim and commit, acknowledged by a replica
// with the same for which nobody waits: on one master with a replica, all on this machine, where the
// network costs nothing and the replica takes part of the cores.
func BenchmarkReplicas(b *testing.B) {
	f, fo := newFleet(b, refreshtest.Config{}), redistest.StartFailover(b)
	ctx := b.Context()
	turn := func(tenant string, opts ...engine.ChangeOption) func(int) {
		w := f.workerOn(fo.Master.Client(b))
		f.connect(w, tenant, false)
		s, err := w.cache.Grant(key(tenant)).Read(ctx)
		if err != nil {
			b.Fatal(err)
		}
		pair := s.Pair
		pair.AccessToken = grant.Hide(strings.Repeat("a", 700))
		return func(int) {
			o, claimed, err := w.cache.Grant(s.Key).As("bench").Claim(ctx, s, engine.NewID(), time.Minute, grant.AtOnce, opts...)
			if err != nil || o != grant.OutcomeOK {
				b.Fatal(o, err)
			}
			o, s, err = w.cache.Grant(claimed.Key).As("bench").Commit(ctx, claimed, engine.NewID(), pair, false, true, opts...)
			if err != nil || o != grant.OutcomeOK {
				b.Fatal(o, err)
			}
		}
	}
	duel{
		ours: turn("acme", engine.Replicas(1, 5*time.Second)), theirs: turn("globex"),
		parallel: 1, calls: 50,
	}.run(b, "unacknowledged", 2.5)
}
