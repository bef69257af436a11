package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Whose trouble is it? An answer is about one tenant until there is evidence of more.
//
//  1. A tenant is refused as if the client were (invalid_client, a bare 401, …). That is this
//     tenant's trouble, and noted as a suspicion about the app. It is news once: a tenant that
//     goes on being refused while others are accepted says nothing about the app.
//  2. Any acceptance ends the suspicion. So an app's circuit opens only if several tenants are
//     refused with none accepted in between: two if the provider says invalid_client, which
//     RFC 6749 §5.2 reserves for the client, three otherwise. One invalid_client is enough for
//     an app that the provider was never seen to accept.
//  3. While the circuit is open one exchange at a time probes, and a process that needs one waits for
//     the news: the first probes are made at once, by tenants that were not refused. Only when
//     they are refused too, for some ten seconds, calls end with WhoOperator, and probes
//     become rare. Those of tenants that were refused before come late and make them no rarer.
//
// A wish for a pause (429) becomes the app's in the same way, when a second tenant hears it.
//
// Where tenants have token endpoints at hosts of their own, each host has a circuit and a pause by the same
// rules, for its own tenants, except that one refusal is never enough. Of the app each host is one witness.

// App is the state of an app at one moment, and what it says about one grant of it. It may be a host's part.
type App struct {
	Host            string // whose part it is; empty for the app's own
	Now             int64
	Open            bool   // the circuit: the provider refuses the client
	Error           string // class/code/status of the refusal that opened it
	Braking, Braked bool   // it is open since answers could not be read; and not by this profile either
	Refuses         bool   // the tenant is among those that were refused in a row
	Late            bool   // its host is, or has a circuit that is open: another host's tenant can tell more
	Probes          int64  // refusals in a row since the circuit opened
	ProbeAt         int64  // before it nobody tries again
	Probing         bool   // somebody does
	ThrottledUntil  int64  // before it there are no exchanges
	MassAt          int64  // since when more grants have died than is believed
	MassTryAt       int64  // before it none of those is tried again
}

func (a *App) until(t int64) time.Duration { return max(0, millis(t-a.Now)) }

// Applicant is what a grant's last exchange says about its next. The zero value is any grant.
type Applicant struct {
	Refused bool // it was refused as if the client were
	Doubted bool // the grant's death is not believed
}

// ApplicantOf reads it from a record.
func ApplicantOf(r *grant.Record) Applicant {
	return Applicant{Refused: strings.HasPrefix(r.Error, provider.AppRefused.String()+"/"), Doubted: doubted(r.Error)}
}

// Passage is what the app's state means for one more exchange.
type Passage uint8

const (
	PassFree    Passage = iota // make it
	PassProbe                  // ask for the right to probe
	PassStandBy                // it will be known soon: wait for news
	PassStopped
)

// Probed is whose circuit the next exchange would probe: the app's, or the host's of its token endpoint; nil
// for none. While the app's is open nobody probes a host's.
func (a *App) Probed(host *App) *App {
	switch {
	case a.Open && !a.Braking:
		return a
	case host != nil && host.Open:
		return host
	}
	return nil
}

// Gate says what the app's state, and that of the host if there is any doubt about it, mean for one more
// exchange. wait is with PassStandBy; the trouble says why there is none now.
func Gate(a App, host *App, who Applicant, random float64) (_ Passage, wait time.Duration, _ *Trouble) {
	if host != nil && host.ThrottledUntil > host.Now {
		return PassStopped, 0, paused(host, random)
	}
	switch {
	case a.Open && a.Braking:
		if a.Braked && !a.Refuses {
			_, status, _ := ParseErrorText(a.Error)
			return PassStopped, 0, &Trouble{Who: WhoOperator, Code: CodeUnreadable, Status: status, Retry: Jitter(maxProbe, random), Why: ErrBraked}
		}
	}
	if open := a.Probed(host); open != nil {
		return circuitGate(open, who.Refused || open.Refuses || open.Late, random)
	}
	switch {
	case a.ThrottledUntil > a.Now:
		return PassStopped, 0, paused(&a, random)
	case who.Doubted && a.MassTryAt > a.Now && MassDies(a.MassAt, a.Now):
		return PassStopped, 0, &Trouble{Code: CodeMassDeath,
			Retry: a.until(a.MassTryAt) + time.Duration(random*float64(DoubtedRetry)) + Slack, Why: ErrMassDeath}
	}
	return PassFree, 0, nil
}

