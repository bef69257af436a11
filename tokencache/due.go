package tokencache

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
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

func (c *Cache) dueKey(app string, shard int) string {
	return fmt.Sprintf("%s:due:%s:%02d", c.prefix, escape(app), shard)
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
func (c *Cache) Schedule(ctx context.Context, k Key, at int64) error {
	return scheduleBy(ctx, c.rdb, c.dueKey(k.App, shardOf(k.Tenant)), k, at).Err()
}

func scheduleBy(ctx context.Context, to redis.Cmdable, dueKey string, k Key, at int64) *redis.IntCmd {
	return to.ZAddArgs(ctx, dueKey, redis.ZAddArgs{LT: true, Members: []redis.Z{dueEntry(k, at)}})
}

func dueEntry(k Key, at int64) redis.Z { return redis.Z{Score: float64(at), Member: k.Tenant} }

// Due is a grant that was taken from the due set.
type Due struct {
	Key
	score string // that it has until then
}

// TakeDue takes at most limit grants of one shard that are due within ahead from now. They
// come back by themselves after hold, unless Reschedule says otherwise.
func (c *Cache) TakeDue(ctx context.Context, app string, shard, limit int, ahead, hold time.Duration) ([]Due, error) {
	got, err := dueScript.Run(ctx, c.rdb, []string{c.dueKey(app, shard)}, limit, ahead.Milliseconds(), hold.Milliseconds()).StringSlice()
	if err == nil && len(got) == 0 {
		err = errors.New("script answered nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("tokencache: due grants of %s: %w", app, err)
	}
	due := make([]Due, 0, len(got)-1)
	for _, tenant := range got[1:] {
		due = append(due, Due{Key{app, tenant}, got[0]})
	}
	return due, nil
}

// NextDue is how long it is until each shard has a grant that is due; negative for none.
// It also returns Redis' time, unix ms.
func (c *Cache) NextDue(ctx context.Context, app string) (next [DueShards]time.Duration, now int64, err error) {
	var first [DueShards]*redis.ZSliceCmd
	clock := redis.NewStringSliceCmd(ctx, "time")
	_, err = c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for shard := range first {
			first[shard] = p.ZRangeWithScores(ctx, c.dueKey(app, shard), 0, 0)
		}
		return p.Process(ctx, clock)
	})
	if err != nil {
		return next, 0, fmt.Errorf("tokencache: due grants of %s: %w", app, err)
	}
	now, err = millis(clock.Val())
	for shard, f := range first {
		next[shard] = -1
		if z := f.Val(); len(z) > 0 {
			next[shard] = max(0, time.Duration(int64(z[0].Score)-now)*time.Millisecond)
		}
	}
	return next, now, err
}

// Reschedule says when a grant that was taken is to be looked at next, given the record that
// was seen since; at 0 is never, seen nil is no record. A newer pair keeps its own time.
func (c *Cache) Reschedule(ctx context.Context, d Due, at int64, seen *Record) error {
	key := c.dueKey(d.App, shardOf(d.Tenant))
	if err := dueSetScript.Run(ctx, c.rdb, []string{key}, d.Tenant, d.score, msText(at)).Err(); err != nil {
		return err
	}
	if seen == nil {
		seen = &Record{}
	}
	return c.scheduleAfter(ctx, d.Key, seen)
}

// scheduleAfter schedules a grant by its stored pair if that is newer than seen.
func (c *Cache) scheduleAfter(ctx context.Context, k Key, seen *Record) error {
	got, err := c.rdb.HMGet(ctx, c.keys(k).grant(), "state", "refresh_at", "epoch", "gen").Result()
	if err != nil {
		return err
	}
	at, active := activeSince(got[:2])
	epoch, _ := strconv.ParseInt(fmt.Sprint(got[2]), 10, 64)
	gen, _ := strconv.ParseInt(fmt.Sprint(got[3]), 10, 64)
	if newer := epoch > seen.Epoch || epoch == seen.Epoch && gen > seen.Generation; !active || !newer {
		return nil
	}
	return c.Schedule(ctx, k, at)
}

// dueSample is in how many of the shards CountDue counts.
const dueSample = 4

