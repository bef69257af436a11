package engine

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// Status reads a grant's state. The error is ErrNone, or says why Redis did not answer.
func (g Grant) Status(ctx context.Context) (grant.Status, error) {
	a, err := g.in().Fetch(ctx)
	if err != nil {
		return grant.Status{}, err
	}
	if a.Damaged != nil {
		return grant.Status{}, a.Damaged
	}
	if a.Snap == nil {
		return grant.Status{}, grant.ErrNone
	}
	return g.key.Status(&a.Snap.Record, a.Now), nil
}

// Trace reads a grant's journal, and who holds its lease, in one round trip. It changes nothing. There is
// nothing in it where there is no grant.
func (app App) Trace(ctx context.Context, tenant string) (journal.Trace, error) {
	ks := app.Grant(tenant).keys()
	t, err := store.Bounded(ctx, store.NodePatience, func(ctx context.Context) (journal.Trace, error) {
		var lines *redis.XMessageSliceCmd
		var holder *redis.StringCmd
		var left *redis.DurationCmd
		now, err := app.c.db.Together(ctx, ks.Grant(), true, func(p redis.Pipeliner) {
			lines, holder, left = p.XRange(ctx, ks.Journal(), "-", "+"), p.GetRange(ctx, ks.Lock(), 0, maxLease), p.PTTL(ctx, ks.Lock())
		})
		if err != nil {
			return journal.Trace{}, err
		}
		t := journal.Trace{Lease: holder.Val(), Left: max(0, left.Val()), Now: now}
		for _, line := range lines.Val() {
			t.Entries = append(t.Entries, journal.Parse(line.ID, line.Values))
		}
		return t, nil
	})
	if err != nil {
		app.c.db.NoteError(err)
		return t, fmt.Errorf("tokencache: journal of %s: %w", app.Grant(tenant).key, err)
	}
	return t, nil
}

// maxLease is more than the value of a lease has, in bytes.
const maxLease = 512
