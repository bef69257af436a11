package engine

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/apps"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Redis can come back empty: a restart without its file, FLUSHALL, a new server at the old address.
// Then the processes' memories are the only copies of the grants, and each is gone with its process:
//
//  1. The proof key is missing, or another one: that tells a lost database from a new one. A
//     process looks for it at the beginning of each subscriber session, before it closes without
//     one, and when the database holds fewer keys than before, at which it looks every three
//     seconds and before it closes.
//  2. The process that notices it says so in the app's state (lost_at), once for the fleet, by push.
//  3. Every process gives back all that it remembers, unasked; the newest state wins. Then it puts
//     the key back, if that is still gone.
//  4. A tenant of whom nobody knows is then not "not connected": nobody can tell. That holds
//     until an operator accepts the loss.

const (
	// giversBack is how many grants are given back at once.
	giversBack = 16
)

// birthMark is the one that goes with a proof key, which is no secret.
func birthMark(key string) string { return grant.Fingerprint(key) }

// identify looks whether this is still the database that this process knows, and reports whether Redis
// has lost the data that it knew.
func (c *Cache) identify(ctx context.Context) (lost bool, err error) {
	lost, noticed, err := c.proof.Identify(ctx)
	if noticed {
		c.invalidateAll()
		c.log.Error().Msg("Redis has lost its data: this process gives back what it remembers; look at the persistence of Redis")
	}
	return lost, err
}

// calm reports whether there is no reason to ask for the proof key, see proof.calm. It does not know
// where Redis does not tell how many keys there are: a Cluster, a user without INFO.
func (c *Cache) calm(ctx context.Context, part int64) bool {
	n, told := c.countKeys(ctx)
	return c.proof.Calm(n, told, c.mem.Known(), part)
}

// countKeys is how many keys the database has, by INFO.
func (c *Cache) countKeys(ctx context.Context) (n int64, told bool) {
	client, ok := c.rdb.(*redis.Client)
	if !ok {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, proof.Timeout)
	defer cancel()
	text, err := client.Info(ctx, "server", "replication", "keyspace").Result()
	if err != nil {
		return 0, false
	}
	c.sameServer(ctx, text)
	counts, _, _ := strings.Cut(strings.TrimPrefix(store.InfoOf(text)[fmt.Sprint("db", client.Options().DB)], "keys="), ",")
	n, err = strconv.ParseInt(counts, 10, 64)
	return n, err == nil // an empty database is not listed
}

// rescue says in the state of every app that this process works for that Redis has lost its data,
// and gives back what this process remembers.
func (c *Cache) rescue(ctx context.Context) error {
	was, now := c.proof.Gone()
	if was == "" {
		return nil
	}
	var failed error
	lostAt := map[*apps.Place]int64{}
	for a := range c.apps.All() {
		at, err := a.SayLost(ctx, c.name, birthMark(was), birthMark(now))
		failed = errors.Join(failed, err)
		if err == nil {
			lostAt[a] = at
		}
	}
	if failed = errors.Join(failed, c.App("").giveBack(ctx)); failed != nil {
		return failed
	}
	for a, at := range lostAt {
		a.Given(at)
	}
	return c.proof.PutBack(ctx, was, now) // last: as long as the key is gone, every process that looks sees that the data is
}

// giveBack gives Redis all that this process remembers of an app's grants, or of all apps' for "",
// and that Redis has not got. The error names each grant that it did not take.
func (app App) giveBack(ctx context.Context) error {
	var mu sync.Mutex
	var failed error
	var work sync.WaitGroup
	room := make(chan struct{}, giversBack)
	for e := range app.c.mem.All() {
		mem := e.Recall().Sure()
		if mem == nil || mem.Incomplete() || mem.Err != nil || app.name != "" && e.Key.App != app.name {
			continue
		}
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			if err := app.c.Grant(mem.Key).handBack(ctx, mem); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	}
	work.Wait()
	return failed
}

// handBack gives one grant back, and has it renewed again: the due sets are lost, too.
func (g Grant) handBack(ctx context.Context, mem *Snapshot) error {
	s, err := g.restore(ctx, mem)
	if err != nil {
		return fmt.Errorf("tokencache: %s is remembered by this process, and Redis does not take it: %w", mem.Key, err)
	}
	if s.State != grant.Active {
		return nil
	}
	return g.c.Grant(s.Key).Schedule(ctx, s.RefreshAt)
}

