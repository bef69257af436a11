package inbox

import (
	"context" // as scripts have it
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Read reads a grant from Redis in one round trip and remembers it if it is pinned or
// hot. A record that is older than what memory holds, or is gone, is first repaired
// from memory. The error is ErrNone, or says why Redis did not answer.
func (g Grant) Read(ctx context.Context) (*memory.Snapshot, error) {
	for range 10 {
		a, err := g.Fetch(ctx)
		if err != nil {
			return nil, err
		}
		s, err := g.Reconcile(ctx, a)
		if err != nil || !s.Incomplete() {
			return s, err
		}
		// A push overtook the reply and brought the record alone: read its pair.
	}
	return nil, fmt.Errorf("tokencache: read %s: newer states keep coming; try again", g.key)
}

// ReadFresh reads no more than a fresh token of a grant that memory has no room for, by a
// bare GET, which costs two thirds of a Read. The snapshot's record knows
// the epoch and the times alone. It is nil where there is no fresh token, or only a Read
// can tell. What it cannot tell is whether the pair is still the record's: a pair that somebody who
// may write to Redis has put back is served until it expires, though the tenant is disconnected.
// Asking for the record in the same round trip would cost a fifth more.
func (g Grant) ReadFresh(ctx context.Context) (*memory.Snapshot, error) {
	at := mono.Now()
	now, ok := g.c.clock.Guess(at)
	if !ok || g.c.mem.Wants(g.key) {
		return nil, nil // it is to be read and remembered
	}
	sealed, err := g.c.db.Secret(ctx, g.keys().Secret())
	g.c.db.Watchers.Took("token", at)
	if err != nil {
		return nil, fmt.Errorf("tokencache: read the token of %s: %w", g.key, err)
	}
	epoch, err := grant.EpochOf(sealed)
	if err != nil {
		return nil, nil // there is none, or it is damaged
	}
	d := memory.NewDraft(g.key, now, at)
	if d.Pair, err = g.c.sealer.Open(g.key, epoch, grant.AnyGeneration, sealed); err != nil {
		return nil, nil // Read says it better
	}
	d.State, d.Epoch, d.Schema = grant.Active, epoch, grant.Schema
	d.IssuedAt, d.ExpiresAt, d.RefreshAt = d.Pair.IssuedAt, d.Pair.ExpiresAt, d.Pair.RefreshAt
	d.AgeBy(g.c.clock.Behind(&d.Record, now))
	s := d.Finish()
	if !s.Fresh() {
		return nil, nil
	}
	g.c.mem.NoteCold(g.key)
	return s, nil
}

// Fetch is record, sealed pair and Redis' time, in one round trip.
func (g Grant) Fetch(ctx context.Context) (Answer, error) {
	ks := g.keys()
	once := func() (store.Reply, error) {
		return store.Insist(ctx, g.c.db, func() (store.Reply, error) { return g.c.fetchOnce(ctx, ks) })
	}
	for again := 2; ; again-- {
		torn := false
		a, err := g.roundTrip(ctx, "read", once)
		if a.Snap != nil {
			a.Snap.NeedsPair()
			torn = errors.Is(a.Snap.Err, grant.ErrOtherPair) || errors.Is(a.Snap.Err, memory.ErrNoPair)
		}
		if err != nil || !torn || again == 0 {
			return a, err
		}
	}
}

// fetchOnce reads the record before the pair: if somebody changes the grant in between, the pair is
// one of a later state, and does not open as the record's. A transaction would be of one moment, but a
// Redis that is out of memory refuses it, and it costs more.
func (c *Inbox) fetchOnce(ctx context.Context, ks store.Keys) (store.Reply, error) {
	var record *redis.SliceCmd
	var secret *redis.StringCmd
	doubt := c.clock.Doubt() // before it can have become less
	now, known := c.clock.ToldJustNow(mono.Now())
	told := !known || c.clock.Many // a Cluster's nodes have a clock each
	at, err := c.db.Together(ctx, ks.Grant(), told, func(p redis.Pipeliner) {
		record, secret = p.HMGet(ctx, ks.Grant(), grant.FieldNames...), p.GetRange(ctx, ks.Secret(), 0, grant.MaxSealed)
	})
	if err != nil {
		return store.Reply{}, err // on a Cluster nothing may have been asked
	}
	if told {
		now = at
	}
	r := store.Reply{Status: "ok", Now: now, Told: told, Doubt: doubt, Values: record.Val(), Sealed: secret.Val()}
	if redis.HasErrorPrefix(record.Err(), "WRONGTYPE") {
		r.Damaged = fmt.Errorf("%w (the key is no HASH)", grant.ErrDamaged)
	}
	return r, nil // a secret of another type is none
}
