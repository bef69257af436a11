package policy

import (
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

const now = int64(1_000_000)

// grantView is an active grant of generation 7 whose token has expired.
func grantView(alter ...func(*View)) View {
	v := View{Now: now, Record: grant.Record{State: grant.Active, Epoch: 1, Generation: 7}}
	for _, a := range alter {
		a(&v)
	}
	return v
}

func valid(v *View) { v.Valid = true }
func failed(text string, in int64) func(*View) {
	return func(v *View) { v.Error, v.RetryAt = text, now+in }
}
func state(s grant.State, reason string) func(*View) {
	return func(v *View) { v.State, v.Reason = s, reason }
}
func claimed(until, opens int64) func(*View) {
	return func(v *View) {
		v.Claim = grant.Claim{ID: "c", N: 1, Until: now + until}
		v.Opens = now + opens
	}
}
func since(ago int64) func(*View) { return func(v *View) { v.Claim.At = now - ago } }
func TestTakeoverFollowsTheProfile(t *testing.T) {
	for replay, want := range map[provider.Replay]grant.Takeover{
		provider.ReplayHarmless:      grant.AtOnce,
		provider.ReplaySamePair:      grant.AtOnce,
		provider.ReplayGrace:         grant.Takeover(15 * time.Second),
		provider.ReplayDead:          grant.AfterDeadline,
		provider.ReplayRevokesFamily: grant.AfterDeadline,
	} {
		if got := (Rules{Profile: provider.Profile{Replay: replay, Grace: 30 * time.Second}}).Takeover(); got != want {
			t.Errorf("%s: %d, want %d", replay, got, want)
		}
	}
}

// An API that answers 401 to everything is asked again and again; what it may cost is what
// Reject's documentation says.
func TestAPIThatRefusesEverythingCostsTenExchangesInTheFirstHourAndSixInEachAfter(t *testing.T) {
	for _, random := range []float64{0, 0.5, 1} {
		waits := refusalWaits(random)
		hour := make([]int, 24)
		for at, n := time.Duration(0), 0; at < 24*time.Hour; n++ {
			hour[at/time.Hour]++
			at += min(waits[min(n, len(waits)-1)], freshFor) + time.Millisecond
		}
		if hour[0] < 2 || hour[0] > 10 {
			t.Errorf("%d exchanges in the first hour", hour[0])
		}
		for i, n := range hour[1:] {
			if n > 6 {
				t.Errorf("%d exchanges in hour %d", n, i+2)
			}
		}
		if waits[0] != 0 || waits[len(waits)-1] >= refusalsForgotten {
			t.Errorf("waits %v: a row would never grow, or be forgotten in between", waits)
		}
	}
}

func TestPendingIsAskedForAgainTheLaterTheOlderItsClaimIs(t *testing.T) {
	for _, c := range []struct {
		name        string
		v           View
		least, most time.Duration
	}{
		{"no claim yet", grantView(), 500 * time.Millisecond, 1020 * time.Millisecond},
		{"a young claim", grantView(claimed(35_000, 35_000), since(10)), 500 * time.Millisecond, 1020 * time.Millisecond},
		{"an old one", grantView(claimed(25_000, 25_000), since(10_000)), 10 * time.Second, 10520 * time.Millisecond},
		{"one that is soon taken over", grantView(claimed(5_000, 5_000), since(30_000)), 5 * time.Second, 5520 * time.Millisecond},
		{"one that may be taken over", grantView(claimed(-1, -1), since(2_000)), 2 * time.Second, 2520 * time.Millisecond},
	} {
		for _, random := range []float64{0, 1} {
			if d := PendingFor(c.v, random); d < c.least || d > c.most {
				t.Errorf("%s: %s, want %s to %s", c.name, d, c.least, c.most)
			}
		}
	}
}

func TestRetryGrowsWithJitterAndObeysTheProvider(t *testing.T) {
	transient := &provider.Error{Class: provider.Ambiguous}
	for n := int64(1); n < 100; n++ {
		low, high := RetryIn(n, transient, 0), RetryIn(n, transient, 1)
		if low < 500*time.Millisecond || high > maxRetry || low != high/2 {
			t.Fatalf("failure %d: %s to %s", n, low, high)
		}
		if next := RetryIn(n+1, transient, 0); next < low {
			t.Fatalf("failure %d waits %s, the next only %s", n, low, next)
		}
	}
	if got := RetryIn(1, &provider.Error{Class: provider.Throttled, RetryAfter: 24 * time.Hour}, 0); got != MaxPause {
		t.Errorf("Retry-After of an hour became %s", got)
	}
	if got := RetryIn(50, &provider.Error{Class: provider.Refused}, 1); got != suspectRetry {
		t.Errorf("a suspect grant is tried every %s, want %s", got, suspectRetry)
	}
}

func TestRefreshIsDueAJitteredShareBeforeTheEnd(t *testing.T) {
	const hour = int64(3_600_000)
	for _, ahead := range []float64{0, 0.1, 0.5, 0.99} {
		early, late := RefreshAt(provider.Profile{RefreshAhead: ahead}, 0, hour, 1), RefreshAt(provider.Profile{RefreshAhead: ahead}, 0, hour, 0)
		if !(hour/10 <= early && early < late && late < hour) {
			t.Errorf("ahead %v: due between %d and %d of %d ms", ahead, early, late, hour)
		}
	}
	if got := RefreshAt(provider.Profile{}, hour, hour-5, 0.5); got != hour-5 {
		t.Errorf("a token without life is due at %d, want its end", got)
	}
}

func TestRefreshTokenExpiry(t *testing.T) {
	day := 24 * time.Hour
	ms := day.Milliseconds()
	for _, c := range []struct {
		name                 string
		p                    provider.Profile
		said                 time.Duration
		consent, before, end int64
	}{
		{"unknown", provider.Profile{}, 0, 0, 0, 0},
		{"the answer says it", provider.Profile{RefreshTokenIdle: 9 * day}, day, 0, 0, now + ms},
		{"idle life slides", provider.Profile{RefreshTokenIdle: day}, 0, 0, now - 5, now + ms},
		{"absolute life counts from consent", provider.Profile{RefreshTokenLife: 2 * day}, 0, now - ms, 0, now + ms},
		{"and does not slide", provider.Profile{RefreshTokenLife: 2 * day}, 0, now - ms, now + 5, now + 5},
		{"both: it slides with each use", provider.Profile{RefreshTokenIdle: day, RefreshTokenLife: 9 * day}, 0, now - ms, now + 5, now + ms},
		{"both: up to the absolute end", provider.Profile{RefreshTokenIdle: day, RefreshTokenLife: 2 * day}, 0, now - 3*ms/2, now + 5, now + ms/2},
		{"the earlier of the two", provider.Profile{RefreshTokenIdle: day, RefreshTokenLife: 9 * day}, 0, now, 0, now + ms},
	} {
		if got := RefreshTokenExpiry(c.p, c.said, now, c.consent, c.before); got != c.end {
			t.Errorf("%s: %d, want %d", c.name, got-now, c.end-now)
		}
	}
}

func TestReasonTellsTheWaysOfDyingApart(t *testing.T) {
	once := grant.Claim{N: 1}
	for _, c := range []struct {
		name, want string
		r          grant.Record
	}{
		{"presented before", "lost_response", grant.Record{Claim: grant.Claim{N: 2}, RefreshTokenExpiresAt: now - 1}},
		{"too old", "refresh_token_expired", grant.Record{Claim: once, RefreshTokenExpiresAt: now, Foreign: 1}},
		{"neither", "invalid_grant", grant.Record{Claim: once, RefreshTokenExpiresAt: now + 1}},
		{"its access token died early too: the tenant has removed the app", "invalid_grant", grant.Record{Claim: once, Generation: 7, Foreign: 1, ForeignGen: 7}},
		{"and so did the one before", "external_rotation", grant.Record{Claim: once, Generation: 7, Foreign: 2, ForeignGen: 7}},
		{"though at one age, which is their life", "invalid_grant", grant.Record{Claim: once, Generation: 7, Foreign: 1, ForeignGen: 6, Lived: "3600x2"}},
		{"that was learned", "invalid_grant", grant.Record{Claim: once, Generation: 7, Foreign: 1, ForeignGen: 6, Lived: "3420"}},
		{"at an age that says nothing yet", "external_rotation", grant.Record{Claim: once, Generation: 7, Foreign: 2, ForeignGen: 7, Lived: "3600x1"}},
		{"the last consent ended in the same way", "external_rotation", grant.Record{Claim: once, Generation: 7, Foreign: 1, ForeignGen: 6}},
	} {
		if got := ReasonFor(&c.r, now); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestErrorTextSurvivesTheRecord(t *testing.T) {
	in := &provider.Error{Class: provider.AppRefused, Code: "odd/code", Status: 401}
	code, status, who := ParseErrorText(ErrorText(in))
	if who != WhoOperator || code != "odd_code" || status != 401 {
		t.Errorf("got %v %s %d", who, code, status)
	}
	for odd, want := range map[string]Who{"": WhoNobody, "/": WhoNobody, "a/b/c/d": WhoNobody, "app_refused": WhoOperator, "app_refused/a/b/c": WhoOperator} {
		if code, status, who := ParseErrorText(odd); who != want || code != "" || status != 0 {
			t.Errorf("%q: got %v %s %d", odd, who, code, status)
		}
	}
}
