package refreshtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2/jwt"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// mints asks for an access token; code is the error's, or "".
func mints(t *testing.T, s *Server, form url.Values) (access, code string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.TokenURL(), strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("client", "secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if _, ok := got["refresh_token"]; ok {
		t.Error("a mint brings a refresh token")
	}
	access, _ = got["access_token"].(string)
	code, _ = got["error"].(string)
	return access, code
}

func account(id, index string) url.Values {
	form := url.Values{"grant_type": {"account_credentials"}, "account_id": {id}}
	if index != "" {
		form.Set("token_index", index)
	}
	return form
}

func TestAMintKillsTheTokenOfItsSlotAlone(t *testing.T) {
	s := Start(t, Config{Profile: provider.ZoomServerToServer()})
	first, _ := mints(t, s, account("acme", ""))
	other, _ := mints(t, s, account("acme", "1"))
	stranger, _ := mints(t, s, account("another", "0"))
	if !s.AccessAlive(first) || !s.AccessAlive(other) || !s.AccessAlive(stranger) {
		t.Fatal("a token died that is not of the slot")
	}
	again, _ := mints(t, s, account("acme", "0"))
	if s.AccessAlive(first) || !s.AccessAlive(again) || !s.AccessAlive(other) || !s.AccessAlive(stranger) {
		t.Error("not the slot's token alone has died")
	}
	l := s.Ledger()
	if len(l) != 4 || len(l.Outcome(Minted)) != 4 || l.Pairs() != 4 || l[1].Slot != "1" || l[0].Tenant != "acme" {
		t.Errorf("ledger\n%s", l)
	}
	if len(l.PerToken()) != 0 || len(l.Violations(provider.Profile{})) != 0 {
		t.Error("a mint presents a refresh token")
	}
}

func TestAMintWhoseTenantHasRemovedTheAppIsRefused(t *testing.T) {
	s := Start(t, Config{})
	if _, code := mints(t, s, account("acme", "")); code != "" {
		t.Fatal(code)
	}
	s.Revoke("acme")
	if _, code := mints(t, s, account("acme", "")); code != "invalid_grant" {
		t.Errorf("code %q", code)
	}
	s.Grant("acme")
	if _, code := mints(t, s, account("acme", "")); code != "" {
		t.Error(code)
	}
}

func TestAMintIsRefusedThatDoesNotSayForWhomOrByWhom(t *testing.T) {
	s := Start(t, Config{})
	if _, code := mints(t, s, account("", "")); code != "invalid_request" {
		t.Errorf("code %q", code)
	}
	if access, _ := mints(t, s, url.Values{"grant_type": {"client_credentials"}}); !s.AccessAlive(access) {
		t.Error("the client itself is a tenant")
	}
	s.SetClientSecrets("another", "third")
	if _, code := mints(t, s, account("acme", "")); code != "invalid_client" {
		t.Errorf("code %q", code)
	}
	s.SetClientSecrets("another", "secret")
	if _, code := mints(t, s, account("acme", "")); code != "" {
		t.Error(code)
	}
}

func TestAnAssertionMustBeSignedWithTheKnownKey(t *testing.T) {
	known, err1 := rsa.GenerateKey(rand.Reader, 2048)
	unknown, err2 := rsa.GenerateKey(rand.Reader, 2048)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	s := Start(t, Config{PublicKey: &known.PublicKey})
	for _, c := range []struct {
		key  *rsa.PrivateKey
		want bool
	}{{known, true}, {unknown, false}} {
		p, err := provider.JWTBearer(&jwt.Config{
			Email: "app", Subject: "{tenant}", TokenURL: s.TokenURL(),
			PrivateKey: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(c.key)}),
		}, provider.Profile{})
		if err != nil {
			t.Fatal(err)
		}
		pair, err := p.Exchanger.Exchange(t.Context(), provider.Grant{Tenant: "acme"})
		if (err == nil) != c.want || c.want && !s.AccessAlive(pair.AccessToken) {
			t.Errorf("known key %v: %v", c.want, err)
		}
		p.Exchanger.(*provider.TokenEndpoint).CloseIdleConnections()
	}
	if l := s.Ledger().Outcome(Minted); len(l) != 1 || l[0].Tenant != "acme" {
		t.Errorf("ledger\n%s", s.Ledger())
	}
	if _, code := mints(t, s, url.Values{"grant_type": {jwtBearer}, "assertion": {"a.b"}}); code != "invalid_grant" {
		t.Errorf("code %q", code)
	}
}

func TestPeaksAreThoseOfAnyStretch(t *testing.T) {
	s := Start(t, Config{})
	gates := []*Gate{s.Hold(BeforeCommit), s.Hold(BeforeCommit), s.Hold(BeforeCommit)} // one each
	done := make(chan struct{})
	for range 3 {
		go func() { mints(t, s, account("acme", "")); done <- struct{}{} }()
	}
	for _, gate := range gates {
		gate.Await(t)
	}
	for _, gate := range gates {
		gate.Release()
	}
	for range 3 {
		<-done
	}
	mints(t, s, account("acme", ""))
	l := s.Ledger()
	if l.InFlight() != 3 || l.Peak(1<<40) != 4 || l.Peak(1) != 1 {
		t.Errorf("%d at once, %d, %d\n%s", l.InFlight(), l.Peak(1<<40), l.Peak(1), l)
	}
}
