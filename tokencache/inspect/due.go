package inspect

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Due is how an app's renewals stand.
type Due struct {
	// Scheduled is how many grants are in the due sets. Overdue is how many of them are due for more
	// than a minute: no process calls Run, or those that do cannot keep up.
	Scheduled, Overdue int64
	// Next is when the next one is due; the zero time for never.
	Next time.Time
}

// shards is in how many sorted sets an app's due grants lie.
const shards = engine.DueShards

// overdueAfter is how late a look at a grant may be.
const overdueAfter = time.Minute

// Due counts the grants that wait for a renewal. The error says what does not answer: the rest is
// counted.
func (in *Inspector) Due(ctx context.Context, app string) (Due, error) {
	return store.Bounded(ctx, 4*in.timeout, func(ctx context.Context) (Due, error) {
		return in.due(ctx, app)
	})
}

func (in *Inspector) due(ctx context.Context, app string) (d Due, err error) {
	names := in.names.App(app)
	now, err := in.db.Together(ctx, names.State(), true, func(redis.Pipeliner) {})
	if err != nil {
		return d, fmt.Errorf("tokencache: due grants of %s: %w", app, said(err))
	}
	keys := make([]string, 0, shards)
	for shard := range shards {
		keys = append(keys, names.Due(shard))
	}
	late := grant.Millis(now - overdueAfter.Milliseconds())
	all, err := store.Spread(ctx, in.db.Redis, keys, func(p redis.Pipeliner, i int) *redis.IntCmd { return p.ZCard(ctx, keys[i]) })
	overdue, failed := store.Spread(ctx, in.db.Redis, keys, func(p redis.Pipeliner, i int) *redis.IntCmd { return p.ZCount(ctx, keys[i], "-inf", late) })
	first, failedToo := store.Spread(ctx, in.db.Redis, keys, func(p redis.Pipeliner, i int) *redis.ZSliceCmd { return p.ZRangeWithScores(ctx, keys[i], 0, 0) })
	for i := range keys {
		d.Scheduled += count(all[i])
		d.Overdue += count(overdue[i])
		if first[i] != nil && len(first[i].Val()) > 0 {
			if at := grant.Time(int64(first[i].Val()[0].Score)); d.Next.IsZero() || at.Before(d.Next) {
				d.Next = at
			}
		}
	}
	for _, err := range []error{err, failed, failedToo} {
		if err != nil {
			return d, fmt.Errorf("tokencache: due grants of %s: %w", app, said(err))
		}
	}
	return d, nil
}

func count(n *redis.IntCmd) int64 {
	if n == nil {
		return 0
	}
	return n.Val()
}
