package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// NewID returns an id for one state change. A repeat with the same id, by us or by
// go-redis after a lost store.Reply, is answered like the first.
func NewID() string { return store.NewID() }

// answer is what a script returned, parsed.
type answer struct {
	status string
	now    int64         // Redis' time, unix ms
	sent   mono.Time     // when the request was
	snap   *memory.Draft // nil when there is no record
	// session in which the grant was subscribed when the request was sent; 0 none
	session uint64

	damaged error  // the record cannot be true; snap is nil
	lacks   error  // the acknowledgement that was wanted
	sealed  string // the pair that came with no record
}

// run runs a script about one grant.
func (g Grant) run(ctx context.Context, op string, s *redis.Script, keys []string, args ...any) (answer, error) {
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
func (g Grant) roundTrip(ctx context.Context, op string, ask func() (store.Reply, error)) (answer, error) {
	if err := g.key.Validate(); err != nil {
		return answer{}, err
	}
	home, session := g.c.mem.Home(g.key)
	mono.Wake()
	sent := mono.Now()
	r, err := ask()
	g.c.db.Unanswered(err)
	if store.LostReply(err) {
		err = g.c.db.ClosedAt(ctx, err)
	}
	var a answer
	switch {
	case err == nil:
		a, err = g.parse(r, sent)
	case context.Cause(ctx) != nil:
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	if err != nil {
		return answer{}, fmt.Errorf("tokencache: %s %s: %w", op, g.key, err)
	}
	a.session = session
	if a.snap != nil {
		a.snap.From(home, session)
	}
	if a.damaged != nil {
		a.damaged = fmt.Errorf("tokencache: %s %s: %w", op, g.key, a.damaged)
	}
	return a, nil
}

func (g Grant) parse(r store.Reply, sent mono.Time) (answer, error) {
	at := sent
	if r.Told {
		at = g.c.clock.Observe(sent, mono.Now(), r.Now)
	}
	a := answer{status: r.Status, now: r.Now, sent: sent}
	s := memory.NewDraft(g.key, r.Now, at)
	known, err := r.Record(&s.Record)
	if err == nil && known {
		err = s.Check(r.Now)
	}
	if err = cmp.Or(r.Damaged, err); errors.Is(err, grant.ErrDamaged) {
		a.damaged, err = err, nil
		return a, nil
	}
	if err != nil || !known {
		a.sealed = r.Sealed
		return a, err
	}
	s.Aged(g.c.clock.Behind(&s.Record, r.Now))
	if r.Sealed != "" {
		s.Pair, s.Err = g.c.sealer.Open(g.key, s.Epoch, s.Generation, []byte(r.Sealed))
	}
	a.snap = s
	return a, nil
}
