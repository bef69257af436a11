package policy

import (
	"cmp"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Next is what follows a failed exchange.
type Next uint8

const (
	NextStore  Next = iota // store [Rules.Failure]: it is tried again
	NextBury               // store [FailedRevival]: it was a revival
	NextVerify             // verify that the grant is dead, and declare it so
)

// AfterFailure says what follows a failed exchange. With NextVerify the reason is the one of the death,
// if that is not for [ReasonFor] to tell.
func (r Rules) AfterFailure(v View, e *provider.Error) (next Next, reason string) {
	switch {
	case v.State == grant.Reauthorize:
		return NextBury, ""
	case e.Class == provider.Reauthorize && !r.Mints:
		return NextVerify, ""
	case e.Class == provider.Refused && !r.Mints && refusedToTheEnd(&v):
		return NextVerify, ReasonRefusedForLong
	}
	return NextStore, ""
}

// Failure returns what is stored of a failed exchange after which the grant is tried again. window is for
// how long presenting again still does no harm; 0 or less for not at all.
func (r Rules) Failure(v View, e *provider.Error, window time.Duration, random float64) grant.Failure {
	f := grant.Failure{
		Verdict: grant.VerdictClear, Error: ErrorText(e),
		Retry: RetryIn(v.Fails+1, e, random), Unknown: e.Class == provider.Refused,
	}
	if e.Class.MaybeSpent() {
		f.Verdict = grant.VerdictKeep
		f.Deadline = r.Takeover() != grant.AtOnce
		if e.Code != CodeHangs {
			f.Over = r.Patience()
		}
		// Before the window shuts.
		if window > FirstRetry/2 {
			f.Deadline, f.Retry = false, min(f.Retry, window/2)
		}
	}
	if e.Class == provider.Refused && v.Fails+1 >= suspectAfter {
		f.Reason = ReasonSuspect
	}
	return f
}

// FailedRevival returns what is stored of a revival that failed, whatever came of it: the grant stays as dead
// as it was, and the next revival is as far off as it would be anyway.
func FailedRevival(v View, e *provider.Error, random float64) grant.Failure {
	f := grant.Failure{
		Verdict: grant.VerdictDead, Error: ErrorText(e), Reason: v.Reason,
		Retry: RevivalIn(v.Reason, v.Revivals+1, random),
	}
	switch {
	case e.Class.MaybeSpent():
		f.Verdict = grant.VerdictKeep
	case e.Class != provider.Reauthorize:
		f.Verdict = grant.VerdictClear
	}
	return f
}

// Death returns what is stored of a refusal that is believed: the tenant must consent again.
func Death(e *provider.Error, reason string, random float64) grant.Failure {
	return grant.Failure{Verdict: grant.VerdictDead, Error: ErrorText(e), Reason: reason, Retry: RevivalIn(reason, 0, random)}
}

// DoubtedDeath returns what is stored of a refusal that would be a death, and is not believed.
func DoubtedDeath(e *provider.Error, random float64) grant.Failure {
	return grant.Failure{
		Verdict: grant.VerdictClear, Reason: ReasonSuspect,
		Error: CodeMassDeath + strings.TrimPrefix(ErrorText(e), e.Class.String()),
		Retry: Jitter(DoubtedRetry, 4*random),
	}
}

// NeedsSecondOpinion reports whether a refusal must be heard twice before it is believed. Once is enough
// where the refresh token is known to have ended, where an answer to it was lost, and while so many are
// refused that none is believed (massDies).
func (r Rules) NeedsSecondOpinion(v View, e *provider.Error, massDies bool) bool {
	if e == nil || e.Class != provider.Reauthorize || r.Mints || v.State != grant.Active || massDies {
		return false
	}
	switch ReasonFor(&v.Record, v.Now) {
	case ReasonExpired:
		return false
	case ReasonLostResponse:
		_, status, _ := ParseErrorText(v.Error)
		return status >= 500 // it has said that it failed: the token may well be alive
	}
	return true
}

// TroubleOf tells a failure as it was stored. v is the grant since then.
func TroubleOf(v View, e *provider.Error, f grant.Failure) Trouble {
	t := Trouble{Who: WhoOf(e.Class), Code: cmp.Or(f.Reason, e.Code), Status: e.Status, Retry: max(0, v.until(v.RetryAt)) + Slack, Why: e}
	switch {
	case v.State == grant.Reauthorize:
		t.Who, t.Code, t.Retry = WhoTenant, f.Reason, 0
	case doubted(f.Error):
		t.Who, t.Code = WhoNobody, CodeMassDeath
	}
	return t
}

// Unreadable reports whether the provider answered with a whole success in which no pair could
// be found.
func Unreadable(e *provider.Error) bool {
	if e.Class != provider.Ambiguous {
		return false
	}
	var torn net.Error // the answer did not arrive whole
	return e.Code == "no_access_token" || e.Status/100 == 2 && !errors.As(e.Err, &torn)
}
