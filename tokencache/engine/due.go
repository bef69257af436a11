package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// DueShards is in how many sorted sets an app's due grants lie: on a Cluster they are
// spread over the nodes.
const DueShards = 16

// shardOf is the same in all processes and versions.
func shardOf(tenant string) int {
	h := fnv.New32a()
	h.Write([]byte(tenant))
	return int(h.Sum32() % DueShards)
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

// Schedule says that a grant must be looked at by then, or sooner: Redis' clock, unix ms. That
// is a hint for the processes that run the renewals: what is lost of it, Repair puts back.
func (g Grant) Schedule(ctx context.Context, at int64) error {
	return scheduleBy(ctx, g.c.rdb, g.c.App(g.key.App).keys().Due(shardOf(g.key.Tenant)), g.key, at).Err()
}

func scheduleBy(ctx context.Context, to redis.Cmdable, dueKey string, k grant.Key, at int64) *redis.IntCmd {
	return to.ZAddArgs(ctx, dueKey, redis.ZAddArgs{LT: true, Members: []redis.Z{dueEntry(k, at)}})
}

func dueEntry(k grant.Key, at int64) redis.Z { return redis.Z{Score: float64(at), Member: k.Tenant} }

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
func (app App) TakeDue(ctx context.Context, shard, limit int, ahead, hold time.Duration, leave ...string) ([]Due, error) {
	args := []any{limit, ahead.Milliseconds(), hold.Milliseconds()}
	for _, tenant := range leave {
		args = append(args, tenant)
	}
	got, err := store.Bounded(ctx, store.NodePatience, func(ctx context.Context) ([]string, error) {
		return store.DueScript.Run(ctx, app.c.rdb, []string{app.keys().Due(shard)}, args...).StringSlice()
	})
	if err == nil && len(got) == 0 {
		err = errors.New("script answered nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("tokencache: due grants of %s: %w", app.name, err)
	}
	due := make([]Due, 0, len(got)/2)
	for i := 1; i+1 < len(got); i += 2 {
		since, _ := strconv.ParseInt(got[i+1], 10, 64)
		due = append(due, Due{grant.Key{App: app.name, Tenant: got[i]}, since, got[0]})
	}
	return due, nil
}

// What NextDue says of a shard of which nothing is due at a time.
const (
	DueNever   time.Duration = -1 - iota
	DueUnknown               // its key, or its node, does not answer
)

// NextDue is how long it is until each shard has a grant that is due, DueNever, or DueUnknown; the
// shards in skip are not asked. It also returns Redis' time, unix ms. The error says why some are not
// known: the others are.
func (app App) NextDue(ctx context.Context, skip ...int) (next [DueShards]time.Duration, now int64, err error) {
	var asked []int
	var keys []string
	for shard := range next {
		if next[shard] = DueUnknown; !slices.Contains(skip, shard) {
			asked, keys = append(asked, shard), append(keys, app.keys().Due(shard))
		}
	}
	first, err := store.Spread(ctx, app.c.rdb, keys, func(p redis.Pipeliner, i int) *redis.ZSliceCmd {
		return p.ZRangeWithScores(ctx, keys[i], 0, 0)
	})
	now, failed := app.c.redisNow(ctx)
	if err = cmp.Or(err, failed); err != nil {
		err = fmt.Errorf("tokencache: due grants of %s: %w", app.name, err)
	}
	for i, f := range first {
		switch {
		case f == nil || failed != nil:
		case len(f.Val()) == 0:
			next[asked[i]] = DueNever
		default:
			next[asked[i]] = max(0, time.Duration(int64(f.Val()[0].Score)-now)*time.Millisecond)
		}
	}
	return next, now, err
}

// redisNow is Redis' time, as replies have told it of late, or by asking.
func (c *Cache) redisNow(ctx context.Context) (int64, error) {
	if now, ok := c.clock.Guess(mono.Now()); ok {
		return now, nil
	}
	_, err := store.Bounded(ctx, store.NodePatience, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.proof.LearnTime(ctx) })
	now, known := c.clock.Estimate(mono.Now())
	if known {
		return now, nil
	}
	return 0, err
}

// MendDue deletes the due set of a shard if its key is of another type, and reports whether it was:
// then Repair puts its grants back.
func (app App) MendDue(ctx context.Context, shard int) (bool, error) {
	key := app.keys().Due(shard)
	if err := app.c.rdb.ZCard(ctx, key).Err(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return false, err
	}
	n, err := app.c.rdb.Del(ctx, key).Result()
	return n > 0, err
}

// Reschedule says when a grant that was taken is looked at next, given the record that
// was seen since; at 0 is never, seen nil is no record. A newer pair keeps its own time.
func (g Grant) Reschedule(ctx context.Context, d Due, at int64, seen *grant.Record) error {
	key := g.c.App(g.key.App).keys().Due(shardOf(g.key.Tenant))
	if err := store.DueSetScript.Run(ctx, g.c.rdb, []string{key}, g.key.Tenant, d.score, grant.Millis(at)).Err(); err != nil {
		return err
	}
	if seen == nil {
		seen = &grant.Record{}
	}
	return g.scheduleAfter(ctx, seen)
}

// scheduleAfter schedules a grant by its stored pair if that is newer than seen.
func (g Grant) scheduleAfter(ctx context.Context, seen *grant.Record) error {
	got, err := g.c.rdb.HMGet(ctx, g.keys().Grant(), "state", "refresh_at", "epoch", "gen").Result()
	if err != nil {
		return err
	}
	at, active := activeSince(got[:2])
	epoch, _ := strconv.ParseInt(fmt.Sprint(got[2]), 10, 64)
	gen, _ := strconv.ParseInt(fmt.Sprint(got[3]), 10, 64)
	if newer := epoch > seen.Epoch || epoch == seen.Epoch && gen > seen.Generation; !active || !newer {
		return nil
	}
	return g.Schedule(ctx, at)
}

// dueSample is in how many of the shards CountDue counts.
const dueSample = 4

// CountDue reckons how many grants of an app are due within each of the times from now. It
// counts in a few shards: tenants are spread evenly. The error says that none of them answers.
func (app App) CountDue(ctx context.Context, now int64, within ...time.Duration) ([]int64, error) {
	keys := app.sample()
	counts, err := store.Spread(ctx, app.c.rdb, slices.Repeat(keys, len(within)), func(p redis.Pipeliner, i int) *redis.IntCmd {
		return p.ZCount(ctx, keys[i%len(keys)], "-inf", grant.Millis(now+within[i/len(keys)].Milliseconds()))
	})
	sums := make([]int64, len(within))
	for i := range sums {
		var known bool
		if sums[i], known = reckon(counts[i*len(keys) : (i+1)*len(keys)]); !known {
			return nil, err
		}
	}
	return sums, nil
}

// sample is the due sets of a few shards.
func (app App) sample() []string {
	first := rand.N(DueShards)
	keys := make([]string, dueSample)
	for i := range keys {
		keys[i] = app.keys().Due((first + i) % DueShards)
	}
	return keys
}

// reckon is how many all shards have, by those of the sample that have answered.
func reckon(counts []*redis.IntCmd) (sum int64, known bool) {
	shards := int64(0)
	for _, n := range counts {
		if n != nil {
			sum += n.Val()
			shards++
		}
	}
	if shards == 0 {
		return 0, false
	}
	return sum * DueShards / shards, true
}

// Released tells the waiters that the lease is free, and schedules the grant in the same round
// trip, if `at` is not 0.
func (g Grant) Released(ctx context.Context, at int64) error {
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
		scheduleBy(ctx, p, g.c.App(g.key.App).keys().Due(shardOf(g.key.Tenant)), g.key, at)
		return nil
	})
	return err
}