// Rescue is for a process that ends: if Redis has lost its data, it gives back what this process
// remembers. The error names each grant that Redis did not take.
func (app App) Rescue(ctx context.Context) error {
	if !app.c.proof.Known() || !app.c.mem.Grants(app.name).Any() {
		return nil // it has never known this database, or has nothing to give
	}
	a := app.c.apps.Place(app.name)
	// In a session a loss that another process has noticed is heard of; between two it is not.
	if session := app.c.hub.Session(); session%2 == 0 && app.c.calm(ctx, math.MaxInt64) && app.c.hub.Session() == session {
		if a.Owes() {
			return app.giveBack(ctx)
		}
		return nil
	}
	lost, err := app.c.identify(ctx)
	switch {
	case lost:
		return app.c.rescue(ctx)
	case err != nil:
		return nil // nobody knows of a loss
	}
	// Another process may have noticed it first: then the key is there again, and so are most grants.
	// The news may be on its way, and what it sets off would find nothing left to give.
	a.Invalidate()
	if _, err := app.AppState(ctx); err == nil && a.Owes() {
		return app.giveBack(ctx)
	}
	return nil
}

// giveRest gives back what this process remembers of an app whose data another process has found
// lost, unless it has, or does so just now.
func (c *Cache) giveRest(ctx context.Context, a *apps.Place) error {
	return a.GiveRest(func() error { return c.App(a.Name()).giveBack(ctx) })
}

// giveRests is giveRest for all apps: an attempt may have failed.
func (c *Cache) giveRests(ctx context.Context) (failed error) {
	for a := range c.apps.All() {
		failed = errors.Join(failed, c.giveRest(ctx, a))
	}
	return failed
}

// lossHeard gives back what this process remembers when it hears that Redis has lost an app's data.
func (c *Cache) lossHeard(a *apps.Place) {
	c.giving.Go(func() { // the subscriber connection must not wait for it
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.giveRest(ctx, a); err != nil {
			c.log.Error().Err(err).Msg("Redis has lost its data, and did not take back what this process remembers")
		}
	})
}

// askWait is how long others have to give back what Redis lost.
const askWait = 300 * time.Millisecond

// inquire asks the other processes for a grant that neither Redis nor this process has, before a
// consent or its end is stored: the grant that they remember may have begun later, by a clock
// that was ahead. It reports whether anybody may have given it back. Where nobody listens to the
// grant it costs one PUBLISH.
func (g Grant) inquire(ctx context.Context) (told bool, err error) {
	if _, cluster := g.c.rdb.(*redis.ClusterClient); cluster {
		// The number of listeners is that of one node: ask only if there is a reason to.
		if s, err := g.c.App(g.key.App).AppState(ctx); err != nil || s.LostAt == 0 {
			return false, nil
		}
	}
	listening, err := g.Ask(ctx, 0, 0, 0)
	if err != nil || !listening {
		return false, err
	}
	return true, mono.Sleep(ctx, askWait)
}

// restore gives Redis back what this process remembers.
func (g Grant) restore(ctx context.Context, mem *Snapshot) (*Snapshot, error) {
	if mem.Err != nil || mem.State != grant.Disconnected && mem.Pair.AccessToken.Reveal() == "" {
		return nil, fmt.Errorf("tokencache: %s: Redis lost the grant, and this process cannot restore it: %w", mem.Key, errors.Join(mem.Err, grant.ErrNone))
	}
	sealed, quiet := "", grant.RestoreQuiet
	if mem.State != grant.Disconnected {
		var err error
		if sealed, err = g.c.sealer.Seal(mem.Key, mem.Epoch, mem.Generation, mem.Pair); err != nil {
			return nil, err
		}
	}
	if mem.Pending {
		quiet = 0 // we made this generation: nobody has a newer one
	}
	ks := g.keys()
	var a answer
	for judged := ""; ; judged = fmt.Sprintf("%x", sha1.Sum([]byte(a.sealed))) {
		var err error
		args := append([]any{ks.Events(), g.c.journal, grant.Clip(mem.By), quiet.Milliseconds(), sealed, tombstoneLife.Milliseconds(), judged}, mem.Flat()...)
		a, err = g.run(ctx, "restore", store.RestoreScript, []string{ks.Grant(), ks.Secret(), ks.Journal(), ks.Spare()}, args...)
		switch {
		case err != nil:
			return nil, err
		case a.status == "judge" && g.outlived(mem, a.sealed):
			return nil, fmt.Errorf("tokencache: restore %s: %w, or a process that remembers more than this one", mem.Key, grant.ErrDamaged)
		}
		if a.status != "judge" {
			break
		}
	}
	if a.status == "ok" {
		g.c.log.Warn().Str("app", mem.App).Str("tenant", mem.Tenant).Int64("generation", mem.Generation).
			Msg("Redis had lost this grant's newest state: restored from memory")
		g.c.apps.Notify(Change{Key: mem.Key, Kind: "restore", Record: a.snap.Record, At: a.now})
		a.snap.Pair = mem.Pair
	} else {
		a.snap.NeedsPair()
	}
	return g.c.mem.Adopt(a.snap.Finish()), nil
}

