package policy

import (
	"cmp"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Action is what a flight does next about its grant.
type Action uint8

const (
	ActServe   Action = iota // the pair is what was wanted
	ActGiveUp                // Decision.Trouble says who acts
	ActWait                  // for news, or for Decision.Wait
	ActReport                // note that the access token was refused: may that force an exchange?
	ActPresent               // try the lease, then claim
)

// Decision is what [Decide] decides.
type Decision struct {
	Act     Action
	Wait    time.Duration // with ActWait
	Trouble *Trouble      // with ActGiveUp
}

func giveUp(t Trouble) Decision            { return Decision{Act: ActGiveUp, Trouble: &t} }
func waitFor(d time.Duration) Decision     { return Decision{Act: ActWait, Wait: d} }
func (v *View) waitUntil(t int64) Decision { return waitFor(v.until(t)) }

// Decide says what to do next about a grant. It is the whole policy of a flight.
func Decide(v View, w Want) Decision {
	switch {
	case v.Broken != nil:
		return giveUp(Trouble{Who: WhoOperator, Code: CodeSealed, Why: v.Broken})
	case v.State == grant.Disconnected:
		return giveUp(Trouble{Who: WhoNotConnected, Code: CodeEnded})
	case v.Valid && w.After.Before(&v.Record) && (v.Fresh || !w.Early):
		return Decision{Act: ActServe}
	case v.State == grant.Reauthorize && !(w.Revival && v.revivable()):
		code, status, _ := ParseErrorText(v.Error)
		return giveUp(Trouble{Who: WhoTenant, Code: cmp.Or(v.Reason, code), Status: status})
	case v.waits() && v.Error == "":
		return v.waitUntil(v.RetryAt) // restored: others may know better
	case v.waits():
		return giveUp(lastFailure(&v))
	case v.claimed() && w.Refused && v.unreported() && v.Now >= v.Claim.Until:
		return judgeRefusal(&v) // what holds others back is the access token alone, and that is dead
	case v.claimed():
		return waitForClaim(&v)
	case v.LeaseHeld > 0:
		return waitFor(v.LeaseHeld)
	case w.Refused && v.unreported():
		return judgeRefusal(&v)
	default:
		return Decision{Act: ActPresent}
	}
}

// lastFailure tells the failure that the record holds, until it is tried again.
func lastFailure(v *View) Trouble {
	code, status, who := ParseErrorText(v.Error)
	t := Trouble{Who: who, Code: cmp.Or(v.Reason, code), Status: status, Retry: v.until(v.RetryAt) + Slack, Why: errElsewhere}
	if doubted(v.Error) {
		t.Code, t.Why = CodeMassDeath, ErrMassDeath
	}
	return t
}

// judgeRefusal says what comes of an access token that an API refused and that is still
// the current one.
func judgeRefusal(v *View) Decision {
	opens := min(v.RejectAt, v.IssuedAt+freshFor.Milliseconds())
	set := opens > v.Now+(2*maxRefusalWait).Milliseconds() // Redis' clock, back: no wait is so long
	if v.Reason == ReasonSuspect && opens > v.Now && !set {
		return giveUp(Trouble{Code: ReasonSuspect, Status: statusUnauthorized, Retry: v.until(opens) + Slack, Why: errRefusesAll})
	}
	return Decision{Act: ActReport}
}

// waitForClaim waits for a holder that may be dead. With a pair that is still valid it waits
// no longer than that holder could take: until the claim may be taken over can be as long
// as the access token lives.
func waitForClaim(v *View) Decision {
	if !v.Valid || v.Opens <= v.Claim.Until {
		return v.waitUntil(v.Opens)
	}
	if v.Now < v.Claim.Until {
		return v.waitUntil(v.Claim.Until)
	}
	return giveUp(Trouble{Code: CodeUnresolved, Retry: v.until(v.Opens), Why: Standing(&v.Record, v.Opens)})
}

// PendingFor returns when to ask again for what a refresh that is under way will bring. The
// older its claim is, the longer it is likely to take, but never longer than until the
// claim may be taken over.
func PendingFor(v View, random float64) time.Duration {
	d := FirstRetry / 2
	if v.Claim.Unresolved() {
		d = max(d, millis(v.Now-v.Claim.At))
		if left := v.until(v.Opens); left > 0 {
			d = min(d, left)
		}
	}
	return d + time.Duration(random*float64(FirstRetry/2)) + Slack
}
