package provider

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func TestTheTokenURLDependsOnTheTenant(t *testing.T) {
	for _, c := range []struct {
		name, pattern string
		hosts         []string
		tenant        string
		extra         map[string]any
		want, wrong   string
	}{
		{name: "host", pattern: "https://{tenant}.zendesk.com/oauth/tokens", tenant: "acme", want: "https://acme.zendesk.com/oauth/tokens"},
		{name: "path", pattern: "https://login.example/{tenant}/token", tenant: "acme", want: "https://login.example/acme/token"},
		{name: "query", pattern: "https://login.example/token?of={tenant}", tenant: "a&b=c", want: "https://login.example/token?of=a%26b%3Dc"},
		{name: "the host's own suffix", pattern: "https://{tenant}.myshopify.com/x", tenant: "Acme.MyShopify.com", want: "https://Acme.myshopify.com/x"},
		{name: "a member", pattern: "{instance_url}/token", hosts: []string{".salesforce.com"}, extra: map[string]any{"instance_url": "https://acme.my.salesforce.com/"}, want: "https://acme.my.salesforce.com/token"},
		{name: "a member that is a host", pattern: "{accounts-server}/token", hosts: []string{"accounts.zoho.eu"}, extra: map[string]any{"accounts-server": "accounts.zoho.eu"}, want: "https://accounts.zoho.eu/token"},
		{name: "two", pattern: "https://{region}.example.com/{tenant}/token", tenant: "acme", extra: map[string]any{"region": "eu"}, want: "https://eu.example.com/acme/token"},
		{name: "the whole host", pattern: "https://{tenant}/token", hosts: []string{".myshopify.com"}, tenant: "acme.myshopify.com", want: "https://acme.myshopify.com/token"},

		{name: "no such member", pattern: "{instance_url}/token", hosts: []string{".salesforce.com"}, tenant: "acme", wrong: "no member instance_url"},
		{name: "no tenant", pattern: "https://{tenant}.example.com", wrong: "names no tenant"},
		{name: "out of the host", pattern: "https://{tenant}.zendesk.com/t", tenant: "evil.example/x", wrong: "a part of a host's name"},
		{name: "out of the host by a user", pattern: "https://{tenant}.zendesk.com/t", tenant: "x@evil.example#", wrong: "a part of a host's name"},
		{name: "out of the host by a port", pattern: "https://{tenant}.zendesk.com/t", tenant: "evil.example:443?", wrong: "a part of a host's name"},
		{name: "up the path", pattern: "https://login.example/a/{tenant}/token", tenant: "..", wrong: "a part of an address"},
		{name: "a path stays one", pattern: "https://login.example/{tenant}/token", tenant: "a/../b", want: "https://login.example/a%2F..%2Fb/token"},
		{name: "another host", pattern: "{instance_url}/token", hosts: []string{".salesforce.com"}, extra: map[string]any{"instance_url": "https://evilsalesforce.com"}, wrong: "TokenHosts"},
		{name: "a host that begins like it", pattern: "{instance_url}/token", hosts: []string{".salesforce.com"}, extra: map[string]any{"instance_url": "https://a.salesforce.com.evil.example"}, wrong: "TokenHosts"},
		{name: "a user", pattern: "{instance_url}/token", hosts: []string{".salesforce.com"}, extra: map[string]any{"instance_url": "https://a.salesforce.com@evil.example"}, wrong: "not an address"},
		{name: "in clear text", pattern: "{instance_url}/token", hosts: []string{".salesforce.com"}, extra: map[string]any{"instance_url": "http://a.salesforce.com"}, wrong: "must be https"},
		{name: "any host", pattern: "{instance_url}/token", extra: map[string]any{"instance_url": "https://evil.example"}, wrong: "TokenHosts"},
		{name: "any host of a tenant", pattern: "https://{tenant}/token", tenant: "evil.example", wrong: "TokenHosts"},
		{name: "no mark", pattern: "https://{}.example.com", tenant: "acme", wrong: "in braces"},
	} {
		var sent string
		p, err := PerTenant(func(Grant) (*oauth2.Config, error) { return app(c.pattern), nil }, Profile{TokenHosts: c.hosts})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		ep := p.Exchanger.(*TokenEndpoint)
		ep.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			sent = r.URL.String()
			_, _ = io.Copy(io.Discard, r.Body)
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"access_token":"a"}`))}, nil
		})
		_, err = ep.Exchange(ctxFor(t, 10*time.Second), Grant{Tenant: c.tenant, RefreshToken: canaryRefresh, Extra: c.extra})
		switch {
		case c.wrong == "" && (err != nil || sent != c.want):
			t.Errorf("%s: asked %q (%v), want %q", c.name, sent, err, c.want)
		case c.wrong != "" && (sent != "" || err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: asked %q, got %v, want %q", c.name, sent, err, c.wrong)
		case c.wrong != "" && asError(t, err).Class != AppRefused:
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestPresetsSayWhereATenantsTokensAreRefreshed(t *testing.T) {
	for _, c := range []struct {
		p      Profile
		tenant string
		extra  map[string]any
		want   string
	}{
		{Zendesk(), "acme", nil, "https://acme.zendesk.com/oauth/tokens"},
		{Zoho(), "acme", map[string]any{"accounts-server": "https://accounts.zoho.eu"}, "https://accounts.zoho.eu/oauth/v2/token"},
		{Salesforce(), "acme", map[string]any{"instance_url": "https://acme.my.salesforce.com"}, "https://acme.my.salesforce.com/services/oauth2/token"},
		{Salesforce(), "acme", nil, "https://login.salesforce.com/services/oauth2/token"},
		{Okta(), "acme", map[string]any{"issuer": "https://acme.okta.com/oauth2/default"}, "https://acme.okta.com/oauth2/default/v1/token"},
		{Auth0(), "acme", map[string]any{"issuer": "https://acme.eu.auth0.com/"}, "https://acme.eu.auth0.com/oauth/token"},
		{Shopify(), "acme.myshopify.com", nil, "https://acme.myshopify.com/admin/oauth/access_token"},
		{Microsoft(), "8eaef023-2b34-4da1-9baa-8bc8c9d6a490", nil, "https://login.microsoftonline.com/8eaef023-2b34-4da1-9baa-8bc8c9d6a490/oauth2/v2.0/token"},
	} {
		if got, err := tokenURLFor("", c.p, Grant{Tenant: c.tenant, Extra: c.extra}); err != nil || got != c.want {
			t.Errorf("%s: %q (%v), want %q", c.p.Name, got, err, c.want)
		}
	}
}

func TestATenantsConfigurationThatCannotBeIsItsOwnTrouble(t *testing.T) {
	secret := errors.New("CANARY")
	for name, c := range map[string]struct {
		cfg  func(Grant) (*oauth2.Config, error)
		want Class
	}{
		"fails":   {func(Grant) (*oauth2.Config, error) { return nil, fmt.Errorf("db: %w", secret) }, Unsent},
		"says":    {func(Grant) (*oauth2.Config, error) { return nil, &Error{Class: Reauthorize} }, Reauthorize},
		"none":    {func(Grant) (*oauth2.Config, error) { return nil, nil }, AppRefused},
		"nowhere": {func(Grant) (*oauth2.Config, error) { return app(""), nil }, AppRefused},
		"no style": {func(Grant) (*oauth2.Config, error) {
			return &oauth2.Config{ClientID: "id", Endpoint: oauth2.Endpoint{TokenURL: "https://a"}}, nil
		}, AppRefused},
	} {
		p, err := PerTenant(c.cfg, Profile{})
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			e := refuses(t, p.Exchanger.(*TokenEndpoint), ctxFor(t, 10*time.Second), c.want)
			if e.Status != 0 || name == "fails" && !errors.Is(e, secret) {
				t.Errorf("%v", e)
			}
		})
	}
	if _, err := PerTenant(nil, Profile{}); err == nil {
		t.Error("no function was accepted")
	}
}

func TestAMarkThatMeansNothingIsRefusedWithAHint(t *testing.T) {
	for _, url := range []string{"https://{tenant}.zendesk.com/oauth/tokens", "https://host/{tenant}/token", "https://host/token?of={tenant}", "https://{shop}/token"} {
		if _, err := OAuth2(app(url), Zendesk()); err == nil || !strings.Contains(err.Error(), "PerTenant") {
			t.Errorf("%s: %v", url, err)
		}
	}
	cfg := app("https://host/token")
	cfg.ClientID = "{tenant}"
	if _, err := OAuth2(cfg, Profile{}); err == nil || !strings.Contains(err.Error(), "PerTenant") {
		t.Errorf("client: %v", err)
	}
	for _, url := range []string{"https://host/{shop}/token", "https://{tenant}/token"} {
		if _, err := ClientCredentials(&clientcredentials.Config{ClientID: "id", TokenURL: url, AuthStyle: oauth2.AuthStyleInParams}, Profile{}); err == nil {
			t.Errorf("%s was accepted", url)
		}
	}
}
