package refreshtest

import (
	"net/http"
	"time"
)

// serveToken is the token endpoint.
//
// It never looks at the request's ctx to decide whether to go on: a provider
// that has the request commits it, whether or not its client still listens.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	form, no := readForm(r)
	if form.Get("grant_type") == codeGrant && !form.Has("refresh_token") {
		s.serveCode(w, r, form, no)
		return
	}
	m := mintIn(form, s.cfg.ClientID)
	switch {
	case no != nil:
	case m != nil:
		no = s.checkMint(r, form, m)
	default:
		no = s.checkRequest(r, form)
	}
	presented := form.Get("refresh_token")
	if presented == "" && m == nil { // nothing was presented: nothing for the ledger
		s.countRefused()
		no.reply(r).send(w, NoFault)
		return
	}
	n, step := s.arrive(r, presented, m, no == nil)
	defer s.finish() // deferred: Truncate leaves by panic
	if no != nil {
		s.settle(n, RequestRefused, no.code)
		s.answer(w, r, n, no.reply(r), NoFault)
		return
	}
	s.exchange(w, r, n, step)
}

// exchange takes a well-formed request from arrival to answer.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request, n int, step Step) {
	if !s.reach(BeforeCommit, n) {
		s.settle(n, NotProcessed, "")
		s.answer(w, r, n, reply{}, Drop)
		return
	}
	if step.endsBeforeCommit() {
		s.settle(n, NotProcessed, "")
		s.answer(w, r, n, step.replace(reply{status: http.StatusOK}), step.Fault)
		return
	}
	rep := s.commit(n).reply(r, step.Edit)
	if !s.reach(AfterCommit, n) {
		s.answer(w, r, n, reply{}, Drop)
		return
	}
	if step.At == AfterCommit {
		s.answer(w, r, n, step.replace(rep), step.Fault)
		return
	}
	s.answer(w, r, n, rep, NoFault)
}

// arrive writes a presentation or a mint into the ledger and returns its number and, for
// a well-formed one, its step of the script.
func (s *Server) arrive(r *http.Request, presented string, m *mint, wellFormed bool) (int, Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := Presentation{
		N:         len(s.ledger) + 1,
		Arrived:   s.now(),
		Outcome:   Pending,
		UserAgent: r.UserAgent(),
		Remote:    r.RemoteAddr,
		raw:       func() string { return presented },
	}
	if m != nil {
		p.mint, p.Tenant, p.Slot = m, m.tenant, m.slot
	} else {
		p.Fingerprint = Fingerprint(presented)
	}
	if t := s.refreshes[presented]; t != nil && m == nil {
		p.Tenant, p.Consent, p.Generation = t.family.tenant, t.family.number, t.generation
	}
	var step Step
	if wellFormed {
		step = s.takeStep(p.Tenant)
	}
	s.ledger = append(s.ledger, p)
	s.stats.Exchanges++
	s.inFlight++
	s.signal()
	return p.N, step
}

// settle writes down what became of exchange n, without redeeming its token.
func (s *Server) settle(n int, outcome Outcome, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.find(n)
	s.decide(n, outcome, code)
}

// verdict is what a commit brought: a pair's members or a refusal.
type verdict struct {
	pair    map[string]any
	refused *refusal
}

// reply runs edit without holding mu, so that it may use the server.
func (v verdict) reply(r *http.Request, edit func(map[string]any)) reply {
	if v.refused != nil {
		return v.refused.reply(r)
	}
	if edit != nil {
		edit(v.pair)
	}
	return jsonReply(http.StatusOK, v.pair)
}

// commit redeems the token of exchange n: the one step that cannot be undone.
func (s *Server) commit(n int) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if m := s.ledger[n-1].mint; m != nil {
		return s.minted(n, m, now)
	}
	outcome, pair := s.redeem(s.find(n), now)
	if pair == nil {
		s.decide(n, outcome, "invalid_grant")
		return verdict{refused: &refusal{http.StatusBadRequest, "invalid_grant", "refresh token: " + string(outcome)}}
	}
	s.decide(n, outcome, "")
	return verdict{pair: s.members(pair, now)}
}

// minted is commit for a mint. Call with mu held.
func (s *Server) minted(n int, m *mint, now time.Time) verdict {
	outcome, access := s.grant(m, now)
	if access == nil {
		s.decide(n, outcome, "invalid_grant")
		return verdict{refused: &refusal{http.StatusBadRequest, "invalid_grant", "the tenant has removed the app"}}
	}
	s.decide(n, outcome, "")
	return verdict{pair: s.members(&refreshToken{access: access}, now)}
}

// find returns the token of exchange n, nil if nobody knows it, and notes
// whether it was spent already. Call with mu held.
func (s *Server) find(n int) *refreshToken {
	p := &s.ledger[n-1]
	t := s.refreshes[p.raw()]
	if t != nil {
		p.SpentAt = t.spentAt
	}
	return t
}

// decide fills in exchange n's outcome. Call with mu held.
func (s *Server) decide(n int, outcome Outcome, code string) {
	p := &s.ledger[n-1]
	p.Outcome, p.Code, p.Decided = outcome, code, s.now()
	if outcome.Committed() {
		s.stats.Pairs++
	}
	if code != "" {
		s.stats.Refused++
	}
	s.signal()
}

// answer sends the reply of exchange n. The ledger is written first: a client that
// has the answer finds it there.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, n int, rep reply, fault Fault) {
	s.mu.Lock()
	p := &s.ledger[n-1]
	p.Answered, p.Fault, p.Gone = s.now(), fault, r.Context().Err() != nil
	if fault == NoFault || fault == Truncate {
		p.Status = rep.status
	}
	s.mu.Unlock()
	rep.send(w, fault)
}

// finish ends an exchange.
func (s *Server) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	s.signal()
}
