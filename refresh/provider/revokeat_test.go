package provider

import (
	"testing"
	"time"
)

func TestARevocationGoesToTheHostThatHasTheToken(t *testing.T) {
	for _, c := range []struct {
		p         Profile
		url, want string
	}{
		{GitLab(), "https://git.acme.example/oauth/token", "https://git.acme.example/oauth/revoke"},
		{Salesforce(), "https://test.salesforce.com/services/oauth2/token", "https://test.salesforce.com/services/oauth2/revoke"},
	} {
		var sent string
		p, err := OAuth2(app(c.url), c.p)
		if err != nil {
			t.Fatal(err)
		}
		ep := p.Exchanger.(*TokenEndpoint)
		ep.Transport = recordingTransport(&sent, ``)
		err = ep.Revoke(ctxFor(t, 10*time.Second), Grant{Tenant: "acme", RefreshToken: canaryRefresh})
		if sent != c.want {
			t.Errorf("%s: revoked at %q (%v), want %q", c.url, sent, err, c.want)
		}
	}
}

func TestA200ThatSaysNoHasNotRevoked(t *testing.T) {
	var sent string
	p, err := OAuth2(app("https://token.example"), Profile{RevokeURL: "https://token.example/revoke"})
	if err != nil {
		t.Fatal(err)
	}
	ep := p.Exchanger.(*TokenEndpoint)
	ep.Transport = recordingTransport(&sent, `{"error":"invalid_client"}`)
	if err := ep.Revoke(t.Context(), Grant{RefreshToken: canaryRefresh}); err == nil {
		t.Error("revoked")
	}
}
