package policy

import (
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

func TestAFailureIsVerifiedBeforeItIsADeath(t *testing.T) {
	refused := func(ago time.Duration) func(*View) {
		return func(v *View) { v.RefusedAt = now - ago.Milliseconds() }
	}
	const day = 24 * time.Hour
	longAgo := func(v *View) { v.Now = now + (10 * day).Milliseconds() }
	for _, c := range []struct {
		name   string
		mints  bool
		v      View
		class  provider.Class
		next   Next
		reason string
	}{
		{"the grant is refused", false, grantView(), provider.Reauthorize, NextVerify, ""},
		{"so it is without refresh token: nothing is spent", true, grantView(), provider.Reauthorize, NextStore, ""},
		{"a revival is refused", false, grantView(state(grant.Reauthorize, "invalid_grant")), provider.Reauthorize, NextBury, ""},
		{"a revival is not answered", false, grantView(state(grant.Reauthorize, "invalid_grant")), provider.Ambiguous, NextBury, ""},
		{"the client is refused", false, grantView(), provider.AppRefused, NextStore, ""},
		{"no rule knows it", false, grantView(), provider.Refused, NextStore, ""},
		{"no rule knows it, after the refresh token's end", false, grantView(func(v *View) { v.RefreshTokenExpiresAt = now }), provider.Refused, NextVerify, ReasonRefusedForLong},
		{"no rule knows it, for two days", false, grantView(longAgo, refused(-8*day)), provider.Refused, NextStore, ""},
		{"no rule knows it, for three days", false, grantView(longAgo, refused(-7*day)), provider.Refused, NextVerify, ReasonRefusedForLong},
		{"for three days, and the access token is valid", false, grantView(longAgo, valid, refused(-7*day)), provider.Refused, NextStore, ""},
		{"for three days, without refresh token", true, grantView(longAgo, refused(-7*day)), provider.Refused, NextStore, ""},
	} {
		next, reason := Rules{Mints: c.mints}.AfterFailure(c.v, &provider.Error{Class: c.class})
		if next != c.next || reason != c.reason {
			t.Errorf("%s: got %d %q, want %d %q", c.name, next, reason, c.next, c.reason)
		}
	}
}

func TestATokenThatMayBeSpentKeepsItsClaimUntilItsDeadline(t *testing.T) {
	strict := Rules{Profile: provider.Profile{Replay: provider.ReplayDead}, CommitPatience: time.Minute}
	grace := Rules{Profile: provider.Profile{Replay: provider.ReplayGrace, Grace: time.Minute}, CommitPatience: time.Minute}
	harmless := Rules{Profile: provider.Profile{Replay: provider.ReplayHarmless}, CommitPatience: time.Minute}
	lost := &provider.Error{Class: provider.Ambiguous, Status: 502}
	for _, c := range []struct {
		name     string
		rules    Rules
		e        *provider.Error
		window   time.Duration
		verdict  grant.Verdict
		deadline bool
		over     time.Duration
		most     time.Duration // until the next try
	}{
		{"unsent", strict, &provider.Error{Class: provider.Unsent}, 0, grant.VerdictClear, false, 0, FirstRetry},
		{"lost, strict", strict, lost, 0, grant.VerdictKeep, true, time.Minute, FirstRetry},
		{"the pair may still come", strict, &provider.Error{Class: provider.Ambiguous, Code: CodeHangs}, 0, grant.VerdictKeep, true, 0, FirstRetry},
		{"lost, within the window", grace, lost, 800 * time.Millisecond, grant.VerdictKeep, false, time.Minute, 400 * time.Millisecond},
		{"lost, the window shuts", grace, lost, 400 * time.Millisecond, grant.VerdictKeep, true, time.Minute, FirstRetry},
		{"lost, harmless", harmless, lost, 0, grant.VerdictKeep, false, 0, FirstRetry},
	} {
		f := c.rules.Failure(grantView(), c.e, c.window, 1)
		if f.Verdict != c.verdict || f.Deadline != c.deadline || f.Over != c.over || f.Retry != c.most || f.Reason != "" {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
	for fails, want := range map[int64]string{3: "", 4: ReasonSuspect} {
		v := grantView(func(v *View) { v.Fails = fails })
		if f := strict.Failure(v, &provider.Error{Class: provider.Refused}, 0, 0); f.Reason != want || !f.Unknown {
			t.Errorf("after %d failures: %+v", fails, f)
		}
	}
}

func TestARefusalIsHeardTwiceUnlessMoreIsKnown(t *testing.T) {
	lost := func(text string) func(*View) {
		return func(v *View) { v.Claim.N, v.Error = 2, text }
	}
	refusal := &provider.Error{Class: provider.Reauthorize}
	for _, c := range []struct {
		name string
		v    View
		e    *provider.Error
		mass bool
		want bool
	}{
		{"no failure", grantView(), nil, false, false},
		{"a refusal", grantView(), refusal, false, true},
		{"while too many are refused", grantView(), refusal, true, false},
		{"of the client", grantView(), &provider.Error{Class: provider.AppRefused}, false, false},
		{"of a grant that is dead", grantView(state(grant.Reauthorize, "invalid_grant")), refusal, false, false},
		{"after the refresh token's end", grantView(func(v *View) { v.RefreshTokenExpiresAt = now }), refusal, false, false},
		{"after an answer that was lost", grantView(lost("ambiguous//0")), refusal, false, false},
		{"after an answer that said that it failed", grantView(lost("ambiguous//502")), refusal, false, true},
	} {
		if got := (Rules{}).NeedsSecondOpinion(c.v, c.e, c.mass); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if (Rules{Mints: true}).NeedsSecondOpinion(grantView(), refusal, false) {
		t.Error("of a grant without refresh token")
	}
}

// What the holder's callers are told is what others find in the record.
func TestAllProcessesTellAFailureAlike(t *testing.T) {
	e := &provider.Error{Class: provider.Reauthorize, Code: "invalid_grant", Status: 400}
	for name, c := range map[string]struct {
		e *provider.Error
		f grant.Failure
		s grant.State
	}{
		"a death":              {e, Death(e, ReasonExternal, 0), grant.Reauthorize},
		"a death in doubt":     {e, DoubtedDeath(e, 0), grant.Active},
		"a pause":              {&provider.Error{Class: provider.Throttled, Code: "slow_down", Status: 429}, grant.Failure{Error: "throttled/slow_down/429", Retry: time.Minute}, grant.Active},
		"the client":           {&provider.Error{Class: provider.AppRefused, Code: "invalid_client", Status: 401}, grant.Failure{Error: "app_refused/invalid_client/401", Retry: time.Minute}, grant.Active},
		"no rule knows it":     {&provider.Error{Class: provider.Refused, Status: 418}, grant.Failure{Error: "refused//418", Reason: ReasonSuspect, Retry: time.Minute}, grant.Active},
		"without refreshtoken": {e, grant.Failure{Error: ErrorText(e), Retry: time.Minute}, grant.Active},
	} {
		v := grantView(state(c.s, c.f.Reason), failed(c.f.Error, c.f.Retry.Milliseconds()))
		told, found := TroubleOf(v, c.e, c.f), Decide(v, Want{}).Trouble
		if found == nil || told.Who != found.Who || told.Code != found.Code || told.Status != found.Status || told.Retry != found.Retry {
			t.Errorf("%s: the holder tells %+v, others %+v", name, told, found)
		}
	}
}

func TestStoringInRedisIsTriedAgainEverLater(t *testing.T) {
	b := Backoff{Most: 300 * time.Millisecond}
	for _, want := range []time.Duration{50, 100, 200, 300, 300} {
		if got := b.Next(1); got != want*time.Millisecond {
			t.Errorf("got %s, want %dms", got, want)
		}
	}
	b.Most = 80 * time.Millisecond
	if got := b.Next(0); got != 40*time.Millisecond {
		t.Errorf("a shorter limit: %s", got)
	}
}
