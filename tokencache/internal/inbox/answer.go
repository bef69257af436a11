package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/apps"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Answer is what a script returned, parsed.
type Answer struct {
	Status string
	Now    int64         // Redis' time, unix ms
	sent   mono.Time     // when the request was
	Snap   *memory.Draft // nil when there is no record
	// session in which the grant was subscribed when the request was sent; 0 none
	session uint64

	Damaged error  // the record cannot be true; Snap is nil
	Lacks   error  // the acknowledgement that was wanted
	sealed  string // the pair that came with no record
}

// Run runs a script about one grant.
func (g Grant) Run(ctx context.Context, op string, s *redis.Script, keys []string, args ...any) (Answer, error) {
	return g.roundTrip(ctx, op, func() (store.Reply, error) {
		got, err := g.c.db.Publish(ctx, s, keys, args...).Slice()
		if err != nil {
			return store.Reply{}, err
		}
		return store.ScriptReply(got)
	})
}

// roundTrip asks Redis about one grant. The snapshot's clock starts before the request
// was sent, so that no deadline seems later than it is.
func (g Grant) roundTrip(ctx context.Context, op string, ask func() (store.Reply, error)) (Answer, error) {
	if err := g.key.Validate(); err != nil {
		return Answer{}, err
	}
	home, session := g.c.mem.Home(g.key)
	mono.Wake()
	sent := mono.Now()
	r, err := ask()
	g.c.db.Watchers.Took(op, sent)
	g.c.db.NoteError(err)
	if store.LostReply(err) {
		err = g.c.db.ClosedAt(ctx, err)
	}
	var a Answer
	switch {
	case err == nil:
		a, err = g.parse(r, sent)
	case context.Cause(ctx) != nil:
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("tokencache: %s %s: %w", op, g.key, err)
	}
	a.session = session
	if a.Snap != nil {
		a.Snap.From(home, session)
		for _, kind := range r.Kinds { // this process may be subscribed to nothing
			g.c.apps.Notify(apps.Change{Key: g.key, Kind: kind, Record: a.Snap.Record, At: a.Now})
		}
	}
	if a.Damaged != nil {
		a.Damaged = fmt.Errorf("tokencache: %s %s: %w", op, g.key, a.Damaged)
	}
	return a, nil
}

func (g Grant) parse(r store.Reply, sent mono.Time) (Answer, error) {
	at, doubt := sent, r.Doubt
	if r.Told {
		at, doubt = g.c.clock.Observe(sent, mono.Now(), r.Now)
	}
	a := Answer{Status: r.Status, Now: r.Now, sent: sent}
	s := memory.NewDraft(g.key, r.Now, at)
	s.Doubt(doubt)
	known, err := r.Record(&s.Record)
	if err == nil && known {
		err = s.Check(r.Now)
	}
	if err = cmp.Or(r.Damaged, err); errors.Is(err, grant.ErrDamaged) {
		a.Damaged, err = err, nil
		return a, nil
	}
	if err != nil || !known {
		a.sealed = r.Sealed
		return a, err
	}
	s.AgeBy(g.c.clock.Behind(&s.Record, r.Now))
	if r.Sealed != "" {
		s.Pair, s.Err = g.c.sealer.Open(g.key, s.Epoch, s.Generation, []byte(r.Sealed))
	}
	a.Snap = s
	return a, nil
}

// RunAcknowledged is Run for a change that counts once it is acknowledged; Lacks of the answer says that it is
// not.
func (g Grant) RunAcknowledged(ctx context.Context, op string, s *redis.Script, keys []string, ack store.Acknowledgement, args ...any) (Answer, error) {
	if ack.Replicas == 0 {
		return g.Run(ctx, op, s, keys, args...)
	}
	var lacks error
	a, err := g.roundTrip(ctx, op, func() (store.Reply, error) {
		cmd, wait, err := g.c.db.RunAndWait(ctx, ack, s, keys, append(args, g.c.proof.Key(ctx)))
		if err != nil {
			return store.Reply{}, err
		}
		lacks = ack.Lacks(wait)
		got, err := cmd.Slice()
		if err != nil {
			return store.Reply{}, err
		}
		return store.ScriptReply(got)
	})
	if err == nil && lacks != nil {
		a.Lacks = fmt.Errorf("tokencache: %s %s: %w", op, g.key, lacks)
	}
	return a, err
}
