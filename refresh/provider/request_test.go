package provider

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// sent is what a token endpoint was sent.
type sent struct {
	header http.Header
	raw    string
	form   url.Values // of a form, or of an object in JSON
}

// asks makes one exchange at a server of its own and returns what that was sent.
func asks(t *testing.T, make func(url string) (Provider, error), g Grant) sent {
	t.Helper()
	var got sent
	s, n := counting(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = sent{header: r.Header, raw: string(body)}
		got.form, _ = url.ParseQuery(got.raw)
		if object := map[string]string{}; json.Unmarshal(body, &object) == nil {
			got.form = url.Values{}
			for name, value := range object {
				got.form.Set(name, value)
			}
		}
		_, _ = io.WriteString(w, `{"access_token":"`+canaryNew+`"}`)
	})
	p, err := make(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Exchanger.(*TokenEndpoint).CloseIdleConnections)
	if _, err := p.Exchanger.Exchange(ctxFor(t, 10*time.Second), g); err != nil || n.Load() != 1 {
		t.Fatalf("%d requests: %v", n.Load(), err)
	}
	return got
}

func app(url string) *oauth2.Config {
	return &oauth2.Config{ClientID: "id", ClientSecret: canarySecret, Scopes: []string{"a", "b"},
		Endpoint: oauth2.Endpoint{TokenURL: url, AuthStyle: oauth2.AuthStyleInParams}}
}

func TestARequestHasTheFormThatTheProviderWants(t *testing.T) {
	usual := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {canaryRefresh}, "client_id": {"id"}, "client_secret": {canarySecret}}
	with := func(more url.Values, less ...string) url.Values {
		all := maps.Clone(usual)
		maps.Copy(all, more)
		for _, name := range less {
			delete(all, name)
		}
		return all
	}
	for _, c := range []struct {
		name    string // FIELD's kind G, and kin
		profile Request
		opts    []Option
		want    url.Values
		header  http.Header
		json    bool
	}{
		{name: "as RFC 6749 says", want: usual},
		{name: "TikTok: client_key", profile: Request{Names: map[string]string{"client_id": "client_key"}}, want: with(url.Values{"client_key": {"id"}}, "client_id")},
		{name: "Withings: action", profile: Request{Params: url.Values{"action": {"requesttoken"}}}, want: with(url.Values{"action": {"requesttoken"}})},
		{name: "RFC 8707: resource, twice", opts: []Option{Params(url.Values{"resource": {"https://a", "https://b"}})}, want: with(url.Values{"resource": {"https://a", "https://b"}})},
		{name: "by tenant", opts: []Option{Params(url.Values{"account": {"x-{tenant}"}})}, want: with(url.Values{"account": {"x-acme"}})},
		{name: "Entra: scope", profile: Request{Scopes: true}, want: with(url.Values{"scope": {"a b"}})},
		{name: "a scope of one's own", opts: []Option{Params(url.Values{"scope": {"c"}})}, want: with(url.Values{"scope": {"c"}})},
		{name: "another grant type", opts: []Option{Params(url.Values{"grant_type": {"ig_refresh_token"}})}, want: with(url.Values{"grant_type": {"ig_refresh_token"}})},
		{name: "less", opts: []Option{Params(url.Values{"grant_type": nil})}, want: with(nil, "grant_type")},
		{name: "options over the profile", profile: Request{Params: url.Values{"a": {"1"}, "b": {"1"}}}, opts: []Option{Params(url.Values{"b": {"2"}})}, want: with(url.Values{"a": {"1"}, "b": {"2"}})},
		{name: "no secret in a known header", profile: Request{Header: http.Header{"Accept": {"application/json"}}}, want: usual, header: http.Header{"Accept": {"application/json"}}},
		{name: "User-Agent", opts: []Option{Header(http.Header{"user-agent": {"acme/1.0"}})}, want: usual, header: http.Header{"User-Agent": {"acme/1.0"}}},
		{name: "a key in the header", profile: Request{Header: http.Header{"X-Api-Key": {"k"}}}, want: usual, header: http.Header{"X-Api-Key": {"k"}}},
		{name: "TikTok Business: JSON", opts: []Option{JSONBody}, want: usual, json: true},
		{name: "JSON of a media type", profile: Request{JSON: true, Header: http.Header{"Content-Type": {"application/vnd.api+json"}}}, want: usual, header: http.Header{"Content-Type": {"application/vnd.api+json"}}},
		{name: "JSON, renamed", profile: Request{JSON: true, Names: map[string]string{"client_id": "app_id", "client_secret": "secret"}},
			want: with(url.Values{"app_id": {"id"}, "secret": {canarySecret}}, "client_id", "client_secret"), json: true},
		{name: "authentication of one's own", opts: []Option{Authenticate(func(_ context.Context, g Grant, form url.Values, h http.Header) error {
			form.Set("client_secret", "signed-"+g.Tenant)
			h.Set("X-Digest", form.Get("client_id"))
			return nil
		})}, want: with(url.Values{"client_secret": {"signed-acme"}}), header: http.Header{"X-Digest": {"id"}}},
	} {
		got := asks(t, func(url string) (Provider, error) { return OAuth2(app(url), Profile{Request: c.profile}, c.opts...) }, grant)
		if got.form.Encode() != c.want.Encode() {
			t.Errorf("%s: sent %q, want %q", c.name, got.form.Encode(), c.want.Encode())
		}
		if media := got.header.Get("Content-Type"); c.json && media != "application/json" || c.header["Content-Type"] == nil && !c.json && media != "application/x-www-form-urlencoded" {
			t.Errorf("%s: Content-Type %q", c.name, media)
		}
		for name, want := range c.header {
			if got.header.Get(name) != want[0] {
				t.Errorf("%s: %s is %q", c.name, name, got.header.Get(name))
			}
		}
	}
}

