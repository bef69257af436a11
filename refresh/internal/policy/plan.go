package policy

import (
	"hash/fnv"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Rules are what decisions depend on besides the grant.
type Rules struct {
	Profile        provider.Profile
	Mints          bool          // there is no refresh token to be kept alive
	IdleAfter      time.Duration // without being asked for, a grant is idle
	CommitPatience time.Duration // for so long a holder that lives may still be storing its pair
	Ahead          time.Duration // renew so long before it is due: the budget is short
}

// Takeover says when an unresolved claim may be taken over.
func (r Rules) Takeover() grant.Takeover {
	switch {
	case r.Mints, r.Profile.Replay == provider.ReplayHarmless, r.Profile.Replay == provider.ReplaySamePair:
		return grant.AtOnce
	case r.Profile.Replay == provider.ReplayGrace:
		// Half of the window: the presentation itself takes time, and the provider
		// counts from its own clock.
		return grant.Takeover(r.Profile.Grace / 2)
	default:
		return grant.AfterDeadline
	}
}

// Patience returns for how long after its exchange a holder that lives may still be storing the pair. It
// is part of the claim's hard deadline, so that all processes agree on it: a holder that is cut off
// from Redis cannot put that off.
func (r Rules) Patience() time.Duration {
	if r.Mints || r.Profile.Replay == provider.ReplayHarmless {
		return 0 // nothing is lost by a second presentation
	}
	return r.CommitPatience
}

// Chore is what the renewals do about a grant that they look at.
type Chore uint8

const (
	DoRest     Chore = iota // nothing now: look again at Plan.Next
	DoExchange              // renew it; it is due since Plan.Next
	DoRevive                // a grant that is dead; in its own time, and only if nobody is kept waiting by it
	DoWarn                  // that its refresh token ends at a fixed date; then look again
	DoDrop                  // nothing ever: a consent puts it back
	DoLeave                 // to others: this process cannot open its pair
)

// Plan is what [Rules.Plan] plans.
type Plan struct {
	Do   Chore
	Next int64 // with DoRest and DoExchange
}

// Plan says what is due about a grant that nobody asks for just now. It is the whole policy
// of background renewals:
//
//   - A grant in use is renewed when its access token is due, so that nobody has to wait.
//   - An idle one is refreshed only as often as keeps its refresh token alive.
//   - One that is dead is tried again a few times, see [RevivalIn].
//   - One whose refresh token ends at a fixed date, which refreshing does not put off, is left
//     alone while idle; the plan is to warn ahead of that end.
func (r Rules) Plan(v View) Plan {
	switch {
	case v.State == grant.Reauthorize && v.RetryAt != 0 && v.Broken == nil:
		return afterlife(&v)
	case v.State != grant.Active:
		return Plan{Do: DoDrop}
	case v.Broken != nil:
		return Plan{Do: DoLeave}
	case v.waits():
		return restUntil(v.RetryAt)
	case v.claimed():
		return restUntil(v.Opens)
	}
	warnAt := r.warnAt(&v.Record)
	if warnAt != 0 && warnAt <= v.Now {
		return Plan{Do: DoWarn}
	}
	at := r.exchangeAt(&v.Record, v.Now)
	if at != 0 {
		at = max(at-v.Behind, 1)
	}
	switch {
	case at != 0 && at <= v.Now:
		return Plan{Do: DoExchange, Next: at}
	case at == 0 && warnAt == 0:
		return Plan{Next: v.Now + restsForGood.Milliseconds()}
	case at == 0 || warnAt != 0 && warnAt < at:
		at = warnAt
	}
	return Plan{Next: max(at, v.Now+LookAgain.Milliseconds())}
}

func restUntil(t int64) Plan { return Plan{Next: t + Slack.Milliseconds()} }

// afterlife plans for a grant that died by a refusal which may have been a mistake.
func afterlife(v *View) Plan {
	at := v.WaitsUntil(v.Now)
	if v.Claim.Unresolved() {
		at = max(at, v.Opens)
	}
	if at > v.Now {
		return restUntil(at)
	}
	return Plan{Do: DoRevive}
}

// exchangeAt returns when the next exchange is due; 0 for never, as long as nobody asks.
func (r Rules) exchangeAt(g *grant.Record, now int64) int64 {
	if g.UsedAt != 0 && now-g.UsedAt < r.IdleAfter.Milliseconds() {
		// Never before half of that time: it would be renewed over and over.
		return max(g.RefreshAt-r.Ahead.Milliseconds(), g.IssuedAt+(g.RefreshAt-g.IssuedAt)/2)
	}
	switch {
	case r.Mints || r.fixed(g):
		return 0
	case g.RefreshTokenExpiresAt == 0:
		return keepAliveAt(g.IssuedAt, g.IssuedAt+idleUnknown.Milliseconds(), g.RefreshFP)
	default:
		return keepAliveAt(g.IssuedAt, g.RefreshTokenExpiresAt, g.RefreshFP)
	}
}

// keepAliveAt returns when a refresh token that ends unless it is used is used: 5 to 8 percent of
// its life before that. All processes that ask about one token get the same.
func keepAliveAt(from, end int64, fingerprint string) int64 {
	h := fnv.New32a()
	h.Write([]byte(fingerprint))
	share := 0.05 + 0.03*float64(h.Sum32()%1000)/1000
	return end - int64(share*float64(max(0, end-from)))
}

// fixed reports whether the refresh token ends at a date that refreshing does not put off.
func (r Rules) fixed(g *grant.Record) bool {
	end := g.RefreshTokenExpiresAt
	return end != 0 && r.Profile.RefreshTokenLife > 0 && RefreshTokenExpiry(r.Profile, 0, end, g.Epoch, end) <= end
}

// warnAt returns when to warn that the tenant must consent again; 0 for never.
func (r Rules) warnAt(g *grant.Record) int64 {
	life := r.Profile.RefreshTokenLife.Milliseconds()
	if r.Mints || g.WarnedAt != 0 || life == 0 {
		return 0
	}
	end := g.RefreshTokenExpiresAt
	if r.Profile.RefreshTokenIdle > 0 { // it slides, up to here
		end = g.Epoch + life
	}
	return end - min(warnAhead.Milliseconds(), max(0, end-g.Epoch)/4)
}

// RefreshAt returns when a pair becomes due: a jittered share of its life before its end,
// so that grants which were connected together are not renewed together.
func RefreshAt(p provider.Profile, issued, expires int64, random float64) int64 {
	ahead := p.RefreshAhead
	if ahead <= 0 {
		ahead = 0.1
	}
	life := float64(max(0, expires-issued))
	return expires - int64(life*min(0.9, ahead*(0.75+0.5*random)))
}

// RefreshTokenExpiry returns when a refresh token ends; 0 where nobody knows. said is the
// lifetime in the answer, before what was known of the token that it replaces.
func RefreshTokenExpiry(p provider.Profile, said time.Duration, now, consent, before int64) int64 {
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
