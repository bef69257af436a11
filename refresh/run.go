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

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

const (
	// maxRenewals is how many grants one process looks at or renews at once.
	maxRenewals = 32
	// takeAtOnce is how many due grants are taken in one step, so that processes share them.
	takeAtOnce = 8
	// lookEvery is how often a process looks for due grants when it knows of none.
	lookEvery = 10 * time.Second
	// repairEvery is how often one process of the fleet puts back what the due sets lost.
	repairEvery = time.Hour
	// revivalsAtOnce is how many dead grants one process tries at once. They must not take the room, nor
	// the budget, of those that live.
	revivalsAtOnce = 2
	repairPause    = 20 * time.Millisecond
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
	defer context.AfterFunc(c.work.Waiting, cancel)()
	ended := make(chan struct{})
	err := c.work.Begin(func() {
		defer close(ended)
		r := &renewals{c: c, room: make(chan struct{}, maxRenewals), sooner: make(chan struct{}, 1), mended: make(chan struct{}, 1)}
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

	mended chan struct{} // has room for one: a due set was lost; see mend

	ahead    time.Duration // so long before they are due grants are renewed; see lookAhead
	reckoned time.Time
	rests    [engine.DueShards]time.Time // until then a shard that failed is not asked
	trouble  trouble
	left     leftAlone

	unrenewed unrenewed

	repaired time.Time // by this process; for the goroutine of repairs
}

func (r *renewals) passes(ctx context.Context) {
	for ctx.Err() == nil {
		again, err := r.pass(ctx)
		if err != nil {
			again = max(again, policy.LookAgain)
		}
		if ctx.Err() == nil {
			r.trouble.note(&r.c.log, err, "looking for due grants failed: the others go on")
		}
		// A part more, so that processes which wait for the same grant do not ask together.
		work.Pause(ctx, again+rand.N(again/8+policy.Slack), r.sooner)
	}
}

// trouble is something that fails again and again: it is said when it begins, and when it is over.
type trouble struct{ since time.Time }

func (t *trouble) note(log *zerolog.Logger, err error, what string) {
	switch {
	case err != nil && t.since.IsZero():
		t.since = time.Now()
		log.Warn().Err(err).Msg(what)
	case err == nil && !t.since.IsZero():
		log.Info().Dur("after_ms", time.Since(t.since)).Msg("no more: " + what)
		t.since = time.Time{}
	}
}

var errRests = errors.New("some of the due sets have not answered lately")

// pass takes what is due, and returns how long it is until more will be. A shard that fails, since its
// node is away or its key is damaged, stops none of the others; the error is the first.
func (r *renewals) pass(ctx context.Context) (time.Duration, error) {
	if err := r.c.readyForMore(ctx, r.c.key("any")); err != nil {
		return lookEvery, err
	}
	app := r.c.appNow()
	r.c.events.reportApp(app)
	if e := r.c.shut(app); e != nil {
		return min(lookEvery, max(e.RetryAfter, policy.LookAgain)), nil
	}
	next, now, err := r.c.app.NextDue(ctx, r.resting()...)
	if err != nil && !slices.ContainsFunc(next[:], known) {
		return 0, err // Redis itself is away
	}
	r.mend(ctx, &next, err)
	r.lookAhead(ctx, now)
	again, taken := lookEvery, 0
	if policy.PerSecond(r.c.profile.Budget) > 0 { // the crowd is to be seen in time
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

// resting are the shards that failed a moment ago.
func (r *renewals) resting() (shards []int) {
	for shard, until := range r.rests {
		if time.Now().Before(until) {
			shards = append(shards, shard)
		}
	}
	return shards
}

// rest leaves a shard alone for a while, if it is not already.
func (r *renewals) rest(shard int) {
	if now := time.Now(); now.After(r.rests[shard]) {
		r.rests[shard] = now.Add(policy.AskAgain)
	}
}

// mend begins anew the due sets whose keys are of another type; what was in them is found by a repair.
func (r *renewals) mend(ctx context.Context, next *[engine.DueShards]time.Duration, err error) {
	if !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return
	}
	for shard, at := range next {
		if at != engine.DueUnknown || time.Now().Before(r.rests[shard]) {
			continue
		}
		if mended, _ := r.c.app.MendDue(ctx, shard); mended {
			r.c.log.Error().Int("shard", shard).Msg("the key of a due set was of another type: somebody else has written it; the set is made anew, from the grants")
			next[shard] = engine.DueNever
			poke(r.mended)
		}
	}
}

// order is that in which to look at the shards: the one whose grant is due first is the first.
func order(next [engine.DueShards]time.Duration) []int {
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
	leave := r.left.of(shard)
	if len(leave) >= mostLeft {
		return 0, nil
	}
	room := r.roomFor(ctx, n)
	if room == 0 {
		return 0, nil
	}
	// Longer than all that is done with it can take; that it comes back early does no harm.
	due, err := r.c.app.TakeDue(ctx, shard, room, r.ahead, 2*r.c.cfg.ClaimTimeout, leave...)
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

// tend does what is due about one grant and says when it is looked at next. What ends
// before that comes back by itself.
func (r *renewals) tend(ctx context.Context, d engine.Due, shard int, rules policy.Rules) {
	next, seen, err := r.look(ctx, d.Key, rules)
	leaves := errors.Is(err, tokencache.ErrSealed) || errors.Is(err, tokencache.ErrNewer)
	switch {
	case leaves:
		if !r.c.noteUnopened(d.Key, err) {
			r.c.log.Warn().Err(err).Str("tenant", d.Tenant).Msg("this process leaves a due grant to others")
		}
		r.left.add(shard, d.Tenant)
		next = d.Since // as if it had not been taken
	case err != nil:
		if ctx.Err() == nil {
			r.c.log.Warn().Err(err).Str("tenant", d.Tenant).Msg("a due grant could not be looked at; it comes back")
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), work.RedisTimeout)
	defer cancel()
	_ = r.c.app.Grant(d.Tenant).Reschedule(ctx, d, next, seen)
	if !leaves {
		r.lookSooner() // that may be before it comes back
	}
}

func (r *renewals) lookSooner() { poke(r.sooner) }

// poke puts something into a channel that has room for one.
func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// look returns when to look at the grant again (Redis' clock, 0 for never), and the record by
// which that was decided, nil for none.
func (r *renewals) look(ctx context.Context, k tokencache.Key, rules policy.Rules) (int64, *grant.Record, error) {
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), work.RedisTimeout) // or it could not be put back
	defer cancel()
	s, err := r.c.app.Grant(k.Tenant).Read(reading)
	if errors.Is(err, tokencache.ErrNone) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	p := rules.Plan(r.c.view(s, 0))
	switch p.Do {
	case policy.DoExchange:
		return r.renew(ctx, s, p.Next)
	case policy.DoRevive:
		return r.revive(ctx, s)
	case policy.DoWarn:
		_, _, err := r.c.app.Grant(s.Tenant).Warn(ctx, s)
		r.c.log.Warn().Str("tenant", k.Tenant).Time("rt_expires_at", time.UnixMilli(s.RefreshTokenExpiresAt)).
			Msg("the refresh token ends at a fixed date: the tenant must consent again before")
		return s.Now(), &s.Record, err
	case policy.DoLeave:
		return 0, &s.Record, s.Err
	case policy.DoDrop:
		r.c.events.reportLast(s)
		r.settle(ctx, k)
		return 0, &s.Record, nil
	default:
		if early(s) {
			r.c.events.reportLast(s)
		}
		if p.Next-s.Now() > policy.RestsLong.Milliseconds() {
			r.settle(ctx, k)
		}
		return p.Next, &s.Record, nil
	}
}

// early reports whether a grant is looked at before its time: the process that changed it last
// may have died before it told that.
func early(s *engine.Snapshot) bool {
	return max(s.RefreshAt, s.RetryAt, s.WarnedAt+time.Hour.Milliseconds()) > s.Now()
}

// settle is for a grant that is left alone for long: its journal shrinks to what it holds. That
// saves memory and nothing else, so that it may fail.
func (r *renewals) settle(ctx context.Context, k tokencache.Key) {
	if err := r.c.app.Grant(k.Tenant).Compact(ctx); err != nil {
		r.c.log.Debug().Err(err).Str("tenant", k.Tenant).Msg("the journal was not compacted")
	}
}

func (r *renewals) rules() policy.Rules {
	rules := r.c.rules
	rules.Ahead = r.ahead
	return rules
}

// renew makes an exchange in the same way as Token does, except that it takes nothing from those who
// wait for a token: see pacer. It puts the grant back while it still has it: two that wait for one grant
// would both pay.
func (r *renewals) renew(ctx context.Context, s *engine.Snapshot, due int64) (next int64, seen *grant.Record, err error) {
	waiting, cancel := context.WithTimeout(ctx, r.c.cfg.ClaimTimeout)
	defer cancel()
	p, t := r.c.pacer, newTicket(func() bool { return false })
	defer p.endTry(t)
	var got *engine.Snapshot
	for err = errNoPlace; errors.Is(err, errNoPlace); {
		if err := p.standBy(waiting, t); err != nil {
			if waiting.Err() != nil {
				return due, &s.Record, nil
			}
			return 0, nil, err
		}
		got, err = r.c.await(ctx, s.Key, want{Want: newerThan(s), background: t})
		p.endTry(t)
	}
	var failed *Error
	switch {
	case err == nil:
		return got.RefreshAt, &got.Record, nil
	case !errors.As(err, &failed):
		return 0, nil, err
	case errors.Is(err, ErrReauthorize), errors.Is(err, ErrNotConnected):
		return s.Now(), &s.Record, nil // perhaps found so: look again, and say it
	default:
		if code := failed.Code; code == "" || code == unfitRedis || code == readOnly {
			r.unrenewed.note(&r.c.log, err)
		}
		return s.Now() + max(failed.RetryAfter, policy.LookAgain).Milliseconds(), &s.Record, nil
	}
}

// revive presents the refresh token of a dead grant again, if there is room for that and budget to spare.
func (r *renewals) revive(ctx context.Context, s *engine.Snapshot) (next int64, seen *grant.Record, err error) {
	later := s.Now() + policy.Jitter(policy.RevivalLater, random()).Milliseconds()
	defer r.reviving.Add(-1)
	if r.reviving.Add(1) > revivalsAtOnce {
		return later, &s.Record, nil
	}
	waiting, cancel := context.WithTimeout(ctx, policy.LookAgain)
	defer cancel()
	p, t := r.c.pacer, newTicket(func() bool { return false })
	defer p.endTry(t)
	if p.standBy(waiting, t) != nil {
		return later, &s.Record, nil
	}
	again := newerThan(s)
	again.Revival = true
	got, err := r.c.await(ctx, s.Key, want{Want: again, background: t})
	var failed *Error
	switch {
	case errors.Is(err, errNoPlace):
		return later, &s.Record, nil
	case err == nil:
		return got.RefreshAt, &got.Record, nil
	case errors.As(err, &failed):
		return s.Now() + max(failed.RetryAfter, policy.LookAgain).Milliseconds(), &s.Record, nil // its record says more
	default:
		return 0, nil, err
	}
}

// unrenewed are renewals that failed since Redis did.
type unrenewed struct {
	mu   sync.Mutex // guards what follows
	last time.Time
	n    int
}

// note says so at most once a minute.
func (u *unrenewed) note(log *zerolog.Logger, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n++; time.Since(u.last) < time.Minute {
		return
	}
	log.Warn().Err(err).Int("renewals", u.n).Msg("grants that are due could not be renewed: trying again")
	u.last, u.n = time.Now(), 0
}

// lookAhead reckons whether more grants become due within a horizon than the budget allows in
// that time. If so they are renewed before they are due, or some would expire in the queue.
func (r *renewals) lookAhead(ctx context.Context, now int64) {
	rate := policy.PerSecond(r.c.profile.Budget)
	if rate == 0 || time.Since(r.reckoned) < policy.ReckonEvery {
		return
	}
	counts, err := r.c.app.CountDue(ctx, now, policy.Horizons...)
	if err != nil {
		return // what was reckoned before is as good
	}
	r.ahead, r.reckoned = policy.LookAhead(counts, rate), time.Now()
}

// repairs puts back what the due sets have lost; one process at a time.
func (r *renewals) repairs(ctx context.Context) {
	var failing trouble
	for forced := false; ctx.Err() == nil; {
		err := r.repair(ctx, forced)
		if ctx.Err() == nil {
			failing.note(&r.c.log, err, "looking for grants that no due set knows failed in part: trying again later")
		}
		timer := time.NewTimer(repairEvery/16 + rand.N(repairEvery/16))
		select {
		case <-timer.C:
			forced = false
		case <-r.mended:
			forced = true
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// repair is one look, if it is this process's turn or something was lost just now. Where the turn's own
// node is away, every process looks by itself.
func (r *renewals) repair(ctx context.Context, forced bool) error {
	turn, unknown := forced, error(nil)
	if !forced {
		turn, unknown = r.c.app.TakeTurn(ctx, "repair", repairEvery)
	}
	if unknown != nil && time.Since(r.repaired) < repairEvery || unknown == nil && !turn {
		return unknown
	}
	r.repaired = time.Now()
	missing, err := r.c.app.Repair(ctx, repairPause)
	if missing > 0 {
		r.c.log.Warn().Int("grants", missing).Msg("grants that no due set knew: scheduled again")
		r.lookSooner()
	}
	if err != nil && turn {
		_ = r.c.app.ShortenTurn(ctx, "repair", repairEvery/16)
	}
	return cmp.Or(unknown, err)
}

// storm is how long a process at whose start tokens had expired does nothing but refresh them.
const storm = 3 * time.Second

// keepHouse begins, once, what a process that uses tokens does besides: it notes which
// grants are in use.
func (c *Coordinator) keepHouse() {
	c.house.Do(func() {
		c.work.Go(func() {
			coarse := policy.Coarseness(c.cfg.IdleAfter)
			ctx := c.work.Waiting
			work.Pause(ctx, storm, c.calm) // what follows can wait until a process has done what it was started in the midst of
			_ = c.app.WatchApp(ctx)        // or the first exchange would have to ask
			_ = c.ready(ctx, c.key("any")) // says it in the log, before a token expires
			var failing trouble
			for {
				work.Pause(ctx, min(coarse, time.Minute), nil)
				if ctx.Err() != nil {
					return
				}
				if err := c.app.Touch(ctx, coarse); ctx.Err() == nil {
					failing.note(&c.log, err, "which grants are in use was not noted: trying again")
				}
			}
		})
	})
}
