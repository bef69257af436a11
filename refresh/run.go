package refresh

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache"
)

const (
	// maxRenewals is how many grants one process looks at or renews at once.
	maxRenewals = 32
	// takeAtOnce is how many due grants are taken in one step, so that processes share them.
	takeAtOnce = 8
	// lookEvery is how often a process looks for due grants when it knows of none.
	lookEvery = 10 * time.Second
	// reckonEvery is how often it reckons whether the budget will do.
	reckonEvery = 5 * time.Second
	// repairEvery is how often one process of the fleet puts back what the due sets lost.
	repairEvery = time.Hour
	// revivalsAtOnce is how many dead grants one process tries at once. They must not take the room, nor
	// the budget, of those that live.
	revivalsAtOnce = 2
	// revivalLater is how long one waits for which there was no room.
	revivalLater = time.Minute
	repairPause  = 20 * time.Millisecond
	// restsLong: who is looked at no sooner is not in use.
	restsLong = 12 * time.Hour
)

// Run renews the app's grants in the background until ctx ends, and returns nil then; the
// renewals under way are finished by Close. Any number of processes may run it, none has to:
// each grant that is due is renewed by one of them, in the same way as by Token.
//
// A grant in use (see Config.IdleAfter) is renewed before its access token expires. An idle
// one is refreshed only as often as keeps its refresh token alive: 5 to 8 percent of its
// life before that ends, or every two weeks where nobody knows. One whose refresh token ends
// at a fixed date (Profile.RefreshTokenLife) is left alone while idle, and a reauth_due event
// says so two weeks ahead, or after three quarters of a shorter life.
//
// A grant that died by invalid_grant is tried again 1 minute later, and 10 minutes, 1, 6 and 24 hours after
// the try before, behind all that live: a pair makes it active, which is told as [EventRefreshed].
//
// Who dies over a renewal is replaced: a grant that was taken comes back by itself. One that
// the due sets have lost is found within about an hour.
func (c *Coordinator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.waiting, cancel)()
	ended := make(chan struct{})
	err := c.begin(func() {
		defer close(ended)
		r := &renewals{c: c, room: make(chan struct{}, maxRenewals), sooner: make(chan struct{}, 1)}
		r.work.Go(func() { r.repairs(ctx) })
		r.passes(ctx)
		r.work.Wait()
	})
	if err != nil {
		return err
	}
	<-ended
	return nil
}

// renewals is one Run.
type renewals struct {
	c        *Coordinator
	reviving atomic.Int64 // dead grants that are being tried

	room chan struct{} // holds one for each grant that is being looked at
	work sync.WaitGroup

	sooner chan struct{} // has room for one: something is due sooner than the last look said

	ahead    time.Duration // so long before they are due grants are renewed; see lookAhead
	reckoned time.Time
}

func (r *renewals) passes(ctx context.Context) {
	for ctx.Err() == nil {
		again, err := r.pass(ctx)
		if err != nil && ctx.Err() == nil {
			again = tick
			r.c.log.Warn().Err(err).Msg("looking for due grants failed: trying again")
		}
		// A part more, so that processes which wait for the same grant do not ask together.
		pause(ctx, again+rand.N(again/8+slack), r.sooner)
	}
}

// pass takes what is due, and returns how long it is until more will be.
func (r *renewals) pass(ctx context.Context) (time.Duration, error) {
	app := r.c.appNow()
	r.c.events.appFound(app)
	if e := r.c.shut(app); e != nil {
		return min(lookEvery, max(e.RetryAfter, tick)), nil
	}
	next, now, err := r.c.cache.NextDue(ctx, r.c.cfg.App)
	if err != nil {
		return 0, err
	}
	r.lookAhead(ctx, now)
	again, taken := lookEvery, 0
	if r.c.pacer.perSecond() > 0 { // the crowd is to be seen in time
		again = reckonEvery
	}
	for _, shard := range order(next) {
		switch first := next[shard] - r.ahead; {
		case next[shard] < 0:
		case first > 0:
			again = min(again, first)
		default:
			n, err := r.empty(ctx, shard)
			if err != nil {
				return 0, err
			}
			again, taken = min(again, tick), taken+n // others may have it: look again soon
		}
	}
	if taken > 0 {
		return 0, nil
	}
	return again, nil
}

// order is that in which to look at the shards: the one whose grant is due first is the first.
func order(next [tokencache.DueShards]time.Duration) []int {
	shards := rand.Perm(len(next)) // all are overdue: processes must not fight for one
	slices.SortStableFunc(shards, func(a, b int) int { return cmp.Compare(next[a], next[b]) })
	return shards
}

