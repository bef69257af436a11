package flight

import (
	"context"
	"errors"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/holder"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

var errShortLived = errors.New("the provider's access tokens expire before they arrive")

// Await waits until a flight has brought what is wanted. The error is a *policy.Trouble, or says that the
// caller has left. ride, if there is one, tells how it was.
//
// A thousand callers stand here until one push wakes them all, and each has to fetch its own
// stack into the CPU's cache then: the wait is in this function, so that there is less of it.
func (fl *Flights) Await(ctx context.Context, k tokencache.Key, w Want, ride *Ride) (*engine.Snapshot, error) {
	// A flight that is joined may have wanted less. Of those that wanted the same the first
	// may have ended for its own reasons, and a pair may have expired on its way.
	join := fl.join
	if ctx.Done() == nil && w == (Want{}) {
		join = fl.joinAndWait
	}
	for same := 0; same < 3; {
		f, err := join(ctx, k, w)
		if err != nil {
			return nil, fl.Judge.Of(k.Tenant, err)
		}
		if ride != nil {
			ride.flight = f
		}
		var silent <-chan time.Time
		if fl.recall(k, w) != nil {
			silent = time.After(patience(ctx))
		}
		if w == (Want{}) { // a renewal goes on, but its callers need not wait for that
			var s *engine.Snapshot
			select {
			case <-f.looked:
				s = fl.meanwhile(ctx, f)
			case <-ctx.Done():
				s = fl.inTime(ctx, k, w)
			case <-silent:
				s = fl.recall(k, w)
			}
			if s != nil {
				return s, nil
			}
		}
		var why *policy.Trouble
		select {
		case <-f.done:
			if f.trouble == nil && (fl.Grants.Calm(f.snap) || f.snap.Valid()) && w.After.Before(&f.snap.Record) {
				return f.snap, nil
			}
			why = f.trouble
		case <-ctx.Done():
			if s := fl.inTime(ctx, k, w); s != nil {
				return s, nil
			}
			return nil, left(ctx, f)
		case <-silent:
		}
		// Redis unreachable, or a refresh before its time failed: what is still valid is served.
		if s := fl.recall(k, w); s != nil && (why == nil || why.Who != policy.WhoNotConnected) {
			return s, nil
		}
		if why != nil && (w.Refused || !f.want.Refused) && !(f.want.Background != w.Background && holder.StoodBack(why)) {
			return nil, why // else it was about what an API had refused, or about a renewal that nobody waited for
		}
		if f.want == w {
			same++
		}
	}
	return nil, &policy.Trouble{Code: "short_lived", Why: errShortLived}
}

// inTime returns what memory has for a caller whose deadline has passed, when this process was too busy to
// serve it before that. A caller that has left gets nothing.
func (fl *Flights) inTime(ctx context.Context, k tokencache.Key, w Want) *engine.Snapshot {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return fl.recall(k, w)
}

// meanwhile is a token that is valid though the flight, which has looked, goes on.
func (fl *Flights) meanwhile(ctx context.Context, f *flight) *engine.Snapshot {
	select {
	case <-f.done:
		return nil // it has the last word
	default:
	}
	if s, err := fl.afterLook(ctx, f); err == nil && s.Valid() && s.State != tokencache.Disconnected {
		return s
	}
	return nil
}

// recall returns what this process remembers, coherent or not, if a caller who only wants
// a valid token may have it.
func (fl *Flights) recall(k tokencache.Key, w Want) *engine.Snapshot {
	if s := fl.App.Grant(k.Tenant).Recall(); s != nil && s.Valid() && w == (Want{}) {
		return s
	}
	return nil
}

// Recall returns a valid token that this process remembers, coherent or not; nil for none.
func (fl *Flights) Recall(k tokencache.Key) *engine.Snapshot { return fl.recall(k, Want{}) }

// MaybeRenew starts a refresh in the background if the pair is due and one makes sense now.
func (fl *Flights) MaybeRenew(k tokencache.Key, s *engine.Snapshot) {
	if fl.Grants.Calm(s) { // a thousand that are woken together come by here
		return
	}
	now := s.Now()
	if s.Fresh() || s.State != tokencache.Active || s.WaitsUntil(now) != 0 || fl.Economy.StandsStill(fl.Economy.Applicant(k.Tenant, s)) {
		return
	}
	if s.Claim.Unresolved() && s.ClaimUntil() <= now && s.OpensAt(fl.Takeover) > now {
		return // a holder died, and nobody may present before the token has expired
	}
	_, _ = fl.join(context.Background(), k, Want{Want: policy.Want{Early: true}})
}

// Lookup is the grant as it is now, valid or not. The caller may leave by its ctx.
func (fl *Flights) Lookup(ctx context.Context, k tokencache.Key) (*engine.Snapshot, error) {
	g := fl.App.Grant(k.Tenant)
	if s := g.Peek(); s != nil {
		return s, nil
	}
	if g.KnownAbsent() {
		return nil, tokencache.ErrNone
	}
	s, err := work.Call(ctx, fl.Work, g.Read)
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() != nil:
		return nil, work.Left(ctx, k)
	case errors.Is(err, tokencache.ErrNone):
		return fl.Await(ctx, k, Want{}, nil) // another process may remember it
	default:
		return nil, err
	}
}
