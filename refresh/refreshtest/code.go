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

// issueCode makes the code that answers an authorization request.
func (i *issuer) issueCode(tenant string, ask url.Values, now time.Time) string {
	raw := i.cfg.TokenPrefix + "code-" + rand.Text()
	i.codes[raw] = &code{
		tenant: tenant, redirect: ask.Get("redirect_uri"), challenge: ask.Get("code_challenge"), issuedAt: now,
	}
	return raw
}

// redeemCode begins the tenant's consent, as Grant does.
func (i *issuer) redeemCode(form url.Values, now time.Time) (pair map[string]any, no *refusal) {
	c := i.codes[form.Get("code")]
	if why := c.spend(form, now); why != "" {
		return nil, &refusal{http.StatusBadRequest, "invalid_grant", "the code " + why}
	}
	rt := i.consent(c.tenant, now)
	c.family = rt.family
	return i.firstMembers(rt, now), nil
}

// spend marks the code as presented. It returns why the code brings no pair; "" if it brings one.
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
