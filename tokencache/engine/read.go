package engine

import (
	"context"
	"crypto/sha1" // as scripts have it
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Read reads a grant from Redis in one round trip and remembers it if it is pinned or
// hot. A record that is older than what memory holds, or is gone, is first repaired
// from memory. The error is ErrNone, or says why Redis did not answer.
func (g Grant) Read(ctx context.Context) (*Snapshot, error) {
	for range 10 {
		a, err := g.read(ctx)
		if err != nil {
			return nil, err
		}
		s, err := g.reconcile(ctx, a)
		if err != nil || !s.incomplete() {
			return s, err
		}
		// A push overtook the reply and brought the record alone: read its pair.
	}
	return nil, fmt.Errorf("tokencache: read %s: newer states keep coming; try again", g.key)
}

// ReadFresh is for a caller who wants no more than a fresh token of a grant that memory has
// no room for: a bare GET, which costs two thirds of a Read. The snapshot's record knows
// the epoch and the times alone. It is nil where there is no fresh token, or only a Read
// can tell. What it cannot tell is whether the pair is still the record's: a pair that somebody who
// may write to Redis has put back is served until it expires, though the tenant is disconnected.
// Asking for the record in the same round trip would cost a fifth more.
func (g Grant) ReadFresh(ctx context.Context) (*Snapshot, error) {
	at := mono.Now()
	now, ok := g.c.clock.Guess(at)
	if _, hot := g.c.hot.load(g.key); hot || !ok || g.c.hot.size() < g.c.limit || g.c.hot.seen.lately(g.key) {
		return nil, nil // it is to be read and remembered
	}
	sealed, err := g.c.db.Secret(ctx, g.keys().Secret())
	if err != nil {
		return nil, fmt.Errorf("tokencache: glance %s: %w", g.key, err)
	}
	epoch, err := grant.EpochOf(sealed)
	if err != nil {
		return nil, nil // there is none, or it is damaged
	}
	s := &Snapshot{Key: g.key, now: now, at: at}
	if s.Pair, err = g.c.sealer.Open(g.key, epoch, grant.AnyGeneration, sealed); err != nil {
		return nil, nil // Read says it better
	}
	s.State, s.Epoch, s.Schema = grant.Active, epoch, grant.Schema
	s.IssuedAt, s.ExpiresAt, s.RefreshAt = s.Pair.IssuedAt, s.Pair.ExpiresAt, s.Pair.RefreshAt
	s.behind = g.c.clock.Behind(&s.Record, now)
	if s.finish(); !s.Fresh() {
		return nil, nil
	}
	g.c.hot.seen.again(g.key)
	g.c.cold.note(g.key)
	return s, nil
}

// read is record, sealed pair and Redis' time, in one round trip.
func (g Grant) read(ctx context.Context) (answer, error) {
	ks, once := g.keys(), g.c.readOnce
	if _, cluster := g.c.rdb.(*redis.ClusterClient); cluster {
		once = func(ctx context.Context, ks store.Keys) (store.Reply, error) {
			return store.Insist(ctx, g.c.db, func() (store.Reply, error) { return g.c.readOnce(ctx, ks) })
		}
	}
	for again := 2; ; again-- {
		torn := false
		a, err := g.roundTrip(ctx, "read", func() (store.Reply, error) { return once(ctx, ks) })
		if a.snap != nil {
			a.snap.needsPair()
			torn = errors.Is(a.snap.Err, grant.ErrOtherPair) || errors.Is(a.snap.Err, errNoPair)
		}
		if err != nil || !torn || again == 0 {
			return a, err
		}
	}
}

// readOnce reads the record before the pair: if somebody changes the grant in between, the pair is
// one of a later state, and does not open as the record's. A transaction would be of one moment, but a
// Redis that is out of memory refuses it, and it costs more.
func (c *Cache) readOnce(ctx context.Context, ks store.Keys) (store.Reply, error) {
	var record *redis.SliceCmd
	var secret *redis.StringCmd
	now, known := c.clock.ToldJustNow(mono.Now())
	told := !known || c.clock.Many // a Cluster's nodes have a clock each
	at, err := c.db.Together(ctx, ks.Grant(), told, func(p redis.Pipeliner) {
		record, secret = p.HMGet(ctx, ks.Grant(), grant.FieldNames...), p.GetRange(ctx, ks.Secret(), 0, grant.MaxSealed)
	})
	if told {
		now = at
	}
	r := store.Reply{Status: "ok", Now: now, Told: told, Values: record.Val(), Sealed: secret.Val()}
	if redis.HasErrorPrefix(record.Err(), "WRONGTYPE") {
		r.Damaged = fmt.Errorf("%w (the key is no HASH)", grant.ErrDamaged)
	}
	return r, err // a secret of another type is none
}

// reconcile holds what a script found against memory and takes the newer of the two.
// If that is memory, either a push has overtaken the script's reply, or Redis has lost
// something and gets it back: a request that was sent after memory knew cannot
// honestly have found less.
func (g Grant) reconcile(ctx context.Context, a answer) (*Snapshot, error) {
	mem := g.Recall()
	if a.damaged != nil {
		if sure := mem.sure(); sure != nil {
			return g.restore(ctx, sure)
		}
		return nil, a.damaged
	}
	if mem != nil && a.snap != nil && a.snap.Err != nil && mem.Pair.AccessToken.Reveal() != "" &&
		mem.Epoch == a.snap.Epoch && mem.Generation == a.snap.Generation && mem.RefreshFP == a.snap.RefreshFP {
		if sure := mem.sure(); errors.Is(a.snap.Err, errNoPair) && sure != nil && sure.RefreshFP == mem.RefreshFP {
			return g.restore(ctx, sure)
		}
		a.snap.Pair, a.snap.Err = mem.Pair, nil // the record is good, and memory has its pair
	}
	older := mem != nil && (a.snap == nil || !a.snap.supersedes(mem) && mem.Compare(&a.snap.Record) > 0)
	sure := mem.sure()
	switch {
	case older && a.sent > mem.knownAt && sure != nil && (a.snap == nil || sure.Compare(&a.snap.Record) > 0):
		return g.restore(ctx, sure)
	case older && a.sent > mem.knownAt:
		return g.contradict(ctx, a)
	case older:
		return mem, nil
	case a.snap == nil:
		g.noteAbsent(a)
		return nil, grant.ErrNone
	default:
		return g.c.adopt(a.snap.finish()), nil
	}
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
		g.c.notifyChange(Change{mem.Key, "restore", a.snap.Record, a.now})
		a.snap.Pair = mem.Pair
	} else {
		a.snap.needsPair()
	}
	return g.c.adopt(a.snap.finish()), nil
}

