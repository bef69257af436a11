package provider

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"
)

// Revoker is an [Exchanger] that can also revoke what it has exchanged (RFC 7009). It may be called
// again: revoking twice is harmless.
type Revoker interface {
	Revoke(ctx context.Context, g Grant) error
}

var errNoRevoke = errors.New("the slot's Exchanger has no Revoke")

var errNoRevokeURL = errors.New("the profile has no RevokeURL: write where the provider revokes tokens, or revoke there by hand")

// Revoke revokes the grant's refresh token at [Profile.RevokeURL]. The provider should end its access
// tokens as well (RFC 7009 §2.1). If the grant has no refresh token, Revoke revokes the access token. nil
// means that the provider says that the token is dead, since now or before. The error is an [*Error].
func (t *TokenEndpoint) Revoke(ctx context.Context, g Grant) error {
	if t.ask == nil {
		return &Error{Class: Unsent, Err: errNotBuilt}
	}
	req, err := t.ask(g)
	if err != nil {
		return err
	}
	address, err := t.revokeURL(g, req.client.url)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	d := &draft{ctx: ctx, grant: g, client: req.client}
	answer := t.postRevocation(ctx, address, g, d)
	if answer.Status/100 == 2 && !saysNo(answer) {
		return nil
	}
	_, err = Classify(t.profile, answer, slices.Concat(req.secrets, d.secrets)...)
	var e *Error
	if errors.As(err, &e) && e.Status < 500 && (e.Code == "invalid_token" || e.Code == "invalid_grant") {
		return nil // dead already; RFC 7009 §2.2 wants 200 for that
	}
	return err
}

// saysNo reports whether a success names an error.
func saysNo(a Answer) bool {
	m, _ := readMembers(a.Body, a.Err != nil)
	return text(m.find("error")) != ""
}

// revokeURL returns where a grant's tokens are revoked whose token endpoint is at that address.
func (t *TokenEndpoint) revokeURL(g Grant, endpoint string) (string, error) {
	if t.profile.RevokeURL == "" {
		return "", &Error{Class: AppRefused, Code: "revoke_url", Err: errNoRevokeURL}
	}
	address, err := addressOf(t.profile.RevokeURL, t.profile.TokenHosts, g)
	if err == nil {
		address = besides(endpoint, address)
		_, err = tokenHost("Profile: RevokeURL", address)
	}
	if err != nil {
		return "", &Error{Class: AppRefused, Code: "revoke_url", Err: err}
	}
	return address, nil
}

// besides is an address, from another one on if it names no host. What is no address is as it was.
func besides(endpoint, address string) string {
	from, err := url.Parse(endpoint)
	ref, err2 := url.Parse(address)
	if err != nil || err2 != nil || ref.IsAbs() || ref.Host != "" {
		return address
	}
	return from.ResolveReference(ref).String()
}

// postRevocation asks as the token endpoint is asked, without what is about tokens to come.
func (t *TokenEndpoint) postRevocation(ctx context.Context, address string, g Grant, d *draft) Answer {
	a := t.asking()
	a.Params, a.Scopes, a.proves = nil, false, nil
	form := url.Values{"token": {g.RefreshToken}, "token_type_hint": {"refresh_token"}}
	if g.RefreshToken == "" {
		form = url.Values{"token": {g.AccessToken}, "token_type_hint": {"access_token"}}
	}
	c, secret := d.client, a.shownSecret(d.client.secret)
	if c.style == oauth2.AuthStyleInParams {
		form.Set("client_id", c.id)
		if secret != "" {
			form.Set("client_secret", secret)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return Answer{Err: err, Unsent: true}
	}
	if c.style == oauth2.AuthStyleInHeader {
		req.SetBasicAuth(url.QueryEscape(c.id), url.QueryEscape(secret))
	}
	once := &onePost{ctx: ctx, base: t.transport(), shape: func(r *http.Request) error { return a.shape(r, d) }}
	if resp, err := once.RoundTrip(req); err == nil {
		_ = closeBody(resp.Body)
	}
	return once.answer
}