var errContradicted = errors.New("tokencache: this process has heard of a newer state, which Redis has lost and the others are asked for; try again in a moment")

// contradict is for a newer state in memory that was only heard of: it is not given back. The
// others are asked for it; what nobody gives back was nothing, and Redis' word counts then.
func (g Grant) contradict(ctx context.Context, a answer) (*Snapshot, error) {
	e, hot := g.c.mem.Entry(g.key)
	if !hot {
		return asFound(a)
	}
	s, kept, first := e.Contradict(a.snap, a.sent)
	if first {
		known := grant.Record{}
		if a.snap != nil {
			known = a.snap.Record
		}
		go func() { // the caller need not wait for it
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proof.Timeout)
			defer cancel()
			_, _ = g.Ask(ctx, known.Epoch, known.Generation, known.Rev)
		}()
	}
	switch {
	case kept != nil && (kept.Incomplete() || kept.Err != nil):
		return nil, fmt.Errorf("%w (%s)", errContradicted, g.key)
	case kept != nil:
		return kept, nil
	case s == nil:
		return nil, grant.ErrNone
	}
	return s, nil
}

// asFound is Redis' answer as it is, for a grant that is not remembered.
func asFound(a answer) (*Snapshot, error) {
	if a.snap == nil {
		return nil, grant.ErrNone
	}
	return a.snap.Finish(), nil
}

// answerAsk answers a process that found no record, if this one remembers the grant: Redis
// has lost it, and gets it back. Every process that knows may answer; the script takes
// the newest. However many ask, a process answers for a grant once at a time and once a second.
func (c *Cache) answerAsk(e *memory.Entry) {
	mem := e.Recall().Sure()
	if mem == nil || mem.Incomplete() {
		return
	}
	answered, ok := e.Answer()
	if !ok {
		return
	}
	go func() { // the subscriber connection must not wait for it
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		defer answered()
		_, err := c.Grant(mem.Key).restore(ctx, mem)
		for store.NoAnswer(err) && mono.Sleep(ctx, time.Second/2) == nil { // its node may just be replaced
			_, err = c.Grant(mem.Key).restore(ctx, mem)
		}
		if err != nil {
			c.log.Warn().Err(err).Stringer("grant", e.Key).Msg("Redis has lost this grant, and did not take it back")
		}
	}()
}

// outlived reports whether the sealed pair in Redis is a later one than this process remembers:
// beside a damaged record it is all that tells.
func (g Grant) outlived(mem *Snapshot, sealed string) bool {
	epoch, err := grant.EpochOf([]byte(sealed))
	if err != nil || epoch < mem.Epoch {
		return false
	}
	_, generation, err := g.c.sealer.Unseal(mem.Key, epoch, []byte(sealed))
	return err == nil && (epoch > mem.Epoch || generation > mem.Generation)
}

// knowsBetter reports whether this process can give back a newer state than Redis had.
func (g Grant) knowsBetter(a answer) bool {
	mem := g.Recall().Sure()
	return mem != nil && mem.Err == nil && !mem.Incomplete() && mem.KnownBefore(a.sent) && (a.snap == nil || mem.Compare(&a.snap.Record) > 0)
}
