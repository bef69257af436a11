package refreshtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"time"
)

const codeGrant = "authorization_code"

// codeLife is how long an authorization code can be redeemed.
const codeLife = time.Minute

// code is an authorization code. It can be redeemed once, for the first pair of a consent.
type code struct {
	tenant    string
	redirect  string // the request's redirect_uri
	challenge string // its code_challenge; empty: none
	issuedAt  time.Time
	spent     bool
	family    *family // what came of it; nil if nothing did
}

// issueCode makes the code that answers an authorization request.
func (s *Server) issueCode(tenant string, ask url.Values) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw := s.cfg.TokenPrefix + "code-" + rand.Text()
	s.codes[raw] = &code{
		tenant: tenant, redirect: ask.Get("redirect_uri"), challenge: ask.Get("code_challenge"), issuedAt: s.now(),
	}
	return raw
}

// serveCode is the token endpoint for authorization codes (RFC 6749 §4.1.3). The ledger does not
// hold these requests, since they present no refresh token.
func (s *Server) serveCode(w http.ResponseWriter, r *http.Request, form url.Values, no *refusal) {
	if no == nil {
		no = s.checkClient(r, form)
	}
	if no == nil && form.Get("code") == "" {
		no = invalidRequest("code is missing")
	}
	var pair map[string]any
	if no == nil {
		pair, no = s.redeemCode(form)
	}
	if no != nil {
		s.countRefused()
		no.reply(r).send(w, NoFault)
		return
	}
	jsonReply(http.StatusOK, pair).send(w, NoFault)
}

// redeemCode begins the tenant's consent, as Grant does.
func (s *Server) redeemCode(form url.Values) (pair map[string]any, no *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	c := s.codes[form.Get("code")]
	if why := c.spend(form, now); why != "" {
		return nil, &refusal{http.StatusBadRequest, "invalid_grant", "the code " + why}
	}
	rt := s.consent(c.tenant, now)
	c.family = rt.family
	return s.firstMembers(rt, now), nil
}

// spend marks the code as presented. It returns why the code brings no pair; "" if it brings one.
// Call with mu held.
func (c *code) spend(form url.Values, now time.Time) string {
	if c == nil {
		return "is not known"
	}
	if c.spent {
		if c.family != nil { // RFC 6749 §4.1.2: the code may be stolen
			c.family.revoked = true
		}
		return "was presented before"
	}
	c.spent = true
	switch {
	case now.Sub(c.issuedAt) > codeLife:
		return "has expired"
	case form.Get("redirect_uri") != c.redirect:
		return "was issued to another redirect_uri"
	case !c.verified(form):
		return "was issued to another code_verifier"
	}
	return ""
}

// verified reports whether the request has the verifier of the code's challenge (RFC 7636 §4.6). A verifier without a challenge is a downgrade (RFC 9700 §2.1.1).
func (c *code) verified(form url.Values) bool {
	if c.challenge == "" {
		return !form.Has("code_verifier")
	}
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	return base64.RawURLEncoding.EncodeToString(sum[:]) == c.challenge
}