func TestAMintIsAskedForInTheSameForms(t *testing.T) {
	got := asks(t, func(url string) (Provider, error) {
		return ClientCredentials(&clientcredentials.Config{ClientID: "id", ClientSecret: canarySecret, TokenURL: url + "/{tenant}/token", AuthStyle: oauth2.AuthStyleInParams},
			Profile{}, Params(map[string][]string{"audience": {"{tenant}.example"}}), JSONBody)
	}, grant)
	if got.form.Get("audience") != "acme.example" || got.form.Get("grant_type") != "client_credentials" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("sent %q", got.form)
	}
}

// verified is the payload of a JWT that the key has signed, and its header.
func verified(t *testing.T, signed string, key any, algorithm jose.SignatureAlgorithm) (map[string]any, jose.Header) {
	t.Helper()
	sig, err := jose.ParseSignedCompact(signed, []jose.SignatureAlgorithm{algorithm})
	if err != nil {
		t.Fatal(err)
	}
	if key == nil {
		key = sig.Signatures[0].Header.JSONWebKey.Key
	}
	payload, err := sig.Verify(key)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims, sig.Signatures[0].Header
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAClientAuthenticatesByAnAssertionOfItsKey(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	ec := ecKey(t)
	for _, c := range []struct {
		name      string
		as        Assertion
		algorithm jose.SignatureAlgorithm
		public    any
	}{
		{"RSA", Assertion{Key: rsaKey, KeyID: "k1"}, jose.RS256, rsaKey.Public()},
		{"RSA, as FAPI wants", Assertion{Key: rsaKey, Algorithm: "PS256", Audience: "https://issuer"}, jose.PS256, rsaKey.Public()},
		{"ECDSA", Assertion{Key: ec, Header: map[string]any{"x5t#S256": "thumb"}}, jose.ES256, ec.Public()},
		{"Ed25519", Assertion{Key: edKey}, jose.EdDSA, edKey.Public()},
		{"the secret", Assertion{}, jose.HS256, []byte(longSecret)},
	} {
		for kind, make := range map[string]func(url string) (Provider, error){
			"refresh": func(url string) (Provider, error) {
				cfg := app(url)
				cfg.ClientSecret, cfg.Endpoint.AuthStyle = longSecret, oauth2.AuthStyleAutoDetect
				return OAuth2(cfg, Profile{AuthStyle: oauth2.AuthStyleInHeader}, ClientAssertion(c.as))
			},
			"mint": func(url string) (Provider, error) {
				return ClientCredentials(&clientcredentials.Config{ClientID: "id", ClientSecret: longSecret, TokenURL: url}, Profile{}, ClientAssertion(c.as))
			},
		} {
			got := asks(t, make, grant)
			if got.form.Get("client_assertion_type") != assertionType || got.form.Has("client_secret") || got.header.Get("Authorization") != "" || got.form.Get("client_id") != "id" {
				t.Errorf("%s %s: sent %q", c.name, kind, got.form)
			}
			claims, header := verified(t, got.form.Get("client_assertion"), c.public, c.algorithm)
			audience, _ := claims["aud"].(string)
			if claims["iss"] != "id" || claims["sub"] != "id" || claims["jti"] == "" || claims["exp"].(float64) <= claims["iat"].(float64) {
				t.Errorf("%s %s: claims %v", c.name, kind, claims)
			}
			if want := c.as.Audience; audience != want && (want != "" || !strings.HasPrefix(audience, "http://127.0.0.1")) {
				t.Errorf("%s %s: aud %q", c.name, kind, audience)
			}
			if header.KeyID != c.as.KeyID || len(c.as.Header) > 0 && header.ExtraHeaders["x5t#S256"] != "thumb" {
				t.Errorf("%s %s: header %+v", c.name, kind, header)
			}
		}
	}
}

const longSecret = "cs-CANARY-0123456789abcdef0123456789abcdef"

func TestEachAssertionIsANewOne(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		got := asks(t, func(url string) (Provider, error) {
			return OAuth2(app(url), Profile{}, ClientAssertion(Assertion{Key: ecKey(t)}))
		}, grant)
		seen[got.form.Get("client_assertion")] = true
	}
	if len(seen) != 2 {
		t.Error("the same twice")
	}
}