// empty takes all that is due in a shard. Ahead of time it takes a few, and goes on to the next
// shard: what is due first must come first.
func (r *renewals) empty(ctx context.Context, shard int) (taken int, err error) {
	if r.ahead > 0 {
		return r.take(ctx, shard, takeAtOnce/2)
	}
	for ctx.Err() == nil && !r.c.standsStill() {
		n, err := r.take(ctx, shard, takeAtOnce)
		if taken += n; err != nil || n == 0 {
			return taken, err
		}
	}
	return taken, nil
}

// take takes up to n due grants, as far as there is room, and looks after each on its own.
func (r *renewals) take(ctx context.Context, shard, n int) (taken int, err error) {
	room := r.roomFor(ctx, n)
	if room == 0 {
		return 0, nil
	}
	// Longer than all that is done with it can take; that it comes back early does no harm.
	due, err := r.c.cache.TakeDue(ctx, r.c.cfg.App, shard, room, r.ahead, 2*r.c.cfg.ClaimTimeout)
	for range room - len(due) {
		<-r.room
	}
	policy := r.policy()
	for _, d := range due {
		r.work.Go(func() {
			defer func() { <-r.room }()
			r.tend(ctx, d, policy)
		})
	}
	return len(due), err
}

// roomFor waits for room for one and takes up to n; 0 if ctx ends.
func (r *renewals) roomFor(ctx context.Context, n int) int {
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

// tend does what is due about one grant and says when it is to be looked at next. What ends
// before that comes back by itself.
func (r *renewals) tend(ctx context.Context, d tokencache.Due, policy policy) {
	next, seen, err := r.look(ctx, d.Key, policy)
	if err != nil {
		if ctx.Err() == nil {
			r.c.log.Warn().Err(err).Str("tenant", d.Tenant).Msg("a due grant could not be looked at; it comes back")
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	_ = r.c.cache.Reschedule(ctx, d, next, seen)
	r.lookSooner() // that may be before it comes back
}

func (r *renewals) lookSooner() {
	select {
	case r.sooner <- struct{}{}:
	default:
	}
}

// look returns when to look at the grant again (Redis' clock, 0 for never), and the record by
// which that was decided, nil for none.
func (r *renewals) look(ctx context.Context, k tokencache.Key, policy policy) (int64, *tokencache.Record, error) {
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout) // or it could not be put back
	defer cancel()
	s, err := r.c.cache.Read(reading, k)
	if errors.Is(err, tokencache.ErrNone) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	p := policy.plan(r.c.view(s, 0))
	switch p.do {
	case exchange:
		return r.renew(ctx, s, p.next)
	case revive:
		return r.revive(ctx, s)
	case warn:
		_, _, err := r.c.cache.Warn(ctx, s, r.c.locker.Name())
		r.c.log.Warn().Str("tenant", k.Tenant).Time("rt_expires_at", time.UnixMilli(s.RefreshTokenExpiresAt)).
			Msg("the refresh token ends at a fixed date: the tenant must consent again before")
		return s.Now(), &s.Record, err
	case drop:
		r.c.events.found(s)
		r.settle(ctx, k)
		return 0, &s.Record, nil
	default:
		if early(s) {
			r.c.events.found(s)
		}
		if p.next-s.Now() > restsLong.Milliseconds() {
			r.settle(ctx, k)
		}
		return p.next, &s.Record, nil
	}
}

// early reports whether a grant is looked at before its time: the process that changed it last
// may have died before it told that.
func early(s *tokencache.Snapshot) bool {
	return max(s.RefreshAt, s.RetryAt, s.WarnedAt+time.Hour.Milliseconds()) > s.Now()
}

// settle is for a grant that is left alone for long: its journal shrinks to what it holds. That
// saves memory and nothing else, so that it may fail.
func (r *renewals) settle(ctx context.Context, k tokencache.Key) {
	if err := r.c.cache.Compact(ctx, k); err != nil {
		r.c.log.Debug().Err(err).Str("tenant", k.Tenant).Msg("the journal was not compacted")
	}
}

func (r *renewals) policy() policy {
	return policy{profile: r.c.profile, mints: r.c.cfg.Provider.Mints, idleAfter: r.c.cfg.IdleAfter, ahead: r.ahead}
}

// renew makes an exchange in the same way as Token does. It waits for the budget before it
// takes the lease: whoever needs the token must not wait for that. It puts the grant back
// while it still has it: two that wait for one grant would both pay.
func (r *renewals) renew(ctx context.Context, s *tokencache.Snapshot, due int64) (next int64, seen *tokencache.Record, err error) {
	waiting, cancel := context.WithTimeout(ctx, r.c.cfg.ClaimTimeout)
	defer cancel()
	leave, err := r.c.pacer.enter(waiting, func() bool { return false })
	switch {
	case err != nil && waiting.Err() != nil:
		return due, &s.Record, nil
	case err != nil:
		return 0, nil, err
	}
	defer leave()
	got, err := r.c.await(ctx, s.Key, want{after: position{s.Epoch, s.Generation}, background: true})
	var failed *Error
	switch {
	case err == nil:
		return got.RefreshAt, &got.Record, nil
	case !errors.As(err, &failed):
		return 0, nil, err
	case errors.Is(err, ErrReauthorize), errors.Is(err, ErrNotConnected):
		return s.Now(), &s.Record, nil // perhaps found so: look again, and say it
	default:
		return s.Now() + max(failed.RetryAfter, tick).Milliseconds(), &s.Record, nil
	}
}

// revive presents the refresh token of a dead grant again, if there is room for that and budget to spare.
func (r *renewals) revive(ctx context.Context, s *tokencache.Snapshot) (next int64, seen *tokencache.Record, err error) {
	later := s.Now() + jittered(revivalLater, jitter()).Milliseconds()
	defer r.reviving.Add(-1)
	if r.reviving.Add(1) > revivalsAtOnce {
		return later, &s.Record, nil
	}
	waiting, cancel := context.WithTimeout(ctx, tick)
	defer cancel()
	leave, err := r.c.pacer.enter(waiting, func() bool { return false })
	if err != nil {
		return later, &s.Record, nil
	}
	defer leave()
	got, err := r.c.await(ctx, s.Key, want{after: position{s.Epoch, s.Generation}, background: true, revival: true})
	var failed *Error
	switch {
	case err == nil:
		return got.RefreshAt, &got.Record, nil
	case errors.As(err, &failed):
		return s.Now() + max(failed.RetryAfter, tick).Milliseconds(), &s.Record, nil // its record says more
	default:
		return 0, nil, err
	}
}

// horizons are how far lookAhead looks: 10 s to an hour and more, each a quarter more than the
// one before, or there would be gaps in which a crowd is seen by none.
var horizons = func() (h []time.Duration) {
	for d := 10 * time.Second; d < 90*time.Minute; d += d / 4 {
		h = append(h, d)
	}
	return h
}()

// lookAhead reckons whether more grants become due within a horizon than the budget allows in
// that time. If so they are renewed before they are due, or some would expire in the queue.
func (r *renewals) lookAhead(ctx context.Context, now int64) {
	rate := r.c.pacer.perSecond()
	if rate == 0 || time.Since(r.reckoned) < reckonEvery {
		return
	}
	counts, err := r.c.cache.CountDue(ctx, r.c.cfg.App, now, horizons...)
	if err != nil {
		return // what was reckoned before is as good
	}
	r.ahead, r.reckoned = crowded(counts, rate), time.Now()
}

// crowded is the longest horizon within which more is due than a rate allows, with a fifth to
// spare, and the time in which nobody reckons.
func crowded(counts []int64, perSecond float64) (ahead time.Duration) {
	for i, n := range counts {
		if float64(n) > 0.8*perSecond*(horizons[i]-2*reckonEvery).Seconds() {
			ahead = horizons[i]
		}
	}
	return ahead
}

// repairs puts back what the due sets have lost; one process at a time.
func (r *renewals) repairs(ctx context.Context) {
	for ctx.Err() == nil {
		turn, err := r.c.cache.TakeTurn(ctx, r.c.cfg.App, "repair", r.c.locker.Name(), repairEvery)
		if turn {
			var missing int
			missing, err = r.c.cache.Repair(ctx, r.c.cfg.App, repairPause)
			if missing > 0 {
				r.c.log.Warn().Int("grants", missing).Msg("grants that no due set knew: scheduled again")
				r.lookSooner()
			}
		}
		if err != nil && ctx.Err() == nil {
			r.c.log.Warn().Err(err).Msg("looking for grants that no due set knows failed: trying again later")
		}
		pause(ctx, repairEvery/16+rand.N(repairEvery/16), nil)
	}
}

// keepHouse begins, once, what a process that uses tokens does besides: it notes which
// grants are in use.
func (c *Coordinator) keepHouse() {
	c.house.Do(func() {
		c.work.Go(func() {
			coarse := coarseness(c.cfg.IdleAfter)
			ctx := c.waiting
			_ = c.cache.WatchApp(ctx, c.cfg.App) // or the first exchange would have to ask
			for {
				pause(ctx, min(coarse, time.Minute), nil)
				if ctx.Err() != nil {
					return
				}
				if err := c.cache.Touch(ctx, c.cfg.App, coarse); err != nil && ctx.Err() == nil {
					c.log.Warn().Err(err).Msg("which grants are in use was not noted: trying again")
				}
			}
		})
	})
}

// coarseness is how old a note that a grant is in use may become: at least a minute,
// unless IdleAfter is a matter of minutes itself.
func coarseness(idleAfter time.Duration) time.Duration {
	return max(min(time.Minute, idleAfter/4), idleAfter/50)
}
