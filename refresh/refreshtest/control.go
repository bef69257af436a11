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

// addControl serves /control/, see the package comment.
func (s *Server) addControl(mux *http.ServeMux) {
	for path, do := range map[string]func(url.Values) error{
		"revoke": s.controlRevoke, "expire": s.controlExpire, "fail": s.controlFail, "advance": s.controlAdvance,
	} {
		mux.HandleFunc("POST /control/"+path, func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.URL.Query()); err != nil {
				jsonReply(http.StatusBadRequest, map[string]any{"error": err.Error()}).send(w, NoFault)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	mux.HandleFunc("POST /control/grant", s.controlGrant)
	mux.HandleFunc("GET /control/ledger", s.controlLedger)
}

// controlGrant answers a consent's first pair as the token endpoint would.
func (s *Server) controlGrant(w http.ResponseWriter, r *http.Request) {
	tenant := r.URL.Query().Get("tenant")
	if tenant == "" {
		jsonReply(http.StatusBadRequest, map[string]any{"error": "tenant is missing"}).send(w, NoFault)
		return
	}
	jsonReply(http.StatusOK, s.firstPair(tenant)).send(w, NoFault)
}

func (s *Server) firstPair(tenant string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	return s.firstMembers(s.consent(tenant, now), now)
}

func (s *Server) controlRevoke(ask url.Values) error { return s.onTenant(ask, s.Revoke) }

func (s *Server) controlExpire(ask url.Values) error { return s.onTenant(ask, s.ExpireAccessTokens) }

// onTenant calls do for a tenant that has consented. A misspelled name is an error.
func (s *Server) onTenant(ask url.Values, do func(tenant string)) error {
	tenant := ask.Get("tenant")
	s.mu.Lock()
	_, known := s.families[tenant]
	s.mu.Unlock()
	if !known {
		return fmt.Errorf("tenant %q has never consented here", tenant)
	}
	do(tenant)
	return nil
}

func (s *Server) controlAdvance(ask url.Values) error {
	d, err := time.ParseDuration(ask.Get("by"))
	if err != nil || d <= 0 {
		return errors.New("by must be a duration over 0, e.g. by=90m")
	}
	s.Advance(d)
	return nil
}

// controlFail scripts the next exchanges.
func (s *Server) controlFail(ask url.Values) error {
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
	s.Script(step)
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

func (s *Server) controlLedger(w http.ResponseWriter, r *http.Request) {
	ledger := s.Ledger()
	if tenant := r.URL.Query().Get("tenant"); tenant != "" {
		ledger = ledger.Presentations(tenant)
	}
	entries := make([]entry, 0, len(ledger))
	for _, p := range ledger {
		e := entry{
			N: p.N, Tenant: p.Tenant, Consent: p.Consent, Generation: p.Generation, Fingerprint: p.Fingerprint,
			Outcome: p.Outcome, Violation: p.violates(s.cfg.Profile), Status: p.Status, Code: p.Code, Fault: p.Fault,
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
