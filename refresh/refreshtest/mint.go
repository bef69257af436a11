package refreshtest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// mint is a request for an access token without a refresh token.
type mint struct {
	grantType string
	tenant    string
	slot      string // form parameter token_index
}

// mintIn is what a form asks to mint; nil if it presents a refresh token, or nothing known.
func mintIn(form url.Values, client string) *mint {
	m := &mint{grantType: form.Get("grant_type"), slot: form.Get("token_index")}
	if m.slot == "" {
		m.slot = "0"
	}
	switch m.grantType {
	case "client_credentials", "account_credentials":
		if m.tenant = form.Get("account_id"); m.tenant == "" && m.grantType == "client_credentials" {
			m.tenant = client
		}
	case jwtBearer:
		m.tenant = claimedBy(form.Get("assertion"))
	default:
		return nil
	}
	return m
}

// checkMint is nil for a request that may be granted.
func (s *Server) checkMint(r *http.Request, form url.Values, m *mint) *refusal {
	if m.grantType == jwtBearer {
		return s.checkAssertion(form.Get("assertion"), m)
	}
	if no := s.checkClient(r, form); no != nil {
		return no
	}
	if m.tenant == "" {
		return invalidRequest("account_id is missing")
	}
	return nil
}

// checkAssertion wants a signed JWT that names a tenant (RFC 7523 §3). Its signature is looked
// at if the server has the key.
func (s *Server) checkAssertion(assertion string, m *mint) *refusal {
	signed, signature, ok := cutLast(assertion, ".")
	if !ok || m.tenant == "" {
		return &refusal{http.StatusBadRequest, "invalid_grant", "the assertion is no JWT, or has neither sub nor iss"}
	}
	key, ok := s.cfg.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	digest := sha256.Sum256([]byte(signed))
	if err != nil || rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw) != nil {
		return &refusal{http.StatusBadRequest, "invalid_grant", "the assertion's signature is not of the known key"}
	}
	return nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	at := strings.LastIndex(s, sep)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(sep):], true
}

// claimedBy is whom an assertion is about: its subject, else its issuer.
func claimedBy(assertion string) string {
	part := strings.Split(assertion, ".")
	if len(part) != 3 {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(part[1])
	var claims struct{ Sub, Iss string }
	if err != nil || json.Unmarshal(raw, &claims) != nil {
		return ""
	}
	if claims.Sub != "" {
		return claims.Sub
	}
	return claims.Iss
}

// grant mints: it kills the access token that was minted before it in the same slot, if the
// profile says so. Call with mu held.
func (s *Server) grant(m *mint, now time.Time) (Outcome, *accessToken) {
	f := s.families[m.tenant]
	if f == nil { // no consent is needed
		f = &family{tenant: m.tenant, grantedAt: now}
		s.families[m.tenant] = f
	}
	if f.revoked {
		return Revoked, nil
	}
	if old := f.slots[m.slot]; old != nil && s.killsAccess() {
		old.dead = true
	}
	if f.slots == nil {
		f.slots = make(map[string]*accessToken)
	}
	f.slots[m.slot] = s.issueAccess(f, now)
	return Minted, f.slots[m.slot]
}
