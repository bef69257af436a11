package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"
)

var header = Profile{AuthStyle: oauth2.AuthStyleInHeader}

func signingKey(t testing.TB) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// asked is a token endpoint that answers a pair and notes what it was asked.
func asked(t *testing.T, body string) (address string, form func() url.Values, request func() *http.Request) {
	t.Helper()
	var last *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		last = r
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() url.Values { return last.PostForm }, func() *http.Request { return last }
}

func mintOnce(t *testing.T, p Provider, g Grant) Pair {
	t.Helper()
	t.Cleanup(func() { p.Exchanger.(interface{ CloseIdleConnections() }).CloseIdleConnections() })
	pair, err := p.Exchanger.Exchange(ctxFor(t, 10*time.Second), g)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func TestClientCredentialsAskAsTheConfigSays(t *testing.T) {
	address, form, request := asked(t, `{"access_token":"a","expires_in":3600,"refresh_token":"not used"}`)
	for _, c := range []struct {
		name string
		cfg  clientcredentials.Config
		want url.Values
	}{
		{"RFC 6749 §4.4", clientcredentials.Config{Scopes: []string{"a", "b"}},
			url.Values{"grant_type": {"client_credentials"}, "scope": {"a b"}}},
		{"Zoom, for a tenant with an odd name", clientcredentials.Config{EndpointParams: url.Values{"grant_type": {"account_credentials"}, "account_id": {"{tenant}"}}},
			url.Values{"grant_type": {"account_credentials"}, "account_id": {"a&b=c {tenant}"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.ClientID, c.cfg.ClientSecret, c.cfg.TokenURL = "id", "se cret", address
			p, err := ClientCredentials(&c.cfg, header)
			if err != nil {
				t.Fatal(err)
			}
			if c.cfg.EndpointParams != nil {
				c.cfg.EndpointParams.Set("account_id", "changed later")
			}
			pair := mintOnce(t, p, Grant{Tenant: "a&b=c {tenant}"})
			if pair.AccessToken != "a" || pair.RefreshToken != "" || pair.ExpiresIn != time.Hour {
				t.Errorf("got %s", pair)
			}
			if got := form(); got.Encode() != c.want.Encode() {
				t.Errorf("asked %s, want %s", got.Encode(), c.want.Encode())
			}
			if id, secret, ok := request().BasicAuth(); !ok || id != "id" || secret != "se+cret" {
				t.Errorf("authenticated as %s, %v", id, ok)
			}
			if !p.Mints || p.Profile.Replay != ReplayHarmless || p.Profile.RefreshTokenIdle != 0 {
				t.Errorf("%+v is not the profile of a mint", p.Profile)
			}
		})
	}
}

func TestAJWTBearerSignsForTheTenant(t *testing.T) {
	address, form, _ := asked(t, `{"access_token":"a","expires_in":60}`)
	p, err := JWTBearer(&jwt.Config{Email: "app@example.com", PrivateKey: signingKey(t), Subject: "{tenant}", TokenURL: address, Scopes: []string{"s"}}, Profile{})
	if err != nil {
		t.Fatal(err)
	}
	if pair := mintOnce(t, p, Grant{Tenant: "acme"}); pair.AccessToken != "a" || pair.ExpiresIn != time.Minute {
		t.Errorf("got %s", pair)
	}
	if got := form().Get("grant_type"); got != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		t.Errorf("grant_type %s", got)
	}
	part := strings.Split(form().Get("assertion"), ".")
	if len(part) != 3 {
		t.Fatalf("the assertion has %d parts", len(part))
	}
	raw, _ := base64.RawURLEncoding.DecodeString(part[1])
	var claims struct{ Iss, Sub, Aud, Scope string }
	if err := json.Unmarshal(raw, &claims); err != nil || claims.Sub != "acme" || claims.Iss != "app@example.com" || claims.Aud != address || claims.Scope != "s" {
		t.Errorf("claims %+v, %v", claims, err)
	}
}

// As for refresh tokens: one request, whatever comes back, and only as long as ctx lasts.
func TestAMintIsOnePostAndEndsWithItsCtx(t *testing.T) {
	key := signingKey(t)
	makers := map[string]func(address string) (Provider, error){
		"client credentials": func(address string) (Provider, error) {
			return ClientCredentials(&clientcredentials.Config{ClientID: "id", ClientSecret: "s", TokenURL: address}, header)
		},
		"JWT bearer": func(address string) (Provider, error) {
			return JWTBearer(&jwt.Config{Email: "e", PrivateKey: key, TokenURL: address}, Profile{})
		},
	}
	for name, maker := range makers {
		t.Run(name, func(t *testing.T) {
			for status, want := range map[int]Class{302: AppRefused, 307: AppRefused, 401: AppRefused, 429: Throttled, 500: Ambiguous, 200: Ambiguous} {
				server, n := counting(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Location", "/again")
					w.WriteHeader(status)
				})
				p, err := maker(server.URL)
				if err != nil {
					t.Fatal(err)
				}
				refuses(t, p.Exchanger.(*TokenEndpoint), ctxFor(t, 10*time.Second), want)
				if n.Load() != 1 {
					t.Errorf("HTTP %d: %d requests", status, n.Load())
				}
			}
			release := make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			server, _ := counting(t, func(http.ResponseWriter, *http.Request) { cancel(); <-release })
			defer close(release) // before the server is closed, which waits for it
			p, err := maker(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			refuses(t, p.Exchanger.(*TokenEndpoint), ctx, Ambiguous)
		})
	}
}

func TestMintingProvidersRefuseWhatWouldGoWrongLater(t *testing.T) {
	small, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ec, _ := x509.MarshalPKCS8PrivateKey(small)
	key := signingKey(t)
	credentials := func(alter func(*clientcredentials.Config)) error {
		cfg := clientcredentials.Config{ClientID: "id", ClientSecret: "CANARY", TokenURL: "https://h/t", AuthStyle: oauth2.AuthStyleInHeader}
		alter(&cfg)
		_, err := ClientCredentials(&cfg, Profile{})
		return err
	}
	bearer := func(alter func(*jwt.Config)) error {
		cfg := jwt.Config{Email: "e", PrivateKey: key, TokenURL: "https://h/t"}
		alter(&cfg)
		_, err := JWTBearer(&cfg, Profile{})
		return err
	}
	for want, err := range map[string]error{
		"ClientID":         credentials(func(c *clientcredentials.Config) { c.ClientID = "" }),
		"must be https":    credentials(func(c *clientcredentials.Config) { c.TokenURL = "http://h/t?CANARY" }),
		"AuthStyle":        credentials(func(c *clientcredentials.Config) { c.AuthStyle = 0 }),
		"client_secret":    credentials(func(c *clientcredentials.Config) { c.EndpointParams = url.Values{"client_secret": {"CANARY"}} }),
		"one grant_type":   credentials(func(c *clientcredentials.Config) { c.EndpointParams = url.Values{"grant_type": {"a", "b"}} }),
		"OAuth2 is for":    credentials(func(c *clientcredentials.Config) { c.EndpointParams = url.Values{"grant_type": {"refresh_token"}} }),
		"Email":            bearer(func(c *jwt.Config) { c.Email = "" }),
		"PrivateKey is mi": bearer(func(c *jwt.Config) { c.PrivateKey = nil }),
		"cannot be read":   bearer(func(c *jwt.Config) { c.PrivateKey = []byte("CANARY") }),
		"an RSA key":       bearer(func(c *jwt.Config) { c.PrivateKey = ec }),
		"TokenURL":         bearer(func(c *jwt.Config) { c.TokenURL = "" }),
		"Expires":          bearer(func(c *jwt.Config) { c.Expires = -1 }),
		"UseIDToken":       bearer(func(c *jwt.Config) { c.UseIDToken = true }),
	} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// named is an exchanger that answers its name.
type named string

func (n named) Exchange(context.Context, Grant) (Pair, error) {
	return Pair{AccessToken: string(n)}, nil
}

func TestRotatingMintsEachGenerationInItsSlot(t *testing.T) {
	p, err := Rotating(3, func(slot int) (Provider, error) {
		return Provider{Profile: Profile{Name: "x", AccessTokenLife: time.Hour}, Mints: true,
			Exchanger: named(fmt.Sprint("slot ", slot)), Fallback: named(fmt.Sprint("other ", slot))}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for generation := range int64(7) { // that is replaced
		pair, _ := p.Exchanger.Exchange(t.Context(), Grant{Generation: generation})
		other, _ := p.Fallback.Exchange(t.Context(), Grant{Generation: generation})
		if want := fmt.Sprint((generation + 1) % 3); pair.AccessToken != "slot "+want || other.AccessToken != "other "+want {
			t.Errorf("generation %d is minted in %s and %s", generation+1, pair.AccessToken, other.AccessToken)
		}
	}
	if p.Profile.KillsAccessToken != No || p.Profile.AccessTokenLife != time.Hour || !p.Mints {
		t.Errorf("%+v", p.Profile)
	}
	one, err := Rotating(1, func(int) (Provider, error) { return Provider{Exchanger: named("x")}, nil })
	if err != nil || one.Profile.KillsAccessToken != Yes || one.Fallback != nil {
		t.Errorf("%+v, %v", one.Profile, err)
	}
}

func TestRotatingRefusesWhatCannotRotate(t *testing.T) {
	slot := func(p Provider, err error) func(int) (Provider, error) {
		return func(int) (Provider, error) { return p, err }
	}
	odd := errors.New("odd")
	for want, try := range map[string]struct {
		n    int
		slot func(int) (Provider, error)
	}{
		"one slot or more":  {0, slot(Provider{}, nil)},
		"the func":          {2, nil},
		"slot 0: odd":       {2, slot(Provider{}, odd)},
		"Exchanger":         {2, slot(Provider{}, nil)},
		"goes with one app": {2, slot(Provider{Exchanger: named("x")}, nil)},
	} {
		if _, err := Rotating(try.n, try.slot); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestNoMintingProviderPrintsASecret(t *testing.T) {
	key := signingKey(t)
	bearer, err := JWTBearer(&jwt.Config{Email: "e", PrivateKey: key, TokenURL: "https://host/?k=CANARY", PrivateClaims: map[string]any{"x": "CANARY"}}, Profile{})
	if err != nil {
		t.Fatal(err)
	}
	credentials := func(int) (Provider, error) {
		return ClientCredentials(&clientcredentials.Config{ClientID: "id", ClientSecret: canarySecret, TokenURL: "https://host/",
			EndpointParams: url.Values{"x": {"CANARY"}}}, header)
	}
	one, err1 := credentials(0)
	two, err2 := Rotating(2, credentials)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	pem, _ := pem.Decode(key)
	for _, p := range []Provider{bearer, one, two} {
		for _, v := range []any{p, &p, p.Exchanger} {
			s := prints(t, v)
			if strings.Contains(s, "CANARY") || strings.Contains(s, "PRIVATE KEY") || strings.Contains(s, fmt.Sprint(pem.Bytes[40:60])) {
				t.Errorf("%T leaks: %s", v, s)
			}
		}
	}
}

// The living token of a generation is in the slot that minted it.
func TestRotatingRevokesInTheSlotThatMinted(t *testing.T) {
	var asked []string
	p, err := Rotating(2, func(slot int) (Provider, error) {
		made, err := ClientCredentials(&clientcredentials.Config{ClientID: fmt.Sprint("slot", slot), ClientSecret: "s", TokenURL: "https://token.example", AuthStyle: oauth2.AuthStyleInParams},
			Profile{RevokeURL: "/revoke"})
		if err == nil {
			made.Exchanger.(*TokenEndpoint).Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				_ = r.ParseForm()
				asked = append(asked, r.PostForm.Get("client_id")+" "+r.PostForm.Get("token"))
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			})
		}
		return made, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for generation := range int64(3) {
		g := Grant{Tenant: "acme", Generation: generation, AccessToken: fmt.Sprint("at", generation)}
		if err := p.Exchanger.(Revoker).Revoke(ctxFor(t, 10*time.Second), g); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"slot0 at0", "slot1 at1", "slot0 at2"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	own, err := Rotating(2, func(int) (Provider, error) { return Provider{Exchanger: named("x"), Mints: true}, nil })
	if err != nil {
		t.Fatal(err)
	}
	if e := asError(t, own.Exchanger.(Revoker).Revoke(ctxFor(t, 10*time.Second), Grant{})); e.Class != AppRefused || e.Code != "revoke_url" {
		t.Error(e)
	}
}
