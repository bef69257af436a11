package renew

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

const (
	// takeAtOnce is how many due grants are taken in one step, so that processes share them.
	takeAtOnce = 8
	// lookEvery is how often a process looks for due grants when it knows of none.
	lookEvery = 10 * time.Second
)

// Until renews grants until ctx ends.
func (r *Run) Until(ctx context.Context) {
	r.work.Go(func() { r.repairs(ctx) })
	r.passes(ctx)
	r.work.Wait()
}

func (r *Run) passes(ctx context.Context) {
	for ctx.Err() == nil {
		again, err := r.pass(ctx)
		if err != nil {
			again = max(again, policy.LookAgain)
		}
		if ctx.Err() == nil {
			r.trouble.note(r.Flights, err, "looking for due grants failed: the others go on")
		}
		// A part more, so that processes which wait for the same grant do not ask together.
		work.Pause(ctx, again+rand.N(again/8+policy.Slack), r.sooner)
	}
}

var errRests = errors.New("some of the due sets have not answered lately")

// pass takes what is due, and returns how long it is until more will be. A shard that fails, since its
// node is away or its key is damaged, stops none of the others; the error is the first.
func (r *Run) pass(ctx context.Context) (time.Duration, error) {
	if err := r.Flights.Judge.FitForMore(ctx, "any"); err != nil {
		return lookEvery, err
	}
	app := r.Flights.Economy.Now()
	r.ReportApp(app)
	if e := r.Flights.Economy.Shut(app); e != nil {
		return min(lookEvery, max(e.Retry, policy.LookAgain)), nil
	}
	next, now, err := r.Flights.App.NextDue(ctx, r.resting()...)
	if err != nil && !slices.ContainsFunc(next[:], known) {
		return 0, err // Redis itself is away
	}
	r.mend(ctx, &next, err)
	r.lookAhead(ctx, now)
	again, taken := lookEvery, 0
	if policy.PerSecond(r.Flights.Rules.Profile.Budget) > 0 { // the crowd is to be seen in time
		again = policy.ReckonEvery
	}
	for _, shard := range order(next) {
		switch first := next[shard] - r.ahead; {
		case next[shard] == engine.DueUnknown:
			err = cmp.Or(err, errRests)
			r.rest(shard)
		case next[shard] < 0:
		case first > 0:
			again = min(again, first)
		default:
			n, failed := r.empty(ctx, shard)
			taken += n
			if n == 0 && len(r.left.of(shard)) > 0 {
				again = min(again, leftEvery)
			} else {
				again = min(again, policy.LookAgain) // others may have it: look again soon
			}
			if failed != nil {
				err = cmp.Or(err, failed)
				r.rest(shard)
			}
		}
	}
	if taken > 0 {
		return 0, err
	}
	return again, err
}

func known(next time.Duration) bool { return next != engine.DueUnknown }

// order is that in which to look at the shards: the one whose grant is due first is the first.
func order(next [engine.DueShards]time.Duration) []int {
	shards := rand.Perm(len(next)) // all are overdue: processes must not fight for one
	slices.SortStableFunc(shards, func(a, b int) int { return cmp.Compare(next[a], next[b]) })
	return shards
}

// empty takes all that is due in a shard. Ahead of time it takes a few, and goes on to the next
// shard: what is due first must come first.
func (r *Run) empty(ctx context.Context, shard int) (taken int, err error) {
	if r.ahead > 0 {
		return r.take(ctx, shard, takeAtOnce/2)
	}
	for ctx.Err() == nil && !r.Flights.Economy.StandsStill(r.Flights.Economy.Applicant("", nil)) {
		n, err := r.take(ctx, shard, takeAtOnce)
		if taken += n; err != nil || n == 0 {
			return taken, err
		}
	}
	return taken, nil
}

// take takes up to n due grants, as far as there is room, and looks after each on its own.
func (r *Run) take(ctx context.Context, shard, n int) (taken int, err error) {
	leave := r.left.of(shard)
	if len(leave) >= mostLeft {
		return 0, nil
	}
	room := r.roomFor(ctx, n)
	if room == 0 {
		return 0, nil
	}
	// Longer than all that is done with it can take; that it comes back early does no harm.
	due, err := r.Flights.App.TakeDue(ctx, shard, room, r.ahead, 2*r.Flights.ClaimTimeout, leave...)
	for range room - len(due) {
		<-r.room
	}
	rules := r.rules()
	for _, d := range due {
		r.work.Go(func() {
			defer func() { <-r.room }()
			r.tend(ctx, d, shard, rules)
		})
	}
	return len(due), err
}

// roomFor waits for room for one and takes up to n; 0 if ctx ends.
func (r *Run) roomFor(ctx context.Context, n int) int {
	select {
	case r.room <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for got := 1; got < n; got++ {
		select {
		case r.room <- struct{}{}:
		default:
			return got
		}
	}
	return n
}

// lookAhead reckons whether more grants become due within a horizon than the budget allows in
// that time. If so they are renewed before they are due, or some would expire in the queue.
func (r *Run) lookAhead(ctx context.Context, now int64) {
	rate := policy.PerSecond(r.Flights.Rules.Profile.Budget)
	if rate == 0 || time.Since(r.reckoned) < policy.ReckonEvery {
		return
	}
	counts, err := r.Flights.App.CountDue(ctx, now, policy.Horizons...)
	if err != nil {
		return // what was reckoned before is as good
	}
	r.ahead, r.reckoned = policy.LookAhead(counts, rate), time.Now()
}