func TestAProofIsSentWithTheServersNonce(t *testing.T) {
	var proofs []map[string]any
	s, n := counting(t, func(w http.ResponseWriter, r *http.Request) {
		claims, header := verified(t, r.Header.Get("DPoP"), nil, jose.ES256)
		if header.ExtraHeaders["typ"] != "dpop+jwt" {
			t.Errorf("header %+v", header)
		}
		proofs = append(proofs, claims)
		w.Header().Set("DPoP-Nonce", "n1")
		if claims["nonce"] != "n1" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"use_dpop_nonce"}`)
			return
		}
		_, _ = io.WriteString(w, `{"access_token":"`+canaryNew+`","token_type":"DPoP"}`)
	})
	p, err := OAuth2(app(s.URL+"/token?x=1"), Profile{}, DPoP(ecKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	ep := p.Exchanger.(*TokenEndpoint)
	t.Cleanup(ep.CloseIdleConnections)
	e := refuses(t, ep, ctxFor(t, 10*time.Second), Busy)
	if !e.AskAgain() || n.Load() != 1 {
		t.Errorf("after the first proof: ask again %v, %d requests", e.AskAgain(), n.Load())
	}
	pair, err := ep.Exchange(ctxFor(t, 10*time.Second), grant)
	if err != nil || pair.TokenType != "DPoP" {
		t.Fatalf("with the nonce: %v %v", pair, err)
	}
	if proofs[0]["htm"] != "POST" || proofs[0]["htu"] != s.URL+"/token" || proofs[0]["jti"] == proofs[1]["jti"] {
		t.Errorf("proofs %v", proofs)
	}
}

// A server that goes on wanting the nonce that it was sent must not be asked for ever.
func TestANonceThatIsKnownIsNoReasonToAskAgain(t *testing.T) {
	s, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("DPoP-Nonce", "n1")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"use_dpop_nonce"}`)
	})
	p, err := OAuth2(app(s.URL), Profile{}, DPoP(ecKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	ep := p.Exchanger.(*TokenEndpoint)
	t.Cleanup(ep.CloseIdleConnections)
	refuses(t, ep, ctxFor(t, 10*time.Second), Busy)
	if e := refuses(t, ep, ctxFor(t, 10*time.Second), Refused); e.AskAgain() {
		t.Error("it is to be asked again")
	}
}

func TestAClientShowsItsCertificate(t *testing.T) {
	key := ecKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	var shown int
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = len(r.TLS.PeerCertificates)
		if _, _, basic := r.BasicAuth(); basic || r.PostFormValue("client_id") != "id" {
			t.Error("the client is not named in the body")
		}
		_, _ = io.WriteString(w, `{"access_token":"`+canaryNew+`"}`)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	p, err := OAuth2(&oauth2.Config{ClientID: "id", Endpoint: oauth2.Endpoint{TokenURL: s.URL}}, Profile{AuthStyle: oauth2.AuthStyleInHeader},
		MutualTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Exchanger.(*TokenEndpoint).CloseIdleConnections)
	if _, err := p.Exchanger.Exchange(ctxFor(t, 10*time.Second), grant); err != nil || shown != 1 {
		t.Errorf("%d certificates: %v", shown, err)
	}
}

// broken is a key that a KMS does not sign with.
type broken struct {
	public crypto.PublicKey
	fails  *bool
	key    crypto.Signer
}

func (b broken) Public() crypto.PublicKey { return b.public }

func (b broken) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if *b.fails {
		return nil, errors.New("CANARY: the KMS is away")
	}
	return b.key.Sign(r, digest, o)
}

