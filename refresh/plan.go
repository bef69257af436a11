package refresh

import (
	"hash/fnv"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// chore is what the renewals do about a grant that they look at.
type chore uint8

const (
	rest chore = iota // nothing now: look again at plan.next
	exchange
	revive // a grant that is dead; in its own time, and only if nobody is kept waiting by it
	warn   // that its refresh token ends at a fixed date; then look again
	drop   // nothing ever: a consent puts it back
	leave  // to others: this process cannot open its pair
)

type plan struct {
	do   chore
	next int64 // Redis' clock, unix ms; with exchange, since when it is due
}

// policy is what a plan depends on besides the grant.
type policy struct {
	profile   provider.Profile
	mints     bool          // there is no refresh token to be kept alive
	idleAfter time.Duration // without being asked for, a grant is idle
	ahead     time.Duration // renew so long before it is due: the budget is short
}

const (
	// idleUnknown is how often an idle grant is refreshed where nobody knows how long its
	// refresh token lives unused: most live 30 days and more.
	idleUnknown = 14 * 24 * time.Hour
	// warnAhead of the end of a refresh token, but not before three quarters of its life.
	warnAhead = 14 * 24 * time.Hour
	// restsForGood is for a grant about which nothing will be due as long as nobody asks. It
	// stays in the due set: whatever is not there, Repair takes for lost.
	restsForGood = 30 * 24 * time.Hour
	// tick is the soonest that a grant which needs nothing is looked at again.
	tick = time.Second
)

// plan says what is due about a grant that nobody asks for just now. It is the whole policy
// of background renewals:
//
//   - A grant in use is renewed when its access token is due, so that nobody has to wait.
//   - An idle one is refreshed only as often as keeps its refresh token alive.
//   - One that is dead is tried again a few times, see revivalIn.
//   - One whose refresh token ends at a fixed date, which refreshing does not put off, is left
//     alone while idle; its end is said ahead of time.
func (p policy) plan(v view) plan {
	switch {
	case v.State == tokencache.Reauthorize && v.RetryAt != 0 && v.broken == nil:
		return p.afterlife(v)
	case v.State != tokencache.Active:
		return plan{do: drop}
	case v.broken != nil:
		return plan{do: leave}
	case v.WaitsUntil(v.now) != 0:
		return plan{do: rest, next: v.RetryAt + slack.Milliseconds()}
	case v.Claim.Unresolved() && v.opens > v.now:
		return plan{do: rest, next: v.opens + slack.Milliseconds()}
	}
	warnAt := p.warnAt(&v.Record)
	if warnAt != 0 && warnAt <= v.now {
		return plan{do: warn}
	}
	at := p.exchangeAt(&v.Record, v.now)
	if at != 0 {
		at = max(at-v.behind, 1)
	}
	switch {
	case at != 0 && at <= v.now:
		return plan{do: exchange, next: at}
	case at == 0 && warnAt == 0:
		return plan{do: rest, next: v.now + restsForGood.Milliseconds()}
	case at == 0 || warnAt != 0 && warnAt < at:
		at = warnAt
	}
	return plan{do: rest, next: max(at, v.now+tick.Milliseconds())}
}

// afterlife is what is due about a grant that died by a refusal which may have been a mistake.
func (p policy) afterlife(v view) plan {
	at := v.WaitsUntil(v.now)
	if v.Claim.Unresolved() {
		at = max(at, v.opens)
	}
	if at > v.now {
		return plan{do: rest, next: at + slack.Milliseconds()}
	}
	return plan{do: revive}
}

// exchangeAt is when the next exchange is due; 0 for never, as long as nobody asks.
func (p policy) exchangeAt(r *grant.Record, now int64) int64 {
	if r.UsedAt != 0 && now-r.UsedAt < p.idleAfter.Milliseconds() {
		// Never before half of that time: it would be renewed over and over.
		return max(r.RefreshAt-p.ahead.Milliseconds(), r.IssuedAt+(r.RefreshAt-r.IssuedAt)/2)
	}
	switch {
	case p.mints || p.fixed(r):
		return 0
	case r.RefreshTokenExpiresAt == 0:
		return keepAliveAt(r.IssuedAt, r.IssuedAt+idleUnknown.Milliseconds(), r.RefreshFP)
	default:
		return keepAliveAt(r.IssuedAt, r.RefreshTokenExpiresAt, r.RefreshFP)
	}
}

// keepAliveAt is when a refresh token that ends unless it is used is used: 5 to 8 percent of
// its life before that. The same for all who ask about one token.
func keepAliveAt(from, end int64, fingerprint string) int64 {
	h := fnv.New32a()
	h.Write([]byte(fingerprint))
	share := 0.05 + 0.03*float64(h.Sum32()%1000)/1000
	return end - int64(share*float64(max(0, end-from)))
}

// fixed reports whether the refresh token ends at a date that refreshing does not put off.
func (p policy) fixed(r *grant.Record) bool {
	end := r.RefreshTokenExpiresAt
	return end != 0 && p.profile.RefreshTokenLife > 0 && refreshTokenExpiry(p.profile, 0, end, r.Epoch, end) <= end
}

// warnAt is when it is to be said that the tenant must consent again; 0 for never.
func (p policy) warnAt(r *grant.Record) int64 {
	life := p.profile.RefreshTokenLife.Milliseconds()
	if p.mints || r.WarnedAt != 0 || life == 0 {
		return 0
	}
	end := r.RefreshTokenExpiresAt
	if p.profile.RefreshTokenIdle > 0 { // it slides, up to here
		end = r.Epoch + life
	}
	return end - min(warnAhead.Milliseconds(), max(0, end-r.Epoch)/4)
}
