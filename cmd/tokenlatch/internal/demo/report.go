package demo

import (
	"encoding/json"
	"io"
	"math"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// Report is the result of a run. Its JSON is the output of --json.
type Report struct {
	Mode    string `json:"mode"` // "coordinated" or "naive"
	Profile string `json:"profile"`

	Workers      int `json:"workers"`
	Tenants      int `json:"tenants"`
	Calls        int `json:"calls"`     // webhooks that asked for a token
	Errors       int `json:"errors"`    // of these, got none, or no answer of the API
	Exchanges    int `json:"exchanges"` // presentations of a refresh token
	Expiries     int `json:"expiries"`  // access tokens that had to be replaced
	Repeats      int `json:"repeat_presentations"`
	GrantsLost   int `json:"grants_lost"`   // without lost_response
	LostResponse int `json:"lost_response"` // killed between the provider's commit and ours
	Kills        int `json:"kills"`
	Recovered    int `json:"recovered"`    // killed holders' grants that live, with a new pair
	Unauthorized int `json:"surfaced_401"` // API calls that ended with 401

	Wait     waits  `json:"wait_ms"`
	Exchange median `json:"exchange_ms"`

	Verdict string `json:"verdict"` // "pass", "fail", "demonstration" (naive) or "idle" (no exchange)

	seconds  float64
	backend  string
	failures map[string]int
	recovery int // presentations after a killed holder's hard deadline that found the token spent
	timedOut int // losses by lost_response without a kill
}

type waits struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

type median struct {
	P50 float64 `json:"p50"`
}

// Verdicts.
const (
	pass          = "pass"
	fail          = "fail"
	demonstration = "demonstration"
	nothing       = "idle"
)

func (r *Report) judge() {
	switch {
	case r.Mode == modeNaive:
		r.Verdict = demonstration
	case r.Repeats > 0 || r.GrantsLost > 0:
		r.Verdict = fail
	case r.Exchanges == 0:
		r.Verdict = nothing
	default:
		r.Verdict = pass
	}
}

// Exit is the command's exit code.
func (r *Report) Exit() int {
	if r.Verdict == fail {
		return cli.ExitFailed
	}
	return cli.ExitOK
}

const (
	modeCoordinated = "coordinated"
	modeNaive       = "naive"
)

func (o Options) mode() string {
	if o.Naive {
		return modeNaive
	}
	return modeCoordinated
}

// fill takes in what fleet, ledger and grants tell.
func (r *Report) fill(f *fleet, g *grants, server *refreshtest.Server) {
	ledger := server.Ledger()
	t := f.soFar()
	r.Calls, r.Unauthorized, r.failures = t.calls, t.surfaced, t.failures
	for _, n := range r.failures {
		r.Errors += n
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	found := audit(ledger, g.profile, g.kills, g.losses)
	r.Exchanges, r.Expiries = found.exchanges, found.expiries
	r.Repeats, r.recovery = found.repeats, found.recoveries
	r.GrantsLost, r.LostResponse, r.timedOut = found.lost, found.lostResponse, found.timedOut
	r.Kills = len(g.kills)
	for _, k := range g.kills {
		if k.recovered {
			r.Recovered++
		}
	}
	r.Wait = waits{tenth(t.waits.quantile(0.5)), tenth(t.waits.quantile(0.99)), tenth(t.waits.max)}
	r.Exchange.P50 = tenth(exchangeTimes(ledger).quantile(0.5))
	r.judge()
}

func exchangeTimes(l refreshtest.Ledger) *histogram {
	var h histogram
	for _, p := range l {
		if !p.Answered.IsZero() {
			h.add(millis(p.Answered.Sub(p.Arrived)))
		}
	}
	return &h
}

func tenth(ms float64) float64 { return math.Round(ms*10) / 10 }

// WriteJSON writes the report as --json prints it.
func (r *Report) WriteJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(r)
}
