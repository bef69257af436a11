package explain

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// Judge says why a grant is as it is.
func Judge(c Case) Explanation {
	j := &judge{Case: c}
	if c.Record != nil {
		j.r = *c.Record
	}
	j.lookAtHost()
	j.code = j.find()
	k := kindOf(j.code)
	e := Explanation{Code: k.code, Level: k.level, Who: k.who, ForTenant: k.forTenant, Story: []Sentence{}, Unknown: []string{}}
	verdicts[j.code](j, &e)
	tellApp(j, &e)
	unknownHost(j, &e)
	slices.SortStableFunc(e.Story, inTime)
	if e.ForTenant == renewing && j.code != "TL103" {
		if e.ForTenant = interrupted; j.served() {
			e.ForTenant = well
		}
	}
	if e.RetryAt.Before(timeOf(j.Now)) {
		e.RetryAt = time.Time{}
	}
	e.Title = oneLine(j.tenant() + " " + e.Title)
	return e
}

// inTime orders a story. What has no time, as a rule of the profile, comes last.
func inTime(a, b Sentence) int {
	switch {
	case a.At.IsZero() || b.At.IsZero():
		return cmp.Compare(number(a.At.IsZero()), number(b.At.IsZero()))
	}
	return a.At.Compare(b.At)
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// served reports whether callers get a token without a new pair.
func (j *judge) served() bool { return j.Now < j.r.ExpiresAt && !j.r.Refused() }

// judge is one judgement.
type judge struct {
	Case
	r    grant.Record
	code string
	host string // whose circuit or pause it is that State tells; "" for the app's
}

// find is the code that says most. What stops a token from being served comes before what only may.
func (j *judge) find() string {
	return cmp.Or(j.unreadable(), j.ended(), j.stuck(), j.suspected(), j.goesWell())
}

// lookAtHost puts what stops the host of the grant's token endpoint in the place of what stops the app, unless the
// app is stopped itself.
func (j *judge) lookAtHost() {
	name := hostOf(&j.Case)
	if name == "" || stops(j.State, j.Now) || !stops(j.State.ByHost[name], j.Now) {
		return
	}
	whole, h := *j.State, j.State.ByHost[name]
	whole.Open, whole.Error, whole.OpenedAt, whole.Probes, whole.ProbeAt, whole.ThrottledUntil = h.Open, h.Error, h.OpenedAt, h.Probes, h.ProbeAt, h.ThrottledUntil
	j.State, j.host = &whole, name
}

func stops(s *State, now int64) bool { return s.Open || s.ThrottledUntil > now }

// hostOf returns the host, if there is a doubt about it: the one that is known, or that has refused the tenant.
func hostOf(c *Case) string {
	switch {
	case c.State == nil:
		return ""
	case c.State.ByHost[c.Host] != nil:
		return c.Host
	case c.Host == "" && c.Tenant != "":
		for _, name := range slices.Sorted(maps.Keys(c.State.ByHost)) {
			if strings.Contains(c.State.ByHost[name].Refused, grant.Fingerprint(c.Tenant)[:8]) {
				return name
			}
		}
	}
	return ""
}

// unreadable is for a grant of which no record can be read.
func (j *judge) unreadable() string {
	switch {
	case j.Process.Code == "redis_unfit", j.Process.Code == "redis_readonly":
		return "TL406"
	case j.Damaged != nil:
		return "TL602"
	case j.Record == nil && j.State != nil && j.State.LostAt != 0:
		return "TL606"
	case j.Record == nil:
		return "TL306"
	case j.r.State == grant.Disconnected:
		return "TL305"
	case j.Pair == PairMissing:
		return "TL602"
	case j.Pair == PairSealed:
		return "TL402"
	case j.Process.Code == "insecure_url":
		return "TL403"
	}
	return ""
}

// ended is for a grant whose tenant must consent again.
func (j *judge) ended() string {
	if j.r.State != grant.Reauthorize {
		return ""
	}
	switch j.r.Reason {
	case policy.ReasonLostResponse:
		return "TL302"
	case policy.ReasonExpired:
		if j.fixedEnd() {
			return "TL304"
		}
		return "TL303"
	case policy.ReasonExternal:
		return "TL701"
	case policy.ReasonRefusedForLong:
		return "TL405"
	}
	if _, ok := j.diedEarly(j.r.Generation); ok {
		return "TL701" // the first sign
	}
	return "TL301"
}

// stuck is for a grant that is active, and gets no new pair just now.
func (j *judge) stuck() string {
	switch {
	case strings.HasPrefix(j.r.Error, policy.CodeMassDeath+"/"):
		return "TL504"
	case j.r.Claim.Unresolved() && !j.answered():
		return j.claimed()
	case j.waits():
		return j.waiting()
	case j.r.Claim.Unresolved():
		return "TL203"
	case j.Now < j.r.RefreshAt && !j.r.Refused():
		return ""
	case j.State != nil && j.State.Open && j.State.Brake != "":
		return "TL405"
	case j.State != nil && j.State.Open:
		return "TL401"
	case j.State != nil && j.State.ThrottledUntil > j.Now:
		return "TL205"
	case j.Process.Doubted > j.Now:
		return "TL605"
	case j.Process.Code == "budget", j.Process.Code == "throttled":
		return "TL204"
	}
	return ""
}

// claimed is for a claim that has no outcome.
func (j *judge) claimed() string {
	switch {
	case j.Now < j.r.Claim.Until && strings.Contains(j.r.Error, "/slow_exchange/"):
		return "TL503"
	case j.Now >= j.r.Claim.Until:
		return "TL203"
	case j.leaseKnown() && j.Trace.Holder() != j.r.Claim.By:
		return "TL202"
	}
	return "TL103"
}

// waiting is for a failure after which nobody tries for a while.
func (j *judge) waiting() string {
	code, _, who := policy.ParseErrorText(j.r.Error)
	switch {
	case j.r.Error == "":
		return "TL206"
	case who == policy.WhoOperator:
		return "TL401"
	case who == policy.WhoTenant:
		return "TL301"
	case j.classIs(provider.Refused) && code != "invalid_grant": // that was asked once, and not yet again
		return "TL405"
	case j.failsForAll():
		return "TL501"
	case j.State != nil && j.State.ThrottledUntil > j.Now && j.classIs(provider.Throttled):
		return "TL205"
	}
	return "TL201"
}

// suspected is for a grant that is served, and about which something is strange.
func (j *judge) suspected() string {
	_, early := j.firstSign()
	switch {
	case j.r.Reason == policy.ReasonExternal:
		return "TL701"
	case grant.LearnedLife(j.r.Lived) > 0:
		return "TL407"
	case j.r.Reason == policy.ReasonSuspect && j.r.Rejects > 0 && j.r.Error == "":
		return "TL502"
	case j.r.Reason == policy.ReasonSuspect:
		return "TL405"
	case early:
		return "TL701"
	}
	if _, ok := j.narrowed(); ok {
		return "TL404"
	}
	if j.leaseKnown() && j.Trace.Lease != "" && j.Now >= j.r.ExpiresAt {
		return "TL207"
	}
	return ""
}

// goesWell is for a grant with which all is well.
func (j *judge) goesWell() string {
	_, recovered := j.recovered()
	last, ok := j.last("")
	switch {
	case j.r.WarnedAt != 0, j.r.RefreshTokenExpiresAt != 0 && j.r.RefreshTokenExpiresAt <= j.Now:
		return "TL307"
	case ok && last.Kind == journal.Restore:
		return "TL601"
	case j.idle():
		return "TL104"
	case j.Now >= j.r.RefreshAt:
		return "TL102"
	case recovered:
		return "TL105"
	}
	return "TL101"
}

// waits reports whether nobody presents the generation for a while.
func (j *judge) waits() bool { return j.r.WaitsUntil(j.Now) != 0 }

func (j *judge) leaseKnown() bool { return j.Trace.Now != 0 }

func (j *judge) classIs(c provider.Class) bool { return strings.HasPrefix(j.r.Error, c.String()+"/") }

// answered reports whether the exchange under an unresolved claim has ended, without an outcome.
func (j *judge) answered() bool {
	if j.r.Error == "" || j.r.ErrorAt < j.r.Claim.At || strings.Contains(j.r.Error, "/slow_exchange/") {
		return false
	}
	lines := j.lines()
	for i := len(lines) - 1; i >= 0; i-- {
		switch lines[i].Kind {
		case journal.Claim:
			return false
		case journal.Fail:
			return true
		}
	}
	return j.waits()
}

// fixedEnd reports whether the refresh token ended at a date that refreshing does not put off.
func (j *judge) fixedEnd() bool {
	if j.r.WarnedAt != 0 {
		return true
	}
	return j.Profile != nil && j.Profile.RefreshTokenLife > 0 &&
		j.r.RefreshTokenExpiresAt >= j.r.Epoch+j.Profile.RefreshTokenLife.Milliseconds()
}

// failsForAll reports whether the provider fails for so many that it is not about this grant.
func (j *judge) failsForAll() bool {
	return j.State != nil && j.State.DownAt != 0 && (j.classIs(provider.Ambiguous) || j.classIs(provider.Busy))
}

// opensAt returns when the grant may be presented again, at the latest: the worst that a profile can say.
func (j *judge) opensAt() int64 {
	at := max(j.r.Claim.Until, j.r.RetryAt)
	if !j.r.Refused() {
		at = max(at, j.r.ExpiresAt)
	}
	return at
}

// unattended reports whether a claim without outcome should have been taken over by now: nothing holds others
// back any more, and no process does it.
func (j *judge) unattended() bool {
	return j.Trace.Lease == "" && j.Now >= j.opensAt()+unattendedAfter.Milliseconds()
}

// unattendedAfter is how late a process that calls Run may be.
const unattendedAfter = time.Minute

// inUse reports whether Run renews the grant: somebody has asked for its token lately.
func (j *judge) inUse() bool {
	return j.r.UsedAt != 0 && j.Now-j.r.UsedAt < j.idleAfter().Milliseconds()
}

// idle reports whether nobody has used the token lately, which is due.
func (j *judge) idle() bool {
	return j.Now >= j.r.RefreshAt && j.Now-max(j.r.UsedAt, j.r.IssuedAt) >= j.idleAfter().Milliseconds()
}

func (j *judge) idleAfter() time.Duration { return cmp.Or(j.IdleAfter, 25*time.Hour) }

// lines are the journal's lines about the stored generation.
func (j *judge) lines() (lines []journal.Entry) {
	for _, e := range j.Trace.Entries {
		if j.Record == nil || e.Epoch == j.r.Epoch && e.Generation == j.r.Generation {
			lines = append(lines, e)
		}
	}
	return lines
}

// last is the last line of a kind about the stored generation; of any for "".
func (j *judge) last(kind string) (journal.Entry, bool) {
	lines := j.lines()
	for i := len(lines) - 1; i >= 0; i-- {
		if kind == "" || lines[i].Kind == kind {
			return lines[i], true
		}
	}
	return journal.Entry{}, false
}

// diedEarly is the line by which an API refused an access token of the generation that had worked, and
// had long to live; see [policy.Refusals].
func (j *judge) diedEarly(generation int64) (journal.Entry, bool) {
	rules := policy.Refusals(0)
	for _, e := range j.Trace.Entries {
		if e.Kind != journal.Reject || e.Epoch != j.r.Epoch || e.Generation != generation {
			continue
		}
		if generation != j.r.Generation { // when it ended is not known any more, but the record has counted it
			return e, true
		}
		aged := e.At-j.r.IssuedAt >= rules.Fresh.Milliseconds()
		if aged && 100*(j.r.ExpiresAt-e.At) > int64(rules.Early)*(j.r.ExpiresAt-j.r.IssuedAt) {
			return e, true
		}
	}
	return journal.Entry{}, false
}

// firstSign is the line by which somebody else seems to use an active grant too.
func (j *judge) firstSign() (journal.Entry, bool) {
	if j.r.Foreign == 0 || policy.DiesAtOneAge(&j.r) || j.r.ForeignGen < j.r.Generation-1 {
		return journal.Entry{}, false
	}
	if len(j.Trace.Entries) == 0 { // the journal was not read; the record has counted it
		return journal.Entry{}, true
	}
	return j.diedEarly(j.r.ForeignGen)
}

// narrowed is the line of this consent that stored a pair with less of a scope.
func (j *judge) narrowed() (narrowed journal.Entry, ok bool) {
	for _, e := range j.Trace.Entries {
		if e.Epoch == j.r.Epoch && e.Kind == journal.Commit && e.Why == journal.Narrower {
			narrowed, ok = e, true
		}
	}
	return narrowed, ok
}

// recovered is the first line of the trouble that the last commit ended.
func (j *judge) recovered() (first journal.Entry, ok bool) {
	commit, stored := j.last(journal.Commit)
	if !stored || j.Now-commit.At > recently.Milliseconds() {
		return first, false
	}
	for _, e := range j.Trace.Entries {
		if e.Epoch != j.r.Epoch || e.Generation != j.r.Generation-1 {
			continue
		}
		troubled := e.Kind == journal.Fail || e.Kind == journal.Reauthorize || e.Kind == journal.Refused || e.Kind == journal.Extend ||
			e.Kind == journal.Claim && e.Why == journal.Takeover
		if troubled && !ok {
			first, ok = e, true
		}
	}
	return first, ok
}

// recently is how long a recovery is worth a word.
const recently = time.Hour