// repairPage is how many keys one step of Repair looks at.
const repairPage = 500

// Repair walks through all grants of an app and schedules those that no due set knows, one
// page of keys and one pause after the other. It returns how many that were. What fails, a node or a
// key, stops only itself; the error tells.
func (app App) Repair(ctx context.Context, pause time.Duration) (missing int, err error) {
	nodes, err := app.c.db.Nodes(ctx)
	for _, node := range nodes {
		n, failed := app.repairNode(ctx, node, pause)
		missing += n
		err = errors.Join(err, failed)
	}
	return missing, err
}

func (app App) repairNode(ctx context.Context, node redis.Cmdable, pause time.Duration) (missing int, err error) {
	for cursor := uint64(0); ; {
		page, failed := store.Bounded(ctx, 3*store.NodePatience, func(ctx context.Context) (*redis.ScanCmd, error) {
			page := node.Scan(ctx, cursor, app.c.names.Records(app.name), repairPage)
			return page, page.Err()
		})
		if failed != nil {
			return missing, fmt.Errorf("tokencache: repair: %w", failed)
		}
		keys, next := page.Val()
		n, failed := app.scheduleMissing(ctx, keys)
		missing += n
		if err = cmp.Or(err, failed); next == 0 {
			return missing, err
		}
		cursor = next
		if failed := mono.Sleep(ctx, pause); failed != nil {
			return missing, failed
		}
	}
}

