package renew

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/economy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/trouble"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// revivalsAtOnce is how many dead grants one process tries at once. They must not take the room, nor
// the budget, of those that live.
const revivalsAtOnce = 2

// tend does what is due about one grant and says when it is looked at next. What ends
// before that comes back by itself.
func (r *Run) tend(ctx context.Context, d engine.Due, shard int, rules policy.Rules) {
	next, seen, err := r.chore(ctx, d.Key, rules)
	leaves := errors.Is(err, tokencache.ErrSealed) || errors.Is(err, tokencache.ErrNewer)
	switch {
	case leaves:
		if !r.Flights.Judge.NoteUnopened(d.Tenant, err) {
			r.Flights.Log.Warn().Err(err).Str("tenant", d.Tenant).Msg("this process leaves a due grant to others")
		}
		r.left.add(shard, d.Tenant)
		next = d.Since // as if it had not been taken
	case err != nil:
		if stillLive(ctx, r.Flights) {
			r.Flights.Log.Warn().Err(err).Str("tenant", d.Tenant).Msg("a due grant could not be read: it is tried again")
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), work.RedisTimeout)
	defer cancel()
	_ = r.Flights.App.Grant(d.Tenant).Reschedule(ctx, d, next, seen)
	if !leaves {
		r.lookSooner() // that may be before it comes back
	}
}

// chore does what is planned for a grant. It returns when to look at the grant again (Redis' clock, 0 for
// never), and the record by which that was decided, nil for none.
func (r *Run) chore(ctx context.Context, k tokencache.Key, rules policy.Rules) (int64, *grant.Record, error) {
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), work.RedisTimeout) // or it could not be put back
	defer cancel()
	s, err := r.Flights.App.Grant(k.Tenant).Read(reading)
	if errors.Is(err, tokencache.ErrNone) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	p := rules.Plan(r.Flights.View(s, 0))
	switch p.Do {
	case policy.DoExchange:
		return r.renew(ctx, s, p.Next)
	case policy.DoRevive:
		return r.revive(ctx, s)
	case policy.DoWarn:
		_, _, err := r.Flights.App.Grant(s.Tenant).Warn(ctx, s)
		r.Flights.Log.Warn().Str("tenant", k.Tenant).Time("rt_expires_at", time.UnixMilli(s.RefreshTokenExpiresAt)).
			Msg("the refresh token ends at a fixed date: the tenant must consent again before")
		return s.Now(), &s.Record, err
	case policy.DoLeave:
		return 0, &s.Record, s.Err
	case policy.DoDrop:
		r.ReportLast(s)
		r.compactJournal(ctx, k)
		return 0, &s.Record, nil
	default:
		if early(s) {
			r.ReportLast(s)
		}
		if p.Next-s.Now() > policy.RestsLong.Milliseconds() {
			r.compactJournal(ctx, k)
		}
		return p.Next, &s.Record, nil
	}
}

// early reports whether a grant is looked at before its time: the process that changed it last
// may have died before it told that.
func early(s *engine.Snapshot) bool {
	return max(s.RefreshAt, s.RetryAt, s.WarnedAt+time.Hour.Milliseconds()) > s.Now()
}

// compactJournal is for a grant that is left alone for long: its journal shrinks to what it holds. That
// saves memory and nothing else, so that it may fail.
func (r *Run) compactJournal(ctx context.Context, k tokencache.Key) {
	if err := r.Flights.App.Grant(k.Tenant).Compact(ctx); err != nil {
		r.Flights.Log.Debug().Err(err).Str("tenant", k.Tenant).Msg("the journal was not compacted")
	}
}

// renew makes an exchange in the same way as Token does, except that it takes nothing from those who
// wait for a token: see economy.Pacer. It puts the grant back while it still has it: two that wait for one grant
// would both pay.
func (r *Run) renew(ctx context.Context, s *engine.Snapshot, due int64) (next int64, seen *grant.Record, err error) {
	waiting, cancel := context.WithTimeout(ctx, r.Flights.ClaimTimeout)
	defer cancel()
	p, t := r.Flights.Economy, economy.NewTicket(func() bool { return false })
	defer p.EndTry(t)
	if stopped := p.Stopped(p.Applicant(s.Tenant, s)); stopped != nil { // it would take a place in the budget for nothing
		return s.Now() + max(stopped.Retry, policy.LookAgain).Milliseconds(), &s.Record, nil
	}
	if ctx.Err() != nil { // nothing is begun
		return due, &s.Record, nil
	}
	var got *engine.Snapshot
	for err = economy.ErrNoPlace; errors.Is(err, economy.ErrNoPlace); {
		if err := p.StandBy(waiting, t); err != nil {
			if waiting.Err() != nil {
				return due, &s.Record, nil
			}
			return 0, nil, err
		}
		got, err = r.Flights.Await(ctx, s.Key, flight.Want{Want: flight.NewerThan(s), Background: t}, nil)
		p.EndTry(t)
	}
	var failed *policy.Trouble
	switch {
	case err == nil:
		return got.RefreshAt, &got.Record, nil
	case !errors.As(err, &failed):
		return 0, nil, err
	case failed.Who == policy.WhoTenant, failed.Who == policy.WhoNotConnected:
		return s.Now(), &s.Record, nil // perhaps found so: look again, and say it
	default:
		if code := failed.Code; code == "" || code == trouble.Unfit || code == trouble.ReadOnly {
			r.unrenewed.note(ctx, r.Flights, err)
		}
		return s.Now() + max(failed.Retry, policy.LookAgain).Milliseconds(), &s.Record, nil
	}
}

// revive presents the refresh token of a dead grant again, if there is room for that and budget to spare.
func (r *Run) revive(ctx context.Context, s *engine.Snapshot) (next int64, seen *grant.Record, err error) {
	later := s.Now() + policy.Jitter(policy.RevivalLater, rand.Float64()).Milliseconds()
	defer r.reviving.Add(-1)
	if r.reviving.Add(1) > revivalsAtOnce {
		return later, &s.Record, nil
	}
	waiting, cancel := context.WithTimeout(ctx, policy.LookAgain)
	defer cancel()
	p, t := r.Flights.Economy, economy.NewTicket(func() bool { return false })
	defer p.EndTry(t)
	if p.StandBy(waiting, t) != nil {
		return later, &s.Record, nil
	}
	again := flight.NewerThan(s)
	again.Revival = true
	got, err := r.Flights.Await(ctx, s.Key, flight.Want{Want: again, Background: t}, nil)
	var failed *policy.Trouble
	switch {
	case errors.Is(err, economy.ErrNoPlace):
		return later, &s.Record, nil
	case err == nil:
		return got.RefreshAt, &got.Record, nil
	case errors.As(err, &failed):
		return s.Now() + max(failed.Retry, policy.LookAgain).Milliseconds(), &s.Record, nil // its record says more
	default:
		return 0, nil, err
	}
}
