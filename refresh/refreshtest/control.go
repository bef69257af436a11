package refreshtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// control lets a person or another process play.
type control struct{ *world }

// addTo serves /control/, see the package comment.
func (c control) addTo(mux *http.ServeMux) {
	for path, do := range map[string]func(url.Values) error{
		"revoke": c.controlRevoke, "expire": c.controlExpire, "fail": c.controlFail, "advance": c.controlAdvance,
	} {
		mux.HandleFunc("POST /control/"+path, func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.URL.Query()); err != nil {
				jsonReply(http.StatusBadRequest, map[string]any{"error": err.Error()}).send(w, NoFault)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	mux.HandleFunc("POST /control/grant", c.controlGrant)
	mux.HandleFunc("GET /control/ledger", c.controlLedger)
}

// controlGrant answers a consent's first pair as the token endpoint would.
func (c control) controlGrant(w http.ResponseWriter, r *http.Request) {
	tenant := r.URL.Query().Get("tenant")
	if tenant == "" {
		jsonReply(http.StatusBadRequest, map[string]any{"error": "tenant is missing"}).send(w, NoFault)
		return
	}
	jsonReply(http.StatusOK, c.firstPair(tenant)).send(w, NoFault)
}

func (c control) firstPair(tenant string) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	return c.issuer.firstMembers(c.issuer.consent(tenant, now), now)
}

func (c control) controlRevoke(ask url.Values) error { return c.onTenant(ask, c.issuer.revoke) }

func (c control) controlExpire(ask url.Values) error { return c.onTenant(ask, c.issuer.expire) }

// onTenant calls do for a tenant that has consented. A misspelled name is an error.
func (c control) onTenant(ask url.Values, do func(tenant string)) error {
	tenant := ask.Get("tenant")
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.issuer.families[tenant]; !known {
		return fmt.Errorf("tenant %q has never consented here", tenant)
	}
	do(tenant)
	return nil
}

func (c control) controlAdvance(ask url.Values) error {
	d, err := time.ParseDuration(ask.Get("by"))
	if err != nil || d <= 0 {
		return errors.New("by must be a duration over 0, e.g. by=90m")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew += d
	return nil
}

// controlFail scripts the next exchanges.
func (c control) controlFail(ask url.Values) error {
	step := Step{Tenant: ask.Get("tenant"), Fault: Fault(ask.Get("fault")), Header: http.Header{}}
	if !slices.Contains([]Fault{NoFault, Drop, Reset, Truncate}, step.Fault) {
		return errors.New("fault must be drop, reset or truncate")
	}
	switch ask.Get("at") {
	case "", "before":
	case "after":
		step.At = AfterCommit
	default:
		return errors.New("at must be before or after (the commit)")
	}
	if err := errors.Join(number(ask, "times", &step.Times, 1, 1e6), number(ask, "status", &step.Status, 400, 599)); err != nil {
		return err
	}
	if code := ask.Get("error"); code != "" {
		body, _ := json.Marshal(map[string]string{"error": code}) // a string cannot fail
		step.Body = string(body)
	}
	if wait := ask.Get("retry_after"); wait != "" {
		step.Header.Set("Retry-After", wait)
	}
	step.defaultStatus()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.add(step)
	return nil
}

// defaultStatus sets Status: 400 for an OAuth error, else 503; none where the connection is cut.
func (st *Step) defaultStatus() {
	switch {
	case st.Status != 0 || st.Fault != NoFault:
	case st.Body != "":
		st.Status = http.StatusBadRequest
	default:
		st.Status = http.StatusServiceUnavailable
	}
}

// number reads an optional parameter and checks its bounds.
func number(ask url.Values, name string, into *int, low, high int) error {
	text := ask.Get(name)
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return fmt.Errorf("%s must be between %d and %d", name, low, high)
	}
	*into = n
	return nil
}

// entry is a line of the ledger as JSON, without the token.
type entry struct {
	N           int        `json:"n"`
	Tenant      string     `json:"tenant"`
	Consent     int        `json:"consent"`
	Generation  int64      `json:"generation"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Outcome     Outcome    `json:"outcome"`
	Violation   bool       `json:"violation"` // of the profile's rules
	Status      int        `json:"status,omitempty"`
	Code        string     `json:"error,omitempty"`
	Fault       Fault      `json:"fault,omitempty"`
	UserAgent   string     `json:"user_agent,omitempty"`
	Arrived     time.Time  `json:"arrived"`
	Answered    *time.Time `json:"answered,omitempty"` // missing while in flight
}

func (c control) controlLedger(w http.ResponseWriter, r *http.Request) {
	ledger := c.presentations()
	if tenant := r.URL.Query().Get("tenant"); tenant != "" {
		ledger = ledger.Presentations(tenant)
	}
	entries := make([]entry, 0, len(ledger))
	for _, p := range ledger {
		e := entry{
			N: p.N, Tenant: p.Tenant, Consent: p.Consent, Generation: p.Generation, Fingerprint: p.Fingerprint,
			Outcome: p.Outcome, Violation: p.violates(c.cfg.Profile), Status: p.Status, Code: p.Code, Fault: p.Fault,
			UserAgent: p.UserAgent, Arrived: p.Arrived,
		}
		if !p.Answered.IsZero() {
			e.Answered = &p.Answered
		}
		entries = append(entries, e)
	}
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(entries)
}
