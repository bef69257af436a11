package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
)

// Reconcile holds what a script found against memory and takes the newer of the two.
// If that is memory, either a push has overtaken the script's reply, or Redis has lost
// something and gets it back: a request that was sent after memory knew cannot
// honestly have found less.
func (g Grant) Reconcile(ctx context.Context, a Answer) (*memory.Snapshot, error) {
	mem := g.c.mem.Recall(g.key)
	if a.Damaged != nil {
		if sure := mem.Sure(); sure != nil {
			return g.Restore(ctx, sure)
		}
		return nil, a.Damaged
	}
	if mem != nil && a.Snap != nil && a.Snap.Err != nil && mem.Pair.AccessToken.Reveal() != "" &&
		mem.Epoch == a.Snap.Epoch && mem.Generation == a.Snap.Generation && mem.RefreshFP == a.Snap.RefreshFP {
		if sure := mem.Sure(); errors.Is(a.Snap.Err, memory.ErrNoPair) && sure != nil && sure.RefreshFP == mem.RefreshFP {
			return g.Restore(ctx, sure)
		}
		a.Snap.Pair, a.Snap.Err = mem.Pair, nil // the record is good, and memory has its pair
	}
	older := mem != nil && (a.Snap == nil || !a.Snap.Supersedes(mem) && mem.Compare(&a.Snap.Record) > 0)
	sure := mem.Sure()
	switch {
	case older && mem.KnownBefore(a.sent) && sure != nil && (a.Snap == nil || sure.Compare(&a.Snap.Record) > 0):
		return g.Restore(ctx, sure)
	case older && mem.KnownBefore(a.sent):
		return g.contradict(ctx, a)
	case older:
		return mem, nil
	case a.Snap == nil:
		g.c.mem.NoteAbsent(g.key, a.session)
		return nil, grant.ErrNone
	default:
		return g.c.mem.Adopt(a.Snap.Finish()), nil
	}
}

// ErrContradicted: this process has only heard of a state that Redis knows nothing of.
var ErrContradicted = errors.New("tokencache: this process has heard of a newer state, which Redis has lost and the others are asked for; try again in a moment")

// contradict is for a newer state in memory that was only heard of: it is not given back. The
// others are asked for it; what nobody gives back was nothing, and Redis' word counts then.
func (g Grant) contradict(ctx context.Context, a Answer) (*memory.Snapshot, error) {
	e, hot := g.c.mem.Entry(g.key)
	if !hot {
		return asFound(a)
	}
	s, kept, first := e.Contradict(a.Snap, a.sent)
	if first {
		known := grant.Record{}
		if a.Snap != nil {
			known = a.Snap.Record
		}
		g.c.errands.Go(g.key.String()+": Redis contradicts what this process remembers, and others are asked", func() { // the caller need not wait for it
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proof.Timeout)
			defer cancel()
			_, _ = g.Ask(ctx, known.Epoch, known.Generation, known.Rev)
		})
	}
	switch {
	case kept != nil && (kept.Incomplete() || kept.Err != nil):
		return nil, fmt.Errorf("%w (%s)", ErrContradicted, g.key)
	case kept != nil:
		return kept, nil
	case s == nil:
		return nil, grant.ErrNone
	}
	return s, nil
}

// asFound is Redis' answer as it is, for a grant that is not remembered.
func asFound(a Answer) (*memory.Snapshot, error) {
	if a.Snap == nil {
		return nil, grant.ErrNone
	}
	return a.Snap.Finish(), nil
}

// Better is a newer state than Redis had, if this process can give one back; nil for none.
func (g Grant) Better(a Answer) *memory.Snapshot {
	mem := g.c.mem.Recall(g.key).Sure()
	if mem == nil || mem.Err != nil || mem.Incomplete() || !mem.KnownBefore(a.sent) || a.Snap != nil && mem.Compare(&a.Snap.Record) <= 0 {
		return nil
	}
	return mem
}