// CountDue reckons how many grants of an app are due within each of the times from now. It
// counts in a few shards: tenants are spread evenly.
func (c *Cache) CountDue(ctx context.Context, app string, now int64, within ...time.Duration) ([]int64, error) {
	counts := make([]*redis.IntCmd, 0, dueSample*len(within))
	first := rand.N(DueShards)
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, w := range within {
			for i := range dueSample {
				key := c.dueKey(app, (first+i)%DueShards)
				counts = append(counts, p.ZCount(ctx, key, "-inf", msText(now+w.Milliseconds())))
			}
		}
		return nil
	})
	sums := make([]int64, len(within))
	for i, n := range counts {
		sums[i/dueSample] += n.Val() * DueShards / dueSample
	}
	return sums, err
}

// Released tells the waiters that the lease is free, and schedules the grant in the same round
// trip, if `at` is not 0.
func (c *Cache) Released(ctx context.Context, k Key, at int64) error {
	if at == 0 {
		return c.Alive(ctx, k, 0)
	}
	channel := c.keys(k).events()
	free := c.sign(ctx, channel, aliveEvent(c.clock.told(), 0))
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Publish(ctx, channel, free)
		scheduleBy(ctx, p, c.dueKey(k.App, shardOf(k.Tenant)), k, at)
		return nil
	})
	return err
}

// repairPage is how many keys one step of Repair looks at.
const repairPage = 500

// Repair walks through all grants of an app and schedules those that no due set knows, one
// page of keys and one pause after the other. It returns how many that were.
func (c *Cache) Repair(ctx context.Context, app string, pause time.Duration) (missing int, err error) {
	err = c.eachNode(ctx, func(node redis.Cmdable) error {
		for cursor := uint64(0); ; {
			keys, next, err := node.Scan(ctx, cursor, c.prefix+":{"+escape(app)+":*}:grant", repairPage).Result()
			if err != nil {
				return err
			}
			n, err := c.scheduleMissing(ctx, app, keys)
			missing += n
			if err != nil || next == 0 {
				return err
			}
			cursor = next
			if err := sleep(ctx, pause); err != nil {
				return err
			}
		}
	})
	return missing, err
}

// eachNode calls f for every Redis that has grants, one after the other.
func (c *Cache) eachNode(ctx context.Context, f func(redis.Cmdable) error) error {
	cluster, ok := c.rdb.(*redis.ClusterClient)
	if !ok {
		return f(c.rdb)
	}
	var nodes []*redis.Client
	turn := make(chan struct{}, 1) // ForEachMaster calls at the same time
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		turn <- struct{}{}
		nodes = append(nodes, node)
		<-turn
		return nil
	})
	for _, node := range nodes {
		if err == nil {
			err = f(node)
		}
	}
	return err
}

// scheduleMissing schedules those of some grants that are active and in no due set.
func (c *Cache) scheduleMissing(ctx context.Context, app string, grantKeys []string) (int, error) {
	if len(grantKeys) == 0 {
		return 0, nil
	}
	records := make([]*redis.SliceCmd, len(grantKeys))
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range grantKeys {
			records[i] = p.HMGet(ctx, key, "state", "refresh_at")
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	added := make([]*redis.IntCmd, 0, len(grantKeys))
	_, err = c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range grantKeys {
			at, ok := activeSince(records[i].Val())
			if tenant := c.tenantOf(app, key); ok && tenant != "" {
				k := Key{app, tenant}
				added = append(added, p.ZAddNX(ctx, c.dueKey(app, shardOf(tenant)), dueEntry(k, at)))
			}
		}
		return nil
	})
	n := 0
	for _, a := range added {
		n += int(a.Val())
	}
	return n, err
}

// activeSince reads state and refresh_at.
func activeSince(record []any) (refreshAt int64, ok bool) {
	if len(record) != 2 || record[0] != string(Active) {
		return 0, false
	}
	text, _ := record[1].(string)
	refreshAt, err := strconv.ParseInt(text, 10, 64)
	return refreshAt, err == nil
}

func (c *Cache) tenantOf(app, grantKey string) string {
	name := strings.TrimPrefix(grantKey, c.prefix+":{"+escape(app)+":")
	return unescape(strings.TrimSuffix(name, "}:grant"))
}