// believedFor is how long a state that was only heard of stands against a Redis that knows nothing
// of it: whoever made it, or has its pair, gives it back in that time.
const believedFor = 5 * time.Second

var errContradicted = errors.New("tokencache: this process has heard of a newer state, which Redis has lost and the others are asked for; try again in a moment")

// contradict is for a newer state in memory that was only heard of: it is not given back. The
// others are asked for it; what nobody gives back was nothing, and Redis' word counts then.
func (g Grant) contradict(ctx context.Context, a answer) (*Snapshot, error) {
	e, hot := g.c.hot.load(g.key)
	if !hot {
		return g.c.accept(a)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	mem := e.snap.Load()
	if mem == nil || !mem.heard || a.sent <= mem.knownAt {
		return g.c.accept(a)
	}
	now := mono.Now()
	if e.contradicted == 0 || e.contradictedRev != mem.Rev {
		e.contradicted, e.contradictedRev = now, mem.Rev
		known := grant.Record{}
		if a.snap != nil {
			known = a.snap.Record
		}
		go func() { // the lock is held
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proof.Timeout)
			defer cancel()
			_, _ = g.Ask(ctx, known.Epoch, known.Generation, known.Rev)
		}()
	}
	switch {
	case now-e.contradicted < believedFor && (mem.incomplete() || mem.Err != nil):
		return nil, fmt.Errorf("%w (%s)", errContradicted, g.key)
	case now-e.contradicted < believedFor:
		return mem, nil
	}
	e.contradicted = 0
	if a.snap == nil {
		e.snap.Store(nil)
		e.news()
		return nil, grant.ErrNone
	}
	if a.snap.home != e {
		a.snap.session, a.snap.home = 0, e
	}
	e.snap.Store(a.snap.finish())
	e.news()
	return a.snap, nil
}

// accept is Redis' answer as it is, for a grant that is not remembered.
func (c *Cache) accept(a answer) (*Snapshot, error) {
	if a.snap == nil {
		return nil, grant.ErrNone
	}
	return a.snap.finish(), nil
}
