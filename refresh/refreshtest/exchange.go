package refreshtest

import (
	"net/http"
	"net/url"
	"time"
)

// tokenEndpoint redeems what is presented.
type tokenEndpoint struct{ *world }

// serve is the token endpoint.
//
// It never looks at the request's ctx to decide whether to go on: a provider
// that has the request commits it, whether or not its client still listens.
func (e tokenEndpoint) serve(w http.ResponseWriter, r *http.Request) {
	form, no := readForm(r)
	if form.Get("grant_type") == codeGrant && !form.Has("refresh_token") {
		e.serveCode(w, r, form, no)
		return
	}
	m := mintIn(form, e.cfg.ClientID)
	switch {
	case no != nil:
	case m != nil:
		no = e.client.checkMint(r, form, m)
	default:
		no = e.client.checkRequest(r, form)
	}
	presented := form.Get("refresh_token")
	if presented == "" && m == nil { // nothing was presented: nothing for the ledger
		e.countRefused()
		no.reply(r).send(w, NoFault)
		return
	}
	n, step := e.arrive(r, presented, m, no == nil)
	defer e.finish() // deferred: Truncate leaves by panic
	if no != nil {
		e.settle(n, RequestRefused, no.code)
		e.answer(w, r, n, no.reply(r), NoFault)
		return
	}
	e.exchange(w, r, n, step)
}

// serveCode is the token endpoint for authorization codes (RFC 6749 §4.1.3). The ledger does not
// hold these requests, since they present no refresh token.
func (e tokenEndpoint) serveCode(w http.ResponseWriter, r *http.Request, form url.Values, no *refusal) {
	if no == nil {
		no = e.client.checkClient(r, form)
	}
	if no == nil && form.Get("code") == "" {
		no = invalidRequest("code is missing")
	}
	var pair map[string]any
	if no == nil {
		pair, no = e.redeemCode(form)
	}
	if no != nil {
		e.countRefused()
		no.reply(r).send(w, NoFault)
		return
	}
	jsonReply(http.StatusOK, pair).send(w, NoFault)
}

// redeemCode is issuer.redeemCode at this moment.
func (e tokenEndpoint) redeemCode(form url.Values) (pair map[string]any, no *refusal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.issuer.redeemCode(form, e.now())
}

// exchange takes a well-formed request from arrival to answer.
func (e tokenEndpoint) exchange(w http.ResponseWriter, r *http.Request, n int, step Step) {
	if !e.reach(BeforeCommit, n) {
		e.settle(n, NotProcessed, "")
		e.answer(w, r, n, reply{}, Drop)
		return
	}
	if step.endsBeforeCommit() {
		e.settle(n, NotProcessed, "")
		e.answer(w, r, n, step.replace(reply{status: http.StatusOK}), step.Fault)
		return
	}
	rep := e.commit(n).reply(r, step.Edit)
	if !e.reach(AfterCommit, n) {
		e.answer(w, r, n, reply{}, Drop)
		return
	}
	if step.At == AfterCommit {
		e.answer(w, r, n, step.replace(rep), step.Fault)
		return
	}
	e.answer(w, r, n, rep, NoFault)
}

// arrive writes a presentation or a mint into the ledger and returns its number and, for
// a well-formed one, its step of the script.
func (e tokenEndpoint) arrive(r *http.Request, presented string, m *mint, wellFormed bool) (n int, step Step) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := Presentation{Arrived: e.now(), UserAgent: r.UserAgent(), Remote: r.RemoteAddr, raw: func() string { return presented }}
	if m != nil {
		p.mint, p.Tenant, p.Slot = m, m.tenant, m.slot
	} else {
		p.Fingerprint = Fingerprint(presented)
	}
	if t := e.issuer.refreshes[presented]; t != nil && m == nil {
		p.Tenant, p.Consent, p.Generation = t.family.tenant, t.family.number, t.generation
	}
	if wellFormed {
		step = e.faults.takeStep(p.Tenant)
	}
	return e.book.arrive(p), step
}

// settle writes down what became of exchange n, without redeeming its token.
func (e tokenEndpoint) settle(n int, outcome Outcome, code string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.find(n)
	e.book.decide(n, outcome, code, e.now())
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
func (e tokenEndpoint) commit(n int) verdict {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if m := e.book.ledger[n-1].mint; m != nil {
		return e.minted(n, m, now)
	}
	outcome, pair := e.issuer.redeem(e.find(n), now)
	if pair == nil {
		e.book.decide(n, outcome, "invalid_grant", e.now())
		return verdict{refused: &refusal{http.StatusBadRequest, "invalid_grant", "refresh token: " + string(outcome)}}
	}
	e.book.decide(n, outcome, "", e.now())
	return verdict{pair: e.issuer.members(pair, now)}
}

// minted is commit for a mint. Call with mu held.
func (e tokenEndpoint) minted(n int, m *mint, now time.Time) verdict {
	outcome, access := e.issuer.mint(m, now)
	if access == nil {
		e.book.decide(n, outcome, "invalid_grant", e.now())
		return verdict{refused: &refusal{http.StatusBadRequest, "invalid_grant", "the tenant has removed the app"}}
	}
	e.book.decide(n, outcome, "", e.now())
	return verdict{pair: e.issuer.members(&refreshToken{access: access}, now)}
}

// find returns the token of exchange n, nil if nobody knows it, and notes
// whether it was spent already. Call with mu held.
func (e tokenEndpoint) find(n int) *refreshToken {
	p := &e.book.ledger[n-1]
	t := e.issuer.refreshes[p.raw()]
	if t != nil {
		p.SpentAt = t.spentAt
	}
	return t
}

// answer sends the reply of exchange n. The ledger is written first: a client that
// has the answer finds it there.
func (e tokenEndpoint) answer(w http.ResponseWriter, r *http.Request, n int, rep reply, fault Fault) {
	e.mu.Lock()
	p := &e.book.ledger[n-1]
	p.Answered, p.Fault, p.Gone = e.now(), fault, r.Context().Err() != nil
	if fault == NoFault || fault == Truncate {
		p.Status = rep.status
	}
	e.mu.Unlock()
	rep.send(w, fault)
}

// finish ends an exchange.
func (e tokenEndpoint) finish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.book.finish()
}

func (e tokenEndpoint) countRefused() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.book.stats.Refused++
}
