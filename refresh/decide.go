package refresh

import (
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// position orders the pairs of a grant.
type position struct{ epoch, generation int64 }

func (p position) before(r *grant.Record) bool {
	return p.epoch < r.Epoch || p.epoch == r.Epoch && p.generation < r.Generation
}

// want says what ends a flight: a valid pair, newer than after. A renewal wants one
// that is not even due.
type want struct {
	after   position
	renew   bool
	refused bool // an API refused the pair at after
	revival bool // of a grant that is dead

	background *ticket // nobody has asked for it; the right to try for a place among the exchanges in flight
}

// view is a grant at one moment, for decide.
type view struct {
	grant.Record
	now          int64 // Redis' clock, unix ms
	valid, fresh bool
	broken       error         // the sealed pair does not open
	opens        int64         // from when an unresolved claim may be taken over
	behind       int64         // ms by which the pair is older than now says
	leaseHeld    time.Duration // somebody else is known to have the lease for so long
}

// unreported says that the access token is valid as far as the record knows.
func (v *view) unreported() bool { return v.valid && !v.Refused() }

// revivable says that it is time to present the refresh token of a dead grant again.
func (v *view) revivable() bool {
	return v.State == tokencache.Reauthorize && v.RetryAt != 0 && v.WaitsUntil(v.now) == 0
}

type verdict uint8

const (
	serve   verdict = iota // the pair is what was wanted
	giveUp                 // err says who acts
	wait                   // for news, or until
	report                 // note that the access token was refused: may that force an exchange?
	present                // try the lease, then claim
)

type decision struct {
	do    verdict
	until time.Duration // with wait
	err   *Error        // with giveUp; app and tenant are filled in by the caller
}

// decide says what to do next about a grant. It is the whole policy of a flight.
func decide(v view, w want) decision {
	switch {
	case v.broken != nil:
		return decision{do: giveUp, err: &Error{Kind: ErrClientConfig, Code: "sealed", Err: v.broken}}
	case v.State == tokencache.Disconnected:
		return decision{do: giveUp, err: &Error{Kind: ErrNotConnected, Code: "disconnected"}}
	case v.valid && w.after.before(&v.Record) && (v.fresh || !w.renew):
		return decision{do: serve}
	case v.State == tokencache.Reauthorize && !(w.revival && v.revivable()):
		code, status, _ := parseErrorText(v.Error)
		return decision{do: giveUp, err: &Error{Kind: ErrReauthorize, Code: orElse(v.Reason, code), Status: status}}
	case v.WaitsUntil(v.now) != 0 && v.Error == "":
		return decision{do: wait, until: millis(v.RetryAt - v.now)} // restored: others may know better
	case v.WaitsUntil(v.now) != 0:
		code, status, kind := parseErrorText(v.Error)
		code, why := orElse(v.Reason, code), errElsewhere
		if isDoubted(&v.Record) {
			code, why = massDeath, errMassDeath
		}
		return decision{do: giveUp, err: &Error{
			Kind: kind, Code: code, Status: status,
			RetryAfter: millis(v.RetryAt-v.now) + slack, Err: why,
		}}
	case v.Claim.Unresolved() && v.opens > v.now && w.refused && v.unreported() && v.now >= v.Claim.Until:
		return judgeRefusal(v) // what holds others back is the access token alone, and that is dead
	case v.Claim.Unresolved() && v.opens > v.now:
		return waitForClaim(v)
	case v.leaseHeld > 0:
		return decision{do: wait, until: v.leaseHeld}
	case w.refused && v.unreported():
		return judgeRefusal(v)
	default:
		return decision{do: present}
	}
}

// judgeRefusal says what comes of an access token that an API refused and that is still
// the current one.
func judgeRefusal(v view) decision {
	opens := min(v.RejectAt, v.IssuedAt+freshFor.Milliseconds())
	set := opens > v.now+(2*maxRefusalWait).Milliseconds() // Redis' clock, back: no wait is so long
	if v.Reason == suspect && opens > v.now && !set {
		return decision{do: giveUp, err: &Error{
			Kind: ErrUnavailable, Code: suspect, Status: http.StatusUnauthorized,
			RetryAfter: millis(opens-v.now) + slack, Err: errRefusesAll,
		}}
	}
	return decision{do: report}
}

// suspect is the reason and code of a grant for which trying does not help.
const suspect = "suspect"

// freshFor is how old an access token may be and still count as refused at once. An older
// one has worked: somebody has killed it, and a new one helps.
const freshFor = 10 * time.Minute

// refusalsForgotten after the next exchange could have been forced: a row of refusals ends.
const refusalsForgotten = time.Hour

// refusalWaits are how long after the first, second, … exchange in a row which a refused
// access token has forced the next may be. The first of a fresh generation that is refused
// may follow at once: a token can be slow in getting round at the provider.
func refusalWaits(random float64) []time.Duration {
	waits := []time.Duration{0}
	for d := time.Minute; d < maxRefusalWait; d *= 2 {
		waits = append(waits, d)
	}
	waits = append(waits, maxRefusalWait)
	for i := range waits {
		waits[i] += time.Duration(random * float64(waits[i]/4))
	}
	return waits
}

const maxRefusalWait = 30 * time.Minute

// waitForClaim waits for a holder that may be dead. With a pair that is still valid it waits
// no longer than that holder could take: until the claim may be taken over can be as long
// as the access token lives.
func waitForClaim(v view) decision {
	if !v.valid || v.opens <= v.Claim.Until {
		return decision{do: wait, until: millis(v.opens - v.now)}
	}
	if v.now < v.Claim.Until {
		return decision{do: wait, until: millis(v.Claim.Until - v.now)}
	}
	return decision{do: giveUp, err: &Error{Kind: ErrUnavailable, Code: "unresolved_claim", RetryAfter: millis(v.opens - v.now)}}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// pendingFor is when to ask again for what a refresh that is under way will bring. The
// older its claim is, the longer it is likely to take, but never longer than until the
// claim may be taken over.
func pendingFor(v view, random float64) time.Duration {
	d := firstRetry / 2
	if v.Claim.Unresolved() {
		d = max(d, millis(v.now-v.Claim.At))
		if left := millis(v.opens - v.now); left > 0 {
			d = min(d, left)
		}
	}
	return d + time.Duration(random*float64(firstRetry/2)) + slack
}

// takeover says when an unresolved claim may be taken over under a profile.
func takeover(p provider.Profile) engine.Takeover {
	switch p.Replay {
	case provider.ReplayHarmless, provider.ReplaySamePair:
		return engine.AtOnce
	case provider.ReplayGrace:
		// Half of the window: the presentation itself takes time, and the provider
		// counts from its own clock.
		return engine.Takeover(p.Grace / 2)
	default:
		return engine.AfterDeadline
	}
}

const (
	firstRetry = time.Second
	maxRetry   = 5 * time.Minute
	// suspectAfter is how many answers that no rule knows make a grant suspect.
	suspectAfter = 5
	suspectRetry = 30 * time.Minute
)

// retryIn is how long the whole fleet leaves a grant alone after its n-th failure in a
// row (from 1): exponential with jitter, or what the provider asks for if that is longer; no
// longer than maxPause, and up to a quarter more.
func retryIn(n int64, e *provider.Error, random float64) time.Duration {
	limit := maxRetry
	if e.Class == provider.Refused && n >= suspectAfter {
		limit = suspectRetry
	}
	d := limit
	if n < 20 {
		d = min(limit, firstRetry<<(max(n, 1)-1))
	}
	d = d/2 + time.Duration(random*float64(d/2))
	return max(d, jittered(min(e.RetryAfter, maxPause), random))
}

// refreshAt is when a pair becomes due: a jittered share of its life before its end,
// so that grants which were connected together are not renewed together.
func refreshAt(p provider.Profile, issued, expires int64, random float64) int64 {
	ahead := p.RefreshAhead
	if ahead <= 0 {
		ahead = 0.1
	}
	life := float64(max(0, expires-issued))
	return expires - int64(life*min(0.9, ahead*(0.75+0.5*random)))
}

// refreshTokenExpiry is when a refresh token ends; 0 where nobody knows. said is the
// lifetime in the answer.
func refreshTokenExpiry(p provider.Profile, said time.Duration, now, consent, before int64) int64 {
	if said > 0 {
		return now + said.Milliseconds()
	}
	var end int64
	if p.RefreshTokenIdle > 0 {
		end = now + p.RefreshTokenIdle.Milliseconds()
	}
	if p.RefreshTokenLife > 0 {
		fixed := consent + p.RefreshTokenLife.Milliseconds()
		if before != 0 && p.RefreshTokenIdle == 0 {
			fixed = before // the first answer may have said it better than the profile
		}
		if end == 0 || fixed < end {
			end = fixed
		}
	}
	return end
}

// reasonFor tells the ways apart in which a grant dies.
func reasonFor(r *grant.Record, now int64) string {
	switch {
	case r.Claim.N > 1:
		return lostResponse // an earlier presentation's answer never arrived
	case r.RefreshTokenExpiresAt != 0 && now >= r.RefreshTokenExpiresAt:
		return tokenExpired
	case foreignBefore(r) > 0:
		return externalRotation
	default:
		return invalidGrant
	}
}

// Reasons of death.
const (
	// invalidGrant: nobody knows more than that the provider refuses it.
	invalidGrant = "invalid_grant"
	// lostResponse: an earlier presentation may have brought a pair that was lost.
	lostResponse = "lost_response"
	// tokenExpired: the refresh token's stated end is past.
	tokenExpired = "refresh_token_expired"
)

// refusedForLong is the reason of a grant that the provider refuses in ways that no rule knows, beyond
// the end of its refresh token, or for days in which it had no valid access token.
const refusedForLong = "refused_for_long"

// longEnough is how long that must have gone on.
const longEnough = 3 * 24 * time.Hour

// refusedToTheEnd reports whether one more refusal that no rule knows is one too many.
func refusedToTheEnd(r *grant.Record, now int64, valid bool) bool {
	if end := r.RefreshTokenExpiresAt; end != 0 && now >= end {
		return true
	}
	return !valid && r.RefusedAt != 0 && now-r.RefusedAt >= longEnough.Milliseconds()
}

// secondOpinionAfter is how long after a refusal the same refresh token is presented once more. A
// provider's replica that lags behind has caught up by then, and a token that has just been refused
// has nothing to lose.
const secondOpinionAfter = 2 * time.Second

// revivalWaits are how long after its death, and after each revival that failed, the refresh token of
// a grant is presented again in the background: what was refused by mistake comes back by itself.
var revivalWaits = []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}

// revivalIn is how long after n revivals the next one is made; 0 for never. A grant is revived only if
// it died by a refusal that can have been a mistake: one whose pair was lost has spent its refresh
// token, one that has ended has ended.
func revivalIn(reason string, n int64, random float64) time.Duration {
	if reason != invalidGrant && reason != externalRotation || n >= int64(len(revivalWaits)) {
		return 0
	}
	return jittered(revivalWaits[n], random)
}

// externalRotation is the reason of a grant that somebody else uses too.
const externalRotation = "external_rotation"

// foreignBefore is at how many generations in a row before this one somebody else seems to
// have used the grant. One such sign alone can be the tenant who removes the app: its
// access token dies, and then its refresh token is refused.
func foreignBefore(r *grant.Record) int64 {
	if r.ForeignGen == r.Generation {
		return r.Foreign - 1
	}
	return r.Foreign
}

func jitter() float64 { return rand.Float64() }
