package provider

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// A path per tenant is one host, and what it says is about the app once a second tenant hears it.
func TestAFailureNamesItsHostWhereTenantsHaveHosts(t *testing.T) {
	for name, c := range map[string]struct {
		patterns []string
		urls     []string // asked one after the other
		want     []string
	}{
		"a host per tenant":      {[]string{"https://{tenant}.Example.com/token"}, []string{""}, []string{"acme.example.com"}},
		"a host per data centre": {[]string{"https://login.{region}.example.com/token"}, []string{""}, []string{"login.eu.example.com"}},
		"a path per tenant":      {[]string{"https://login.example.com/{tenant}/token"}, []string{"", ""}, []string{"", ""}},
		"a query per tenant":     {[]string{"https://login.example.com/token?of={tenant}"}, []string{""}, []string{""}},
		"written, and the same":  {nil, []string{"https://a.example.com/1", "https://a.example.com/2"}, []string{"", ""}},
		"written, and others":    {nil, []string{"https://a.example.com/1", "https://b.example.com/1", "https://A.example.com/1"}, []string{"", "b.example.com", "a.example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			written := ""
			p, err := PerTenant(func(Grant) (*oauth2.Config, error) { return app(written), nil }, Profile{TokenURLs: c.patterns})
			if err != nil {
				t.Fatal(err)
			}
			ep := p.Exchanger.(*TokenEndpoint)
			ep.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, r.Body)
				return &http.Response{StatusCode: 401, Body: io.NopCloser(strings.NewReader(`{"error":"invalid_client"}`))}, nil
			})
			for i, url := range c.urls {
				written = url
				g := Grant{Tenant: "acme", RefreshToken: "r", Extra: map[string]any{"region": "eu"}}
				_, err := ep.Exchange(ctxFor(t, 10*time.Second), g)
				if e := asError(t, err); e.Host != c.want[i] {
					t.Errorf("%d: host %q, want %q", i, e.Host, c.want[i])
				}
				if many := c.want[len(c.want)-1] != ""; i == len(c.urls)-1 && ep.SeveralHosts() != many {
					t.Errorf("several hosts: %t", !many)
				}
				g.RefreshToken = "" // nothing is sent
				if at := ep.HostOf(g); at != c.want[i] && c.want[i] != "" || strings.ToLower(at) != at {
					t.Errorf("%d: an exchange would be made at %q, want %q", i, at, c.want[i])
				}
			}
		})
	}
}

func TestNobodyKnowsTheHostOfAGrantWithoutAddress(t *testing.T) {
	p, err := PerTenant(func(Grant) (*oauth2.Config, error) { return app(""), nil }, Profile{TokenURLs: []string{"https://login.{region}.example.com/token"}})
	if err != nil {
		t.Fatal(err)
	}
	one, err := OAuth2(app("https://login.example.com/token"), Profile{})
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]Exchanger{"of no region": p.Exchanger, "of an app with one host": one.Exchanger, "not built": &TokenEndpoint{}} {
		if got := e.(*TokenEndpoint).HostOf(Grant{Tenant: "acme"}); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}