// Whatever shapes a request runs before its body is wrapped: its failure, and that of the network after
// it, are provably unsent.
func TestARequestThatWasShapedIsStillProvablyUnsent(t *testing.T) {
	fails, key := false, ecKey(t)
	kms := broken{key.Public(), &fails, key}
	canary := errors.New("CANARY")
	for name, o := range map[string]Option{
		"assertion": ClientAssertion(Assertion{Key: kms}),
		"DPoP":      DPoP(kms),
		"own":       Authenticate(func(context.Context, Grant, url.Values, http.Header) error { return canary }),
	} {
		s, n := counting(t, func(http.ResponseWriter, *http.Request) {})
		p, err := OAuth2(app(s.URL), Profile{}, o)
		if err != nil {
			t.Fatal(err)
		}
		fails = true
		e := refuses(t, p.Exchanger.(*TokenEndpoint), ctxFor(t, 10*time.Second), Unsent)
		fails = false
		if n.Load() != 0 || name == "own" && !errors.Is(e, canary) {
			t.Errorf("%s: %d requests, %v", name, n.Load(), e)
		}
	}
	for name, o := range map[string]Option{"JSON": JSONBody, "params": Params(url.Values{"a": {"b"}}), "DPoP": DPoP(key), "assertion": ClientAssertion(Assertion{Key: key})} {
		s := httptest.NewServer(nil)
		p, err := OAuth2(app(s.URL), Profile{}, o)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		t.Run(name, func(t *testing.T) {
			refuses(t, p.Exchanger.(*TokenEndpoint), ctxFor(t, 10*time.Second), Unsent)
		})
	}
}

func TestNoErrorsCodeRepeatsASecretOfTheRequest(t *testing.T) {
	for name, o := range map[string]Option{
		"header": Header(http.Header{"Authorization": {"Token CANARY-key-77"}}),
		"own": Authenticate(func(_ context.Context, _ Grant, form url.Values, _ http.Header) error {
			form.Set("client_secret", "CANARY-key-77")
			return nil
		}),
	} {
		s, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"CANARY-key-77"}`)
		})
		p, err := OAuth2(app(s.URL), Profile{}, o)
		if err != nil {
			t.Fatal(err)
		}
		ep := p.Exchanger.(*TokenEndpoint)
		t.Cleanup(ep.CloseIdleConnections)
		if e := refuses(t, ep, ctxFor(t, 10*time.Second), Refused); e.Code != "" {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestRequestsThatCannotBeAreRefused(t *testing.T) {
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	for want, c := range map[string]struct {
		r   Request
		opt Option
	}{
		"Params must not hold refresh_token":    {r: Request{Params: url.Values{"refresh_token": {"x"}}}},
		"Params must not hold client_secret":    {opt: Params(url.Values{"client_secret": {"x"}})},
		"Params must not hold scope":            {r: Request{Scopes: true}, opt: Params(url.Values{"scope": {"x"}})},
		"Names must not hold an empty name":     {r: Request{Names: map[string]string{"client_id": ""}}},
		"Host is the transport's":               {opt: Header(http.Header{"host": {"x"}})},
		"is no name of a header":                {opt: Header(http.Header{"a b": {"x"}})},
		"the value of X-A holds a line feed":    {opt: Header(http.Header{"x-a": {"b\nc"}})},
		"ClientAssertion: Life":                 {opt: ClientAssertion(Assertion{Key: ecKey(t), Life: -1})},
		"ClientAssertion: Key and Algorithm":    {opt: ClientAssertion(Assertion{Key: p224})},
		"there is no ClientSecret to sign with": {opt: ClientAssertion(Assertion{})},
		"DPoP: the key is missing":              {opt: DPoP(nil)},
		"DPoP: the key must be":                 {opt: DPoP(p224)},
		"MutualTLS: the client's certificate":   {opt: MutualTLS(&tls.Config{})},
		"Authenticate: the function is missing": {opt: Authenticate(nil)},
	} {
		cfg := app("https://token.example")
		cfg.ClientSecret = ""
		_, err := OAuth2(cfg, Profile{Request: c.r}, c.opt)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
