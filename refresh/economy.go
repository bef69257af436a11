package refresh

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
)

// economyPatience is how long an exchange waits for Redis to say what would spare the
// provider.
const economyPatience = time.Second

var errResting = errors.New("redis did not answer for the app a moment ago")

// economy asks Redis for what only spares the provider: the app's circuit, pauses and budget. On
// a Cluster they lie on other nodes than the grants. If their node is away, the grants' exchanges go on
// without them: only a grant's own node decides about it.
type economy struct {
	log   zerolog.Logger
	start time.Time
	rests atomic.Int64 // until then, since start; 0 while Redis answers
	slow  atomic.Int64 // answers in a row that came too late

	mu     sync.Mutex // guards closed, after which no work begins
	closed bool
	work   sync.WaitGroup
}

func newEconomy(log zerolog.Logger) *economy { return &economy{log: log, start: time.Now()} }

// begin starts work that close waits for, and reports whether it did. That work begins none.
func (e *economy) begin(work func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.work.Go(work)
	}
	return !e.closed
}

func (e *economy) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.work.Wait()
}

// economize runs f, for economyPatience at most: nothing interrupts go-redis.
func economize[T any](e *economy, f func(context.Context) (T, error)) (T, error) {
	var none T
	if e.resting() {
		return none, errResting
	}
	type answer struct {
		got T
		err error
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), economyPatience, work.ErrSlow)
	answers := make(chan answer, 1)
	begun := e.begin(func() {
		defer cancel()
		got, err := f(ctx)
		answers <- answer{got, err}
	})
	if !begun {
		cancel()
		return none, work.ErrClosed
	}
	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		select {
		case a = <-answers: // cancel comes after the answer
		default:
			a.err = work.ErrSlow
		}
	}
	e.note(a.err)
	return a.got, a.err
}

// later is economize for what nobody waits for: after d, or at once when ctx ends.
func (e *economy) later(ctx context.Context, d time.Duration, f func(context.Context) error) {
	e.begin(func() {
		if d > 0 {
			work.Pause(ctx, d, nil)
		}
		if e.resting() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), economyPatience)
		defer cancel()
		e.note(f(ctx))
	})
}

func (e *economy) resting() bool { return int64(time.Since(e.start)) < e.rests.Load() }

// note remembers whether Redis answers, and says in the log when that changes.
func (e *economy) note(err error) {
	switch {
	case err == nil:
		e.slow.Store(0)
		if e.rests.Swap(0) != 0 {
			e.log.Info().Msg("Redis answers for the app's circuit, pauses and budget again")
		}
		return
	case (errors.Is(err, work.ErrSlow) || errors.Is(err, context.DeadlineExceeded)) && e.slow.Add(1) < 2:
		return // this process may have been busy
	}
	if e.rests.Swap(int64(time.Since(e.start)+policy.AskAgain)) == 0 {
		e.log.Warn().Err(err).Msg("Redis does not answer for the app's circuit, pauses and budget: exchanges go on without, in this process at a tenth of the budget")
	}
}
