package lock

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// minGrace is the least that a node has to answer once a majority has; see round.
const minGrace = 50 * time.Millisecond

// errBehind is the answer of a node for which nobody waits any more.
var errBehind = errors.New("this node has not answered, a majority has")

// doubts are which nodes did not answer when they were last asked.
type doubts []atomic.Bool

// round is one request to all nodes. A node that is dead or hangs must not hold up what a majority
// has decided: once that many have answered, the others have a moment more, and those that did
// not answer the last time none. Their requests go on, and what comes of them is known the next time.
type round struct {
	doubts doubts
	quorum int
	grace  time.Duration
	enough chan struct{} // closed when a majority has answered, or none can be had any more

	mu                 sync.Mutex // guards what follows
	yes, spoke, failed int
	closed             bool
}

func newRound(d doubts, grace time.Duration) *round {
	return &round{doubts: d, quorum: len(d)/2 + 1, grace: max(grace, minGrace), enough: make(chan struct{})}
}

// note counts a node's answer.
func (r *round) note(node int, yes bool, err error) {
	r.doubts[node].Store(err != nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.failed++
	case yes:
		r.yes++
		r.spoke++
	default:
		r.spoke++
	}
	rest := len(r.doubts) - r.spoke - r.failed
	if !r.closed && (r.spoke >= r.quorum || r.yes+rest < r.quorum) {
		r.closed = true
		close(r.enough)
	}
}

// ask puts one request to a node and returns its answer, or an error when nobody waits for it any
// more: ctx has ended, or a majority has answered. f goes on then. A deadline alone does not do: go-redis
// sits on a silent connection for its ReadTimeout, 5 s, unless ContextTimeoutEnabled.
func ask[T any](ctx context.Context, r *round, node int, f func() (T, error), yes func(T) bool) (T, error) {
	type answer struct {
		value T
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		value, err := f()
		got <- answer{value, err} // first: what it says about all must not overtake it
		r.note(node, err == nil && yes(value), err)
	}()
	var none T
	enough := r.enough
	var late <-chan time.Time
	for {
		select {
		case a := <-got:
			return a.value, a.err
		case <-enough:
			enough = nil
			grace := r.grace
			if r.doubts[node].Load() {
				grace = 0
			}
			timer := time.NewTimer(grace)
			defer timer.Stop()
			late = timer.C
		case <-late:
			select {
			case a := <-got: // it came with the last one
				return a.value, a.err
			default:
			}
			r.doubts[node].Store(true)
			return none, errBehind
		case <-ctx.Done():
			r.doubts[node].Store(true)
			return none, context.Cause(ctx)
		}
	}
}
