// Package due is what is due when nobody asks: the sets that tell which grants must be looked at, and when, and whose
// turn among the processes it is to do so. They are hints: the records count.
package due

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Shards is in how many sorted sets an app's due grants lie: on a Cluster they are
// spread over the nodes.
const Shards = 16

// ShardOf is in which of them a tenant is: the same in all processes and versions.
func ShardOf(tenant string) int {
	h := fnv.New32a()
	h.Write([]byte(tenant))
	return int(h.Sum32() % Shards)
}

// The due sets and the record lie on different nodes of a Cluster, so that no script can change
// both in one step, and a process may come late with what it knows. Two rules keep an entry from
// being later than its newest pair needs:
//
//  1. Every process may bring an entry nearer; only the process that took it may put it off. The
//     worst that a late process does is one look too many.
//  2. The process that puts an entry off or removes it reads the record afterwards. A newer pair
//     may have been scheduled before, which changed nothing if its time was later than that of
//     the taken entry; but then the record has that pair, and the process schedules it again.

// Sets are the due grants of all apps.
type Sets struct {
	db        *store.Store
	clock     *clock.Clock
	learnTime func(context.Context) error
}

// New returns the Sets. learnTime asks Redis what time it is, for the clock.
func New(db *store.Store, c *clock.Clock, learnTime func(context.Context) error) *Sets {
	return &Sets{db, c, learnTime}
}

// App returns an app's due grants; by signs its turns. It costs nothing.
func (c *Sets) App(name, by string) Set { return Set{c, name, by} }

// now is Redis' time, as replies have told it of late, or by asking.
func (c *Sets) now(ctx context.Context) (int64, error) {
	if now, ok := c.clock.Guess(mono.Now()); ok {
		return now, nil
	}
	_, err := store.Bounded(ctx, store.NodePatience, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.learnTime(ctx) })
	now, known := c.clock.Estimate(mono.Now())
	if known {
		return now, nil
	}
	return 0, err
}

// Set is an app's due grants.
type Set struct {
	all *Sets
	app string
	by  string // signs turns
}

// Schedule says that a tenant's grant must be looked at by then, or sooner: Redis' clock, unix ms. That
// is a hint for the processes that run the renewals: what is lost of it, Repair puts back.
func (d Set) Schedule(ctx context.Context, tenant string, at int64) error {
	return d.ScheduleBy(ctx, d.all.db.Redis, tenant, at).Err()
}

// ScheduleBy is Schedule by another client, or in a pipeline.
func (d Set) ScheduleBy(ctx context.Context, to redis.Cmdable, tenant string, at int64) *redis.IntCmd {
	return to.ZAddArgs(ctx, d.key(tenant), redis.ZAddArgs{LT: true, Members: []redis.Z{entry(tenant, at)}})
}

// Remove takes a tenant out. A process that finds it there all the same removes it.
func (d Set) Remove(ctx context.Context, tenant string) error {
	return d.all.db.Redis.ZRem(ctx, d.key(tenant), tenant).Err()
}

// key is of the set with a tenant.
func (d Set) key(tenant string) string { return d.keys().Due(ShardOf(tenant)) }

func (d Set) keys() store.AppKeys { return d.all.db.Names.App(d.app) }

func entry(tenant string, at int64) redis.Z { return redis.Z{Score: float64(at), Member: tenant} }

// Due is a grant that was taken from the due set.
type Due struct {
	grant.Key
	// Since is when it became due, Redis' clock, unix ms: who leaves it to others puts it back there.
	Since int64
	score string // that it has until then
}