// scheduleMissing schedules those of some grants that are active and in no due set.
func (app App) scheduleMissing(ctx context.Context, grantKeys []string) (missing int, err error) {
	records, err := store.Spread(ctx, app.c.rdb, grantKeys, func(p redis.Pipeliner, i int) *redis.SliceCmd {
		return p.HMGet(ctx, grantKeys[i], "state", "refresh_at")
	})
	var dueKeys []string
	var entries []redis.Z
	for i, r := range records {
		if r == nil {
			continue
		}
		at, ok := activeSince(r.Val())
		if tenant := app.c.names.TenantOf(app.name, grantKeys[i]); ok && tenant != "" {
			dueKeys = append(dueKeys, app.keys().Due(shardOf(tenant)))
			entries = append(entries, dueEntry(grant.Key{App: app.name, Tenant: tenant}, at))
		}
	}
	added, failed := store.Spread(ctx, app.c.rdb, dueKeys, func(p redis.Pipeliner, i int) *redis.IntCmd {
		return p.ZAddNX(ctx, dueKeys[i], entries[i])
	})
	for _, a := range added {
		if a != nil {
			missing += int(a.Val())
		}
	}
	return missing, cmp.Or(err, failed)
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

// TakeTurn reports whether this process is the one that may do something which one of the
// fleet does, every so often.
func (app App) TakeTurn(ctx context.Context, what string, every time.Duration) (bool, error) {
	key := app.keys().Turn(what)
	ok, err := store.Bounded(ctx, store.NodePatience, func(ctx context.Context) (bool, error) {
		return app.c.rdb.SetNX(ctx, key, grant.Clip(app.by), every).Result()
	})
	if err == nil && !ok { // nobody's turn lasts longer: Redis' clock was set back, or somebody set it by hand
		err = app.c.rdb.ExpireLT(ctx, key, every).Err()
	}
	return ok, err
}

// ShortenTurn lets the next one have the turn sooner.
func (app App) ShortenTurn(ctx context.Context, what string, to time.Duration) error {
	return app.c.rdb.PExpire(ctx, app.keys().Turn(what), to).Err()
}

// Warn says in the journal and to all workers, once, that base's refresh token ends at a
// fixed date which refreshing does not put off.
func (g Grant) Warn(ctx context.Context, base *Snapshot) (grant.Outcome, *Snapshot, error) {
	ks := g.keys()
	return g.change("reauth_due", base, base.Pair, func() (answer, error) {
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
				e.Noted(at)
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