// TakeTurn reports whether this process is the one that may do something which one of the
// fleet does, every so often.
func (c *Cache) TakeTurn(ctx context.Context, app, what, by string, every time.Duration) (bool, error) {
	key := c.prefix + ":turn:" + escape(app) + ":" + what
	ok, err := c.rdb.SetNX(ctx, key, clip(by), every).Result()
	if err == nil && !ok { // nobody's turn lasts longer: Redis' clock was set back, or somebody set it by hand
		err = c.rdb.ExpireLT(ctx, key, every).Err()
	}
	return ok, err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Warn says in the journal and to all workers, once, that base's refresh token ends at a
// fixed date which refreshing does not put off.
func (c *Cache) Warn(ctx context.Context, base *Snapshot, by string) (Outcome, *Snapshot, error) {
	ks := c.keys(base.Key)
	return c.change("reauth_due", base, base.Pair, func() (answer, error) {
		return c.run(ctx, "warn", warnScript, base.Key, []string{ks.grant(), ks.secret(), ks.journal()},
			ks.events(), c.journal, clip(by), base.Epoch, base.Generation)
	})
}

// keptAtRest is how many of a journal's last entries stay when it is compacted: the last refresh,
// which is a claim and a commit.
const keptAtRest = 2

// Compact stores a grant's journal at its own size, for a grant that will rest for long. Of the
// refreshes that went well it keeps only the last few.
func (c *Cache) Compact(ctx context.Context, k Key) error {
	return compactScript.Run(ctx, c.rdb, []string{c.keys(k).journal()}, keptAtRest).Err()
}

// touchPage is how many notes go to Redis at once.
const touchPage = 100

// Touch notes in Redis which of an app's grants were asked for, unless that was noted within
// coarse. It sends at most one command per hot grant and coarse; of those that memory has no
// room for it knows the first thousand since it was last called.
func (c *Cache) Touch(ctx context.Context, app string, coarse time.Duration) error {
	var failed error
	at := int64(monotonic())
	var page []Key
	var entries []*entry
	flush := func() {
		if err := c.touch(ctx, page, coarse); err != nil {
			failed = err
		} else {
			for _, e := range entries {
				e.touched.Store(at)
			}
		}
		page, entries = page[:0], entries[:0]
	}
	for e := range c.hot.all() {
		if e.key.App == app && e.untold(coarse) {
			page, entries = append(page, e.key), append(entries, e)
		}
		if len(page) == touchPage {
			flush()
		}
	}
	page = append(page, c.cold.take(app)...)
	flush()
	return failed
}

// untold reports whether somebody has asked for the grant's token since that was noted, and
// an earlier note is older than coarse.
func (e *entry) untold(coarse time.Duration) bool {
	asked, touched := mono(e.asked.Load()), mono(e.touched.Load())
	if asked == 0 || asked <= touched || touched != 0 && monotonic()-touched < coarse {
		return false
	}
	s := e.snap.Load()
	return s != nil && s.State == Active && s.Now()-s.UsedAt >= coarse.Milliseconds()
}

// touch notes that grants are in use, in one round trip.
func (c *Cache) touch(ctx context.Context, grants []Key, coarse time.Duration) error {
	if len(grants) == 0 {
		return nil
	}
	told := make([]*redis.Cmd, len(grants))
	_, _ = c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, k := range grants {
			told[i] = touchScript.EvalSha(ctx, p, []string{c.keys(k).grant()}, coarse.Milliseconds())
		}
		return nil
	})
	var failed error
	for i, k := range grants {
		err := told[i].Err()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			err = touchScript.Run(ctx, c.rdb, []string{c.keys(k).grant()}, coarse.Milliseconds()).Err()
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// coldUse is which grants were asked for that memory has no room for.
type coldUse struct {
	mu     sync.Mutex // guards grants
	grants map[Key]struct{}
}

const maxCold = 1000

func (u *coldUse) note(k Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.grants == nil {
		u.grants = make(map[Key]struct{})
	}
	if len(u.grants) < maxCold {
		u.grants[k] = struct{}{}
	}
}

func (u *coldUse) take(app string) (grants []Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k := range u.grants {
		if k.App == app {
			grants = append(grants, k)
			delete(u.grants, k)
		}
	}
	return grants
}
