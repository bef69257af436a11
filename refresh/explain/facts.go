package explain

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// tellClaim tells who presents the stored generation.
func (j *judge) tellClaim(e *Explanation) {
	if _, ok := j.last(journal.Claim); ok {
		j.tellJournal(e, nil)
	} else {
		e.tell(j.r.Claim.At, "record: claim_by, claim_at", "%s began to present generation %d", by(j.r.Claim.By), j.r.Generation)
	}
	if j.r.Claim.N > 1 {
		e.tell(0, "record: claim_n", "%d presentations of this generation have no outcome", j.r.Claim.N)
	}
}

// ofTheApp are the codes of grants that wait for what stops the app: their verdicts tell of it.
var ofTheApp = []string{"TL205", "TL401", "TL405", "TL501", "TL504"}

// tellApp tells what is the matter with the whole app, of a grant that does not wait for it yet: its next exchange does.
func tellApp(j *judge, e *Explanation) {
	s := j.State
	if s == nil || j.r.State != grant.Active || slices.Contains(ofTheApp, j.code) {
		return
	}
	switch {
	case s.Open && s.Brake != "":
		e.tell(s.OpenedAt, "app: brake", "the app was stopped: the provider's success could not be read, and there will be no next token before that is mended")
	case s.Open:
		e.tell(s.OpenedAt, j.field("circuit"), "the circuit of the app opened: the provider refuses its client%s, and there will be no next token before that is mended", j.where())
	case s.MassAt != 0 && j.Now-s.MassAt < policy.DeathsDoubted.Milliseconds():
		e.tell(s.MassAt, "app: mass_at", "the provider called many grants of the app dead at once, which is not believed")
	case s.DownAt != 0 && j.r.Fails == 0: // otherwise its own failure says more
		e.tell(s.DownAt, "app: failing, down_at", "the provider gives several tenants in a row no usable answer: the next exchange may fail, too")
	case s.ThrottledUntil > j.Now:
		e.tell(s.ThrottledUntil, j.field("throttled_until"), "until then the provider wants a pause of all the app's exchanges%s", j.where())
	}
}

// tellToken tells whether callers are served meanwhile. That is no cause: where it has a time that is over, it has
// none in the story, which begins with the first cause.
func (j *judge) tellToken(e *Explanation) {
	if j.Record == nil || j.r.State == grant.Disconnected || j.r.ExpiresAt == 0 {
		return
	}
	switch {
	case j.r.Refused():
		e.tell(0, "record: rejected_gen", "an API has refused the access token, which is served to nobody who says so")
	case j.Now < j.r.ExpiresAt:
		e.tell(j.r.ExpiresAt, "record: expires_at", "until then its access token is valid, and served")
	default:
		e.tell(0, "record: expires_at", "its access token ended at %s: callers get an error", j.at(j.r.ExpiresAt))
	}
}

// tellRisk tells what a claim without outcome means for the next try.
func (j *judge) tellRisk(e *Explanation) {
	if j.r.Claim.Unresolved() {
		e.tell(j.r.RetryAt, "record: claim_until, retry_at", "the refresh token may be spent: nobody presents it before that, and then it is one recovery attempt; if that is refused, the tenant must consent again (TL302)")
		j.unknownReplay(e)
	}
}

// tellRevival tells when a dead grant is presented again, in case that it was refused by mistake.
func (j *judge) tellRevival(e *Explanation) {
	if j.r.State != grant.Reauthorize || j.r.RetryAt == 0 {
		return
	}
	before := ""
	if j.r.Revivals > 0 {
		before = "; it did so " + times(j.r.Revivals) + " since it died"
	}
	e.tell(j.r.RetryAt, "record: retry_at, revivals", "Run presents it once more, in case it was refused by mistake%s", before)
	e.RetryAt = timeOf(j.r.RetryAt)
}

// tellRun tells whether any process calls Run, or that nobody knows.
func (j *judge) tellRun(e *Explanation) {
	switch n := j.Renewing; {
	case n == nil:
		e.unknown("whether a process calls Run for this app")
	case *n == 0:
		e.tell(j.Now, "listeners", "no process calls Run for this app")
	case *n == 1:
		e.tell(j.Now, "listeners", "one process calls Run for this app")
	default:
		e.tell(j.Now, "listeners", "%d processes call Run for this app", *n)
	}
}

// sayUnopened says that nobody has looked into the sealed pair.
func (j *judge) sayUnopened(e *Explanation) {
	if j.Pair == PairUnknown {
		e.unknown("whether the workers' keysets open its pair: there is no keyset here")
	}
}

// harmless reports whether the profile is known to allow a second presentation at once.
func (j *judge) harmless() bool {
	return j.Profile != nil && policy.Rules{Profile: *j.Profile}.Takeover() == grant.AtOnce
}

// unknownReplay says that nobody knows what a second presentation does, or that it is known.
func (j *judge) unknownReplay(e *Explanation) {
	switch {
	case j.Profile == nil:
		e.unknown("what the provider does with a refresh token that is presented twice: the app's profile says it, which is not known here. The worst is assumed")
	case j.harmless():
	default:
		e.tell(0, "profile: "+j.Profile.Replay.String(), "%s", replays[j.Profile.Replay.String()])
	}
}

var replays = map[string]string{
	"revokes_family": "the provider revokes a grant whose refresh token is presented twice",
	"dead":           "the provider refuses a refresh token that is presented twice",
	"grace":          "the provider accepts a refresh token that is presented twice for a short while, and then revokes the grant",
}

// firstClaim is the first line by which the stored generation was presented.
func (j *judge) firstClaim() (journal.Entry, bool) {
	for _, line := range j.lines() {
		if line.Kind == journal.Claim {
			return line, true
		}
	}
	return journal.Entry{}, false
}

// firstFailure returns when the failures in a row began, as far as the journal reaches.
func (j *judge) firstFailure() int64 {
	for _, line := range j.lines() {
		if line.Kind == journal.Fail {
			return line.At
		}
	}
	return j.r.ErrorAt
}

// diedAt returns when the grant was declared dead.
func (j *judge) diedAt() int64 {
	if line, ok := j.last(journal.Reauthorize); ok {
		return line.At
	}
	return j.r.ErrorAt
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func generations(n int64) string {
	if n == 1 {
		return "at one generation"
	}
	return fmt.Sprintf("at %d generations in a row", n)
}

// mayWait are the codes of grants that wait, or would, if their host is stopped.
var mayWait = []string{"TL102", "TL201", "TL204", "TL401"}

// unknownHost says which hosts are stopped, where nobody knows whether the grant's is one of them.
func unknownHost(j *judge, e *Explanation) {
	if j.State == nil || j.Host != "" || j.host != "" || !slices.Contains(mayWait, j.code) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(j.State.ByHost)) {
		if stops(j.State.ByHost[name], j.Now) {
			e.unknown("whether its token endpoint is at %s, which refuses the client or wants a pause: a worker knows it, see Coordinator.Explain", name)
		}
	}
}

// where says at which host of the provider something is so; "" for all of it.
func (j *judge) where() string {
	if j.host == "" {
		return ""
	}
	return " at " + j.host
}

// field says where the app's state has something.
func (j *judge) field(names string) string {
	if j.host == "" {
		return "app: " + names
	}
	return "app, @" + j.host + ": " + names
}
