package refreshtest

import (
	"encoding/base64"
	"encoding/json"
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

// mintIn returns what a form asks to mint; nil if it presents a refresh token, or nothing known.
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

// mint mints: it kills the access token that was minted before it in the same slot, if the
// profile says so.
func (i *issuer) mint(m *mint, now time.Time) (Outcome, *accessToken) {
	f := i.families[m.tenant]
	if f == nil { // no consent is needed
		f = &family{tenant: m.tenant, grantedAt: now}
		i.families[m.tenant] = f
	}
	if f.revoked {
		return Revoked, nil
	}
	if old := f.slots[m.slot]; old != nil && i.killsAccess() {
		old.dead = true
	}
	if f.slots == nil {
		f.slots = make(map[string]*accessToken)
	}
	f.slots[m.slot] = i.issueAccess(f, now)
	return Minted, f.slots[m.slot]
}