func paused(a *App, random float64) *Trouble {
	return &Trouble{Code: CodeThrottled, Status: statusTooManyRequests,
		Retry: Jitter(a.until(a.ThrottledUntil), random) + Slack, Why: ofHost(a.Host, errThrottled, errHostThrottled)}
}

// ofHost is why an app's exchanges stop, or those of a host.
func ofHost(host string, app, one error) error {
	if host == "" {
		return app
	}
	return fmt.Errorf("the provider's host %s %w", host, one)
}

func circuitGate(a *App, refused bool, random float64) (_ Passage, wait time.Duration, _ *Trouble) {
	code, status, _ := ParseErrorText(a.Error)
	stop := func(d time.Duration) *Trouble {
		return &Trouble{Who: WhoOperator, Code: code, Status: status, Retry: Jitter(d, random) + Slack, Why: ofHost(a.Host, errCircuit, errHostCircuit)}
	}
	left := a.until(a.ProbeAt)
	if a.Probing && left > 0 {
		return PassStandBy, left, stop(firstProbe) // left is only for the case that it dies over it
	}
	switch {
	case refused && a.Now-a.ProbeAt < Handicap(a.Probes).Milliseconds():
		return PassStopped, 0, stop(left + Handicap(a.Probes))
	case left == 0:
		return PassProbe, 0, stop(firstProbe)
	case !refused && left <= Jitter(nearProbe, 1):
		return PassStandBy, left, stop(left)
	}
	return PassStopped, 0, stop(left)
}

// probeWait returns how long after the n-th refusal in a row the next probe is at least.
func probeWait(n int64) time.Duration {
	waits := ProbeWaits(0)
	return waits[min(max(n, 1), int64(len(waits)))-1]
}

// Handicap returns by how much a tenant that was refused comes later than others: its probe can
// hardly tell whether the client is accepted.
func Handicap(probes int64) time.Duration {
	return max(firstProbe, probeWait(probes)/2)
}

// ProbeAgain returns how long after a probe that says nothing about the client the next one may be.
func ProbeAgain(probes int64) time.Duration { return max(firstProbe, probeWait(probes)) }

// ProbeTurn is how long a flight waits for another one of its process that is about to probe.
const ProbeTurn = firstProbe / 4

// AcceptsClient reports whether an exchange's end shows that the provider accepts the client:
// it has brought a pair, or the answer is about the grant.
func AcceptsClient(e *provider.Error) bool {
	return e == nil || e.Class == provider.Reauthorize || e.Class == provider.Busy
}

// DownAfter is how many tenants for which the provider fails, with no answer of another kind in between, show
// that it fails for all.
const DownAfter = 3

// Fails reports whether an exchange's end is the provider's failure: it gave no answer, or one that blames
// itself. What never left this process says nothing of the provider.
func Fails(e *provider.Error) bool {
	return e.Class == provider.Ambiguous && !Unreadable(e) && !e.Throttles() && (e.Status == 0 || e.Status >= 500) && e.Code != CodeHangs
}

// TripAfter returns how many tenants that are refused like this open the circuit. first says that one is
// enough for an app that was never accepted.
func TripAfter(e *provider.Error) (tenants int, first bool) {
	if e.ClientRefused() {
		return 2, true
	}
	return 3, false
}

// AppPause returns how long an app pauses because of what one tenant heard.
func AppPause(e *provider.Error, random float64) time.Duration {
	return min(max(e.RetryAfter, RetryIn(1, e, random)), maxAppPause)
}

// MaxDeaths returns how many deaths within [DeathsWithin] are believed of an app with so many grants: ten, or
// two percent of them.
func MaxDeaths(grants int64) int64 { return max(10, grants*2/100) }

// MassDies reports whether deaths are doubted, of an app in which too many grants had died at massAt.
func MassDies(massAt, now int64) bool {
	return massAt != 0 && now-massAt < DeathsDoubted.Milliseconds()
}
