package engine

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/due"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// DueShards is in how many sorted sets an app's due grants lie.
const DueShards = due.Shards

// What NextDue says of a shard of which nothing is due at a time.
const (
	DueNever   = due.Never
	DueUnknown = due.Unknown // its key, or its node, does not answer
)

// Due is a grant that was taken from the due set.
type Due = due.Due

func (g Grant) due() due.Set { return g.c.due.App(g.key.App, g.by) }

// Schedule says that a grant must be looked at by then, or sooner: Redis' clock, unix ms. That
// is a hint for the processes that run the renewals: what is lost of it, Repair puts back.
func (g Grant) Schedule(ctx context.Context, at int64) error {
	return g.due().Schedule(ctx, g.key.Tenant, at)
}

// Reschedule says when a grant that was taken is looked at next, given the record that
// was seen since; at 0 is never, seen nil is no record. A newer pair keeps its own time.
func (g Grant) Reschedule(ctx context.Context, d Due, at int64, seen *grant.Record) error {
	return g.due().Reschedule(ctx, d, at, seen)
}

// NotifyReleased tells the waiters that the lease is free, and schedules the grant in the same round
// trip, if `at` is not 0.
func (g Grant) NotifyReleased(ctx context.Context, at int64) error {
	if at == 0 {
		return g.Alive(ctx, 0)
	}
	if _, cluster := g.c.rdb.(*redis.ClusterClient); cluster { // another node has the due set
		return errors.Join(g.Alive(ctx, 0), g.Schedule(ctx, at))
	}
	channel := g.keys().Events()
	free := g.c.proof.Sign(ctx, channel, grant.AliveEvent(g.c.clock.Told(), 0))
	_, err := g.c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Publish(ctx, channel, free)
		g.due().ScheduleBy(ctx, p, g.key.Tenant, at)
		return nil
	})
	return err
}

// Warn says in the journal and to all workers, once, that base's refresh token ends at a
// fixed date which refreshing does not put off.
func (g Grant) Warn(ctx context.Context, base *Snapshot) (grant.Outcome, *Snapshot, error) {
	ks := g.keys()
	return g.change(base.Pair, func() (answer, error) {
		return g.run(ctx, "warn", store.WarnScript, []string{ks.Grant(), ks.Secret(), ks.Journal()},
			ks.Events(), g.c.journal, grant.Clip(g.by), base.Epoch, base.Generation)
	})
}

// keptAtRest is how many of a journal's last entries stay when it is compacted: the last refresh,
// which is a claim and a commit.
const keptAtRest = 2

// Compact stores a grant's journal at its own size, for a grant that will rest for long. Of the
// refreshes that went well it keeps only the last few.
func (g Grant) Compact(ctx context.Context) error {
	return store.CompactScript.Run(ctx, g.c.rdb, []string{g.keys().Journal()}, keptAtRest).Err()
}

// touchPage is how many notes go to Redis at once.
const touchPage = 100

// Touch notes in Redis which of an app's grants were asked for, unless that was noted within
// coarse. It sends at most one command per hot grant and coarse; of those that memory has no
// room for it knows the first thousand since it was last called.
func (app App) Touch(ctx context.Context, coarse time.Duration) error {
	var failed error
	at := mono.Now()
	var page []grant.Key
	var entries []*memory.Entry
	flush := func() {
		if err := app.c.touch(ctx, page, coarse); err != nil {
			failed = err
		} else {
			for _, e := range entries {
				e.MarkNoted(at)
			}
		}
		page, entries = page[:0], entries[:0]
	}
	for e := range app.c.mem.Unnoted(app.name, coarse) {
		page, entries = append(page, e.Key), append(entries, e)
		if len(page) == touchPage {
			flush()
		}
	}
	page = append(page, app.c.mem.TakeCold(app.name)...)
	flush()
	return failed
}

// touch notes that grants are in use, in one round trip.
func (c *Cache) touch(ctx context.Context, grants []grant.Key, coarse time.Duration) error {
	if len(grants) == 0 {
		return nil
	}
	keys := make([]string, len(grants))
	for i, k := range grants {
		keys[i] = c.Grant(k).keys().Grant()
	}
	told, err := store.Spread(ctx, c.rdb, keys, func(p redis.Pipeliner, i int) *redis.Cmd {
		return store.TouchScript.EvalSha(ctx, p, keys[i:i+1], coarse.Milliseconds())
	})
	if !redis.HasErrorPrefix(err, "NOSCRIPT") {
		return err
	}
	for i := range told {
		if told[i] == nil {
			err = store.TouchScript.Run(ctx, c.rdb, keys[i:i+1], coarse.Milliseconds()).Err()
		}
	}
	return err
}
