package refresh

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// in is a time of Redis' clock, as an AppState has it whose now is 0.
func in(d time.Duration) int64 {
	return (&engine.AppState{}).Now() + d.Milliseconds()
}

func TestGateSaysWhoWaitsWhoProbesAndWhoIsStopped(t *testing.T) {
	const digest = "0123abcd"
	open := func(probes int64, probeAt time.Duration, by string) *engine.AppState {
		return &engine.AppState{Open: true, Error: "app_refused/invalid_client/401", Probes: probes, ProbeAt: in(probeAt), ProbeBy: by}
	}
	for name, c := range map[string]struct {
		state   *engine.AppState
		who     applicant
		want    passage
		kind    error
		code    string
		atLeast time.Duration
		atMost  time.Duration
	}{
		"all is well":                         {state: &engine.AppState{AcceptedAt: 1}, want: free},
		"one tenant is suspected":             {state: &engine.AppState{AcceptedAt: 1, Refused: "01234567"}, want: free},
		"the circuit has just opened":         {state: open(1, -time.Millisecond, ""), want: probing},
		"for a tenant that was refused":       {state: open(1, -10*time.Millisecond, ""), who: applicant{refused: true}, want: stopped, kind: ErrClientConfig, code: "invalid_client", atMost: 2 * time.Second},
		"which comes when nobody else does":   {state: open(1, -1100*time.Millisecond, ""), who: applicant{refused: true}, want: probing},
		"somebody probes":                     {state: open(1, time.Hour, "w"), want: standBy, kind: ErrClientConfig, atMost: 2 * time.Second},
		"somebody probes, for a refused one":  {state: open(1, time.Hour, "w"), who: applicant{refused: true}, want: standBy, kind: ErrClientConfig, atMost: 2 * time.Second},
		"the prober has died":                 {state: open(1, -time.Second, "w"), want: probing},
		"the next probe is near":              {state: open(6, 2*time.Second, ""), want: standBy, kind: ErrClientConfig, atMost: 3 * time.Second},
		"near, for a refused one":             {state: open(6, 2*time.Second, ""), who: applicant{refused: true}, want: stopped, kind: ErrClientConfig, atMost: 5 * time.Second},
		"the next probe is far":               {state: open(14, time.Minute, ""), want: stopped, kind: ErrClientConfig, code: "invalid_client", atLeast: 59 * time.Second, atMost: 76 * time.Second},
		"far, for a refused one":              {state: open(14, time.Minute, ""), who: applicant{refused: true}, want: stopped, kind: ErrClientConfig, atLeast: 89 * time.Second, atMost: 113 * time.Second},
		"a pause":                             {state: &engine.AppState{ThrottledUntil: in(time.Minute)}, want: stopped, kind: ErrUnavailable, code: "throttled", atLeast: 59 * time.Second, atMost: 76 * time.Second},
		"a pause that is over":                {state: &engine.AppState{ThrottledUntil: in(-time.Second), Ramp: 1}, want: free},
		"the brake":                           {state: &engine.AppState{Open: true, Brake: digest}, who: applicant{profile: digest}, want: stopped, kind: ErrClientConfig, code: unreadableAnswer, atMost: 76 * time.Second},
		"the brake, of another profile":       {state: &engine.AppState{Open: true, Brake: digest}, who: applicant{profile: "4567abcd"}, want: free},
		"the brake, and the tenant it hit":    {state: &engine.AppState{Open: true, Brake: digest, Refused: tokencache.Fingerprint("hit")[:8]}, who: applicant{profile: digest, tenant: "hit"}, want: free},
		"mass death, and a healthy grant":     {state: &engine.AppState{MassAt: in(-time.Minute), MassTryAt: in(time.Minute)}, want: free},
		"mass death, and a doubted one":       {state: &engine.AppState{MassAt: in(-time.Minute), MassTryAt: in(time.Minute)}, who: applicant{doubted: true}, want: stopped, kind: ErrUnavailable, code: massDeath, atMost: 3 * time.Minute},
		"mass death, when its turn may come":  {state: &engine.AppState{MassAt: in(-time.Minute)}, who: applicant{doubted: true}, want: free},
		"mass death, a day later":             {state: &engine.AppState{MassAt: in(-25 * time.Hour), MassTryAt: in(time.Minute)}, who: applicant{doubted: true}, want: free},
		"a pause, although the brake lets go": {state: &engine.AppState{Open: true, Brake: digest, ThrottledUntil: in(time.Minute)}, who: applicant{profile: "4567abcd"}, want: stopped, kind: ErrUnavailable, code: "throttled", atMost: 76 * time.Second},
	} {
		for _, random := range []float64{0, 1} {
			got, wait, e := gate(c.state, c.who, random)
			if got != c.want || got == standBy && wait <= 0 {
				t.Errorf("%s: %d, want %d; wait %v", name, got, c.want, wait)
			}
			if c.kind == nil {
				continue
			}
			if e == nil || !errors.Is(e, c.kind) || c.code != "" && e.Code != c.code {
				t.Errorf("%s: %v", name, e)
			} else if e.RetryAfter <= 0 || e.RetryAfter < c.atLeast || e.RetryAfter > c.atMost {
				t.Errorf("%s: retry after %v, want %v to %v", name, e.RetryAfter, c.atLeast, c.atMost)
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
		if got := unreadable(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestEveryRetryAfterIsBounded(t *testing.T) {
	for _, random := range []float64{0, 1} {
		for n := range int64(50) {
			for _, class := range []provider.Class{provider.Throttled, provider.AppRefused, provider.Ambiguous, provider.Busy} {
				d := retryIn(n, &provider.Error{Class: class, Status: http.StatusTooManyRequests, RetryAfter: 240 * time.Hour}, random)
				if d > maxPause+maxPause/4 {
					t.Errorf("failure %d of class %v: %v", n, class, d)
				}
			}
		}
	}
	waits := probeWaits(1)
	for i := range waits {
		if i > 0 && waits[i] < waits[i-1] || waits[i] > maxProbe+maxProbe/4 {
			t.Errorf("probes: %v", waits)
		}
	}
	if waits[probesAtOnce-1] != 0 || waits[probesAtOnce] == 0 {
		t.Errorf("probes: %v", waits)
	}
}

// What replicas have acknowledged is not guessed at: Redis is not asked how old it is.
func TestWithReplicasNoServerIsDoubted(t *testing.T) {
	f := &flight{c: &Coordinator{cfg: Config{Replicas: 1}}}
	if judged, left, doubtful, err := f.serverDoubted(nil); judged != nil || left != 0 || doubtful || err != nil {
		t.Errorf("%v %v %v", left, doubtful, err)
	}
}