// TakeDue takes at most limit grants of one shard that are due within ahead from now. They
// come back by themselves after hold, unless Reschedule says otherwise. Those of the tenants in leave are
// not taken.
func (d Set) TakeDue(ctx context.Context, shard, limit int, ahead, hold time.Duration, leave ...string) ([]Due, error) {
	args := []any{limit, ahead.Milliseconds(), hold.Milliseconds()}
	for _, tenant := range leave {
		args = append(args, tenant)
	}
	// A caller that ends meanwhile hears what it has taken, or it could not put that back.
	got, err := store.Bounded(context.WithoutCancel(ctx), store.NodePatience, func(ctx context.Context) ([]string, error) {
		return store.DueScript.Run(ctx, d.all.db.Redis, []string{d.keys().Due(shard)}, args...).StringSlice()
	})
	if err == nil && len(got) == 0 {
		err = errors.New("script answered nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("tokencache: due grants of %s: %w", d.app, err)
	}
	due := make([]Due, 0, len(got)/2)
	for i := 1; i+1 < len(got); i += 2 {
		since, _ := strconv.ParseInt(got[i+1], 10, 64)
		due = append(due, Due{grant.Key{App: d.app, Tenant: got[i]}, since, got[0]})
	}
	return due, nil
}

// What NextDue says of a shard of which nothing is due at a time.
const (
	Never   time.Duration = -1 - iota
	Unknown               // its key, or its node, does not answer
)

// NextDue returns how long it is until each shard has a grant that is due, Never, or Unknown; the
// shards in skip are not asked. It also returns Redis' time, unix ms. The error says why some are not
// known: the others are.
func (d Set) NextDue(ctx context.Context, skip ...int) (next [Shards]time.Duration, now int64, err error) {
	var asked []int
	var keys []string
	for shard := range next {
		if next[shard] = Unknown; !slices.Contains(skip, shard) {
			asked, keys = append(asked, shard), append(keys, d.keys().Due(shard))
		}
	}
	first, err := store.Spread(ctx, d.all.db.Redis, keys, func(p redis.Pipeliner, i int) *redis.ZSliceCmd {
		return p.ZRangeWithScores(ctx, keys[i], 0, 0)
	})
	now, failed := d.all.now(ctx)
	if err = cmp.Or(err, failed); err != nil {
		err = fmt.Errorf("tokencache: due grants of %s: %w", d.app, err)
	}
	for i, f := range first {
		switch {
		case f == nil || failed != nil:
		case len(f.Val()) == 0:
			next[asked[i]] = Never
		default:
			next[asked[i]] = max(0, time.Duration(int64(f.Val()[0].Score)-now)*time.Millisecond)
		}
	}
	return next, now, err
}

// MendDue deletes the due set of a shard if its key is of another type, and reports whether it was:
// then Repair puts its grants back.
func (d Set) MendDue(ctx context.Context, shard int) (bool, error) {
	key := d.keys().Due(shard)
	if err := d.all.db.Redis.ZCard(ctx, key).Err(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return false, err
	}
	n, err := d.all.db.Redis.Del(ctx, key).Result()
	return n > 0, err
}

// Reschedule says when a grant that was taken is looked at next, given the record that
// was seen since; at 0 is never, seen nil is no record. A newer pair keeps its own time.
func (d Set) Reschedule(ctx context.Context, taken Due, at int64, seen *grant.Record) error {
	if err := store.DueSetScript.Run(ctx, d.all.db.Redis, []string{d.key(taken.Tenant)}, taken.Tenant, taken.score, grant.Millis(at)).Err(); err != nil {
		return err
	}
	if seen == nil {
		seen = &grant.Record{}
	}
	return d.ScheduleAfter(ctx, taken.Tenant, seen)
}

// ScheduleAfter schedules a tenant's grant by its stored pair if that is newer than seen.
func (d Set) ScheduleAfter(ctx context.Context, tenant string, seen *grant.Record) error {
	got, err := d.all.db.Redis.HMGet(ctx, d.all.db.Names.Grant(grant.Key{App: d.app, Tenant: tenant}).Grant(), "state", "refresh_at", "epoch", "gen").Result()
	if err != nil {
		return err
	}
	at, active := activeSince(got[:2])
	epoch, _ := strconv.ParseInt(fmt.Sprint(got[2]), 10, 64)
	gen, _ := strconv.ParseInt(fmt.Sprint(got[3]), 10, 64)
	if newer := epoch > seen.Epoch || epoch == seen.Epoch && gen > seen.Generation; !active || !newer {
		return nil
	}
	return d.Schedule(ctx, tenant, at)
}

// activeSince reads state and refresh_at.
func activeSince(record []any) (refreshAt int64, ok bool) {
	if len(record) != 2 || record[0] != string(grant.Active) {
		return 0, false
	}
	text, _ := record[1].(string)
	refreshAt, err := strconv.ParseInt(text, 10, 64)
	return refreshAt, err == nil
}
