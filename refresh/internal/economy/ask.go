package economy

import (
	"context"
	"errors"
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

// asker asks Redis for what only spares the provider: the app's circuit, pauses and budget. On
// a Cluster they lie on other nodes than the grants. If their node is away, the grants' exchanges go on
// without them: only a grant's own node decides about it.
type asker struct {
	log   zerolog.Logger
	start time.Time
	rests atomic.Int64 // until then, since start; 0 while Redis answers
	slow  atomic.Int64 // answers in a row that came too late
	fails atomic.Int64 // in a row, of which the first may be that Redis is away for all
	said  atomic.Bool  // that Redis does not answer
	live  func() bool  // Redis answers this process's heartbeat: else that it is away is said already

	work *work.Group
}

func newAsker(log zerolog.Logger, live func() bool) *asker {
	return &asker{log: log, live: live, start: time.Now(), work: work.NewGroup()}
}

func (a *asker) close() {
	a.work.Close()
	a.work.Wait()
}

// economize runs f, for economyPatience at most: nothing interrupts go-redis.
func economize[T any](a *asker, f func(context.Context) (T, error)) (T, error) {
	var none T
	if a.resting() {
		return none, errResting
	}
	type answer struct {
		got T
		err error
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), economyPatience, work.ErrSlow)
	answers := make(chan answer, 1)
	err := a.work.Begin(func() {
		defer cancel()
		got, err := f(ctx)
		answers <- answer{got, err}
	})
	if err != nil {
		cancel()
		return none, err
	}
	var last answer
	select {
	case last = <-answers:
	case <-ctx.Done():
		select {
		case last = <-answers: // cancel comes after the answer
		default:
			last.err = work.ErrSlow
		}
	}
	a.note(last.err)
	return last.got, last.err
}

// later is economize for what nobody waits for: after d, or at once when ctx ends.
func (a *asker) later(ctx context.Context, d time.Duration, f func(context.Context) error) {
	_ = a.work.Begin(func() { // else it is too late to tell anybody
		if d > 0 {
			work.Pause(ctx, d, nil)
		}
		if a.resting() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), economyPatience)
		defer cancel()
		a.note(f(ctx))
	})
}

func (a *asker) resting() bool { return int64(time.Since(a.start)) < a.rests.Load() }

// note remembers whether Redis answers, and says in the log when that changes.
func (a *asker) note(err error) {
	switch {
	case err == nil:
		a.slow.Store(0)
		a.fails.Store(0)
		if a.rests.Swap(0) != 0 && a.said.Swap(false) {
			a.log.Info().Msg("Redis answers for the app's circuit, pauses and budget again")
		}
		return
	case (errors.Is(err, work.ErrSlow) || errors.Is(err, context.DeadlineExceeded)) && a.slow.Add(1) < 2:
		return // this process may have been busy
	}
	if a.rests.Store(int64(time.Since(a.start) + policy.AskAgain)); a.fails.Add(1) > 1 && a.live() && !a.said.Swap(true) {
		a.log.Warn().Err(err).Msg("Redis does not answer for the app's circuit, pauses and budget: exchanges go on without, in this process at a tenth of the budget")
	}
}
