package refreshtest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"golang.org/x/oauth2"
)

// client is how the one client shows who it is.
type client struct {
	cfg Config

	mu      sync.Mutex // guards secrets
	secrets []string   // that it may show
}

// checkRequest is nil for a request whose refresh token may be looked at.
func (c *client) checkRequest(r *http.Request, form url.Values) *refusal {
	if no := c.checkClient(r, form); no != nil {
		return no
	}
	switch grantType := form.Get("grant_type"); {
	case grantType == "":
		return invalidRequest("grant_type is missing")
	case grantType == codeGrant:
		return invalidRequest("a refresh token has no place where a code is redeemed")
	case grantType != "refresh_token":
		return &refusal{http.StatusBadRequest, "unsupported_grant_type", "known are refresh_token, authorization_code, client_credentials, account_credentials and the JWT bearer"}
	case form.Get("refresh_token") == "":
		return invalidRequest("refresh_token is missing")
	}
	return nil
}

// checkClient authenticates the client by header or body, never by both
// (RFC 6749 §2.3).
func (c *client) checkClient(r *http.Request, form url.Values) *refusal {
	style := c.cfg.Profile.AuthStyle
	id, secret, inHeader := r.BasicAuth()
	if inHeader {
		if form.Has("client_secret") {
			return invalidRequest("the client authenticates twice")
		}
		// RFC 6749 §2.3.1: both are form-encoded before they become a Basic header.
		id, secret = unescape(id), unescape(secret)
	} else {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	switch {
	case inHeader && style == oauth2.AuthStyleInParams:
		return &refusal{http.StatusUnauthorized, "invalid_client", "this client authenticates in the body"}
	case !inHeader && style == oauth2.AuthStyleInHeader:
		return &refusal{http.StatusUnauthorized, "invalid_client", "this client authenticates in the header"}
	case id != c.cfg.ClientID || !c.knowsSecret(secret):
		return &refusal{http.StatusUnauthorized, "invalid_client", "unknown client or wrong secret"}
	case inHeader && form.Has("client_id") && form.Get("client_id") != id:
		return invalidRequest("header and body name different clients")
	}
	return nil
}

// checkMint is nil for a request that may be granted.
func (c *client) checkMint(r *http.Request, form url.Values, m *mint) *refusal {
	if m.grantType == jwtBearer {
		return c.checkAssertion(form.Get("assertion"), m)
	}
	if no := c.checkClient(r, form); no != nil {
		return no
	}
	if m.tenant == "" {
		return invalidRequest("account_id is missing")
	}
	return nil
}

// checkAssertion wants a signed JWT that names a tenant (RFC 7523 §3). Its signature is looked
// at if the server has the key.
func (c *client) checkAssertion(assertion string, m *mint) *refusal {
	signed, signature, ok := cutLast(assertion, ".")
	if !ok || m.tenant == "" {
		return &refusal{http.StatusBadRequest, "invalid_grant", "the assertion is no JWT, or has neither sub nor iss"}
	}
	key, ok := c.cfg.PublicKey.(*rsa.PublicKey)
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

func (c *client) knowsSecret(secret string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.secrets, secret)
}

// unescape returns "" for what is not form-encoded; no client is called that.
func unescape(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return ""
	}
	return plain
}
