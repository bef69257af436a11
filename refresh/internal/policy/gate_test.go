package policy

import (
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// in is a time of Redis' clock.
func in(d time.Duration) int64 { return now + d.Milliseconds() }

func TestGateSaysWhoWaitsWhoProbesAndWhoIsStopped(t *testing.T) {
	open := func(probes int64, probeAt time.Duration, alter ...func(*App)) App {
		a := App{Open: true, Error: "app_refused/invalid_client/401", Probes: probes, ProbeAt: in(probeAt)}
		for _, f := range alter {
			f(&a)
		}
		return a
	}
	busy := func(a *App) { a.Probing = true }
	at := func(a App) *App {
		a.Host, a.Now = "login.example.com", now
		return &a
	}
	refused, doubted := Applicant{Refused: true}, Applicant{Doubted: true}
	for name, c := range map[string]struct {
		app     App
		host    *App
		who     Applicant
		want    Passage
		acts    Who
		code    string
		atLeast time.Duration
		atMost  time.Duration
	}{
		"all is well":                        {want: PassFree},
		"one tenant is suspected":            {app: App{Refuses: true}, want: PassFree},
		"the circuit has just opened":        {app: open(1, 0), want: PassProbe},
		"for a tenant that was refused":      {app: open(1, -10*time.Millisecond), who: refused, want: PassStopped, acts: WhoOperator, code: "invalid_client", atMost: 2 * time.Second},
		"for one that opened it":             {app: open(1, 0, func(a *App) { a.Refuses = true }), want: PassStopped, acts: WhoOperator, code: "invalid_client", atMost: 2 * time.Second},
		"which comes when nobody else does":  {app: open(1, -1100*time.Millisecond), who: refused, want: PassProbe},
		"somebody probes":                    {app: open(1, time.Hour, busy), want: PassStandBy, acts: WhoOperator, code: "invalid_client", atMost: 2 * time.Second},
		"somebody probes, for a refused one": {app: open(1, time.Hour, busy), who: refused, want: PassStandBy, acts: WhoOperator, code: "invalid_client", atMost: 2 * time.Second},
		"the prober has died":                {app: open(1, -time.Second, busy), want: PassProbe},
		"the next probe is near":             {app: open(6, 2*time.Second), want: PassStandBy, acts: WhoOperator, code: "invalid_client", atMost: 3 * time.Second},
		"near, for a refused one":            {app: open(6, 2*time.Second), who: refused, want: PassStopped, acts: WhoOperator, code: "invalid_client", atMost: 5 * time.Second},
		"the next probe is far":              {app: open(14, time.Minute), want: PassStopped, acts: WhoOperator, code: "invalid_client", atLeast: 59 * time.Second, atMost: 76 * time.Second},
		"far, for a refused one":             {app: open(14, time.Minute), who: refused, want: PassStopped, acts: WhoOperator, code: "invalid_client", atLeast: 89 * time.Second, atMost: 113 * time.Second},
		"a pause":                            {app: App{ThrottledUntil: in(time.Minute)}, want: PassStopped, acts: WhoNobody, code: CodeThrottled, atLeast: 59 * time.Second, atMost: 76 * time.Second},
		"a pause of 300,000 years":           {app: App{ThrottledUntil: 9e15}, want: PassStopped, acts: WhoNobody, code: CodeThrottled, atLeast: time.Hour, atMost: math.MaxInt64},
		"a probe in 300,000 years":           {app: App{Open: true, Error: "app_refused/invalid_client/401", ProbeAt: 9e15}, want: PassStopped, acts: WhoOperator, code: "invalid_client", atLeast: time.Hour, atMost: math.MaxInt64},
		"a pause that is over":               {app: App{ThrottledUntil: in(-time.Second)}, want: PassFree},
		"the brake":                          {app: App{Open: true, Braking: true, Braked: true}, want: PassStopped, acts: WhoOperator, code: CodeUnreadable, atMost: 76 * time.Second},
		"the brake, of another profile":      {app: App{Open: true, Braking: true}, want: PassFree},
		"the brake, and the tenant it hit":   {app: App{Open: true, Braking: true, Braked: true, Refuses: true}, want: PassFree},
		"mass death, and a healthy grant":    {app: App{MassAt: in(-time.Minute), MassTryAt: in(time.Minute)}, want: PassFree},
		"mass death, and a doubted one":      {app: App{MassAt: in(-time.Minute), MassTryAt: in(time.Minute)}, who: doubted, want: PassStopped, acts: WhoNobody, code: CodeMassDeath, atMost: 3 * time.Minute},
		"mass death, when its turn may come": {app: App{MassAt: in(-time.Minute)}, who: doubted, want: PassFree},
		"mass death, a day later":            {app: App{MassAt: in(-25 * time.Hour), MassTryAt: in(time.Minute)}, who: doubted, want: PassFree},

		"the host's circuit has just opened":          {host: at(open(1, 0)), want: PassProbe},
		"the host's, for a tenant that it refused":    {host: at(open(1, 0, func(a *App) { a.Refuses = true })), want: PassStopped, acts: WhoOperator, code: "invalid_client", atMost: 2 * time.Second},
		"somebody probes the host":                    {host: at(open(1, time.Hour, busy)), want: PassStandBy, acts: WhoOperator, code: "invalid_client", atMost: 2 * time.Second},
		"the host's next probe is far":                {host: at(open(14, time.Minute)), want: PassStopped, acts: WhoOperator, code: "invalid_client", atLeast: 59 * time.Second, atMost: 76 * time.Second},
		"a host about which there is but a doubt":     {host: at(App{Refuses: true}), want: PassFree},
		"the app's circuit is open, and the host's":   {app: open(1, 0), host: at(open(14, time.Minute)), want: PassProbe},
		"the app's probe is far, the host's is due":   {app: open(14, time.Minute), host: at(open(1, 0)), want: PassStopped, acts: WhoOperator, code: "invalid_client", atLeast: 59 * time.Second, atMost: 76 * time.Second},
		"another profile's brake, the host's circuit": {app: App{Open: true, Braking: true}, host: at(open(14, time.Minute)), want: PassStopped, acts: WhoOperator, code: "invalid_client", atMost: 76 * time.Second},
		"the host's pause":                            {host: at(App{ThrottledUntil: in(time.Minute)}), want: PassStopped, acts: WhoNobody, code: CodeThrottled, atLeast: 59 * time.Second, atMost: 76 * time.Second},
		"the host's pause, and a probe of the app":    {app: open(1, 0), host: at(App{ThrottledUntil: in(time.Minute)}), want: PassStopped, acts: WhoNobody, code: CodeThrottled, atMost: 76 * time.Second},
		"the host's pause is over":                    {host: at(App{ThrottledUntil: in(-time.Second)}), want: PassFree},

		"a pause, although the brake lets go": {app: App{Open: true, Braking: true, ThrottledUntil: in(time.Minute)}, want: PassStopped, acts: WhoNobody, code: CodeThrottled, atMost: 76 * time.Second},
	} {
		for _, random := range []float64{0, 1} {
			c.app.Now = now
			got, wait, why := Gate(c.app, c.host, c.who, random)
			if got != c.want || got == PassStandBy && wait <= 0 {
				t.Errorf("%s: %d, want %d; wait %v", name, got, c.want, wait)
			}
			if c.code == "" {
				continue
			}
			if c.host != nil && !c.app.Open && why != nil && !strings.Contains(why.Why.Error(), c.host.Host) {
				t.Errorf("%s: %v does not name the host", name, why.Why)
			}
			if why == nil || why.Who != c.acts || why.Code != c.code {
				t.Errorf("%s: %+v", name, why)
			} else if why.Retry <= 0 || why.Retry < c.atLeast || why.Retry > c.atMost {
				t.Errorf("%s: retry after %v, want %v to %v", name, why.Retry, c.atLeast, c.atMost)
			}
		}
	}
}

func TestOnlyAWholeSuccessIsUnreadable(t *testing.T) {
	answer := func(a provider.Answer) *provider.Error {
		_, err := provider.Classify(provider.Profile{}, a)
		var e *provider.Error
		errors.As(err, &e)
		return e
	}
	for name, c := range map[string]struct {
		err  *provider.Error
		want bool
	}{
		"another shape":          {answer(provider.Answer{Status: 200, Body: []byte(`{"data":{}}`)}), true},
		"a page":                 {answer(provider.Answer{Status: 200, Body: []byte(`<html>`)}), true},
		"no body":                {answer(provider.Answer{Status: 204}), true},
		"torn":                   {answer(provider.Answer{Status: 200, Body: []byte(`{"acc`), Err: io.ErrUnexpectedEOF}), false},
		"a server that stumbles": {answer(provider.Answer{Status: 500}), false},
		"no answer":              {answer(provider.Answer{Err: io.EOF}), false},
		"a code of its own":      {answer(provider.Answer{Status: 200, Body: []byte(`{"error":"invalid_grant"}`)}), false},
		"nothing in the pair":    {&provider.Error{Class: provider.Ambiguous, Code: "no_access_token"}, true},
	} {
		if got := Unreadable(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestEveryRetryAfterIsBounded(t *testing.T) {
	for _, random := range []float64{0, 1} {
		for n := range int64(50) {
			for _, class := range []provider.Class{provider.Throttled, provider.AppRefused, provider.Ambiguous, provider.Busy} {
				d := RetryIn(n, &provider.Error{Class: class, Status: http.StatusTooManyRequests, RetryAfter: 240 * time.Hour}, random)
				if d > MaxPause+MaxPause/4 {
					t.Errorf("failure %d of class %v: %v", n, class, d)
				}
			}
		}
	}
	waits := ProbeWaits(1)
	for i := range waits {
		if i > 0 && waits[i] < waits[i-1] || waits[i] > maxProbe+maxProbe/4 {
			t.Errorf("probes: %v", waits)
		}
	}
	if waits[probesAtOnce-1] != 0 || waits[probesAtOnce] == 0 {
		t.Errorf("probes: %v", waits)
	}
}
