package provider

import (
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"golang.org/x/oauth2/clientcredentials"
)

func TestARevocationAuthenticatesAsAnExchangeDoes(t *testing.T) {
	var got url.Values
	var header http.Header
	s, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got, header = r.PostForm, r.Header
	})
	p := Profile{RevokeURL: s.URL + "/{tenant}/revoke", Request: Request{Params: url.Values{"action": {"requesttoken"}}, Header: http.Header{"User-Agent": {"acme"}}}}
	refreshing, err := OAuth2(app(s.URL), p, ClientAssertion(Assertion{Key: ecKey(t)}))
	if err != nil {
		t.Fatal(err)
	}
	minting, err := ClientCredentials(&clientcredentials.Config{ClientID: "id", ClientSecret: canarySecret, TokenURL: s.URL, AuthStyle: 1}, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p     Provider
		g     Grant
		token string
		hint  string
	}{
		{refreshing, grant, canaryRefresh, "refresh_token"},
		{minting, Grant{Tenant: "acme", AccessToken: canaryAccess}, canaryAccess, "access_token"},
	} {
		ep := c.p.Exchanger.(*TokenEndpoint)
		t.Cleanup(ep.CloseIdleConnections)
		if err := ep.Revoke(ctxFor(t, 10*time.Second), c.g); err != nil {
			t.Fatal(err)
		}
		if got.Get("token") != c.token || got.Get("token_type_hint") != c.hint || got.Has("action") || got.Has("grant_type") || got.Get("client_id") != "id" || header.Get("User-Agent") != "acme" {
			t.Errorf("sent %q", got)
		}
		if got.Has("client_secret") == got.Has("client_assertion") {
			t.Errorf("the client shows itself by %q", got)
		}
	}
}

func TestARevocationSendsNothingInClearTextOrElsewhere(t *testing.T) {
	for _, address := range []string{"", "http://revoke.example", "{issuer}/revoke"} {
		p, err := OAuth2(app("https://token.example"), Profile{RevokeURL: address, TokenHosts: []string{".issuer.example"}})
		if err != nil {
			t.Fatal(err)
		}
		ep := p.Exchanger.(*TokenEndpoint)
		ep.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			t.Errorf("%s: asked %s", address, r.URL)
			return nil, io.EOF
		})
		err = ep.Revoke(ctxFor(t, 10*time.Second), Grant{RefreshToken: canaryRefresh, Extra: map[string]any{"issuer": "https://evil.example"}})
		if e := asError(t, err); e.Class != AppRefused || e.Code != "revoke_url" {
			t.Errorf("%s: %v", address, e)
		}
	}
}
