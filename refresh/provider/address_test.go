package provider

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func recordingTransport(sent *string, body string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		*sent = r.URL.String()
		_, _ = io.Copy(io.Discard, r.Body)
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

func TestATenantCannotLeaveWhatIsFixedOfTheHost(t *testing.T) {
	for _, c := range []struct {
		pattern string
		hosts   []string
		extra   map[string]any
	}{
		{"https://login.{issuer}/token", nil, map[string]any{"issuer": "evil.example"}},
		{"https://api{issuer}/token", nil, map[string]any{"issuer": "x.evil.example"}},
		{"https://{sub}.{issuer}/token", nil, map[string]any{"sub": "a", "issuer": "evil.example"}},
		{"HTTPS://{issuer}/token", nil, map[string]any{"issuer": "evil.example"}},
		{"https://{issuer}.com/token", nil, map[string]any{"issuer": "evil"}},
		{"{issuer}/token", []string{".example.com"}, map[string]any{"issuer": "https://[2001:db8::1%25.example.com]"}},
		{"{issuer}/token", []string{".example.com"}, map[string]any{"issuer": "https://evil／.example.com"}},
		{"{issuer}/token", []string{".example.com"}, map[string]any{"issuer": "https://a.example.com/?"}},
	} {
		var sent string
		p, err := PerTenant(func(Grant) (*oauth2.Config, error) { return app(c.pattern), nil }, Profile{TokenHosts: c.hosts})
		if err != nil {
			t.Fatal(err)
		}
		ep := p.Exchanger.(*TokenEndpoint)
		ep.Transport = recordingTransport(&sent, `{"access_token":"a"}`)
		_, err = ep.Exchange(ctxFor(t, 10*time.Second), Grant{Tenant: "acme", RefreshToken: canaryRefresh, Extra: c.extra})
		if err == nil || sent != "" {
			t.Errorf("%s with %v: sent to %q", c.pattern, c.extra, sent)
		}
	}
}

func TestAMintSendsNothingInClearText(t *testing.T) {
	var sent string
	p, err := ClientCredentials(&clientcredentials.Config{ClientID: "id", ClientSecret: canarySecret, TokenURL: "{tenant}/token", AuthStyle: 1},
		Profile{TokenHosts: []string{".example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	ep := p.Exchanger.(*TokenEndpoint)
	ep.Transport = recordingTransport(&sent, `{"access_token":"a"}`)
	_, err = ep.Exchange(ctxFor(t, 10*time.Second), Grant{Tenant: "http://acme.example.com"})
	if err == nil || sent != "" {
		t.Errorf("sent to %q: %v", sent, err)
	}
}
