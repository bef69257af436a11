//go:build interop

package interop

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	oauthserver "github.com/go-oauth2/oauth2/v4/server"
	"github.com/go-oauth2/oauth2/v4/store"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/storage"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	zitadel "github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

var programs = []program{
	{name: "fosite", start: startFosite, settable: true, profile: hydraHere()},
	{name: "zitadel", start: startZitadel, profile: provider.Profile{Name: "zitadel", Replay: provider.ReplayDead, RevokeURL: "/revoke"}},
	{name: "go-oauth2", start: startGoOAuth2, settable: true, laxSecret: true, profile: provider.Profile{Name: "go-oauth2", Replay: provider.ReplayDead}},
}

// hydraHere is Hydra's profile, with the address at which these tests revoke.
func hydraHere() provider.Profile {
	p := provider.Hydra()
	p.RevokeURL = "revoke"
	return p
}

// startFosite is Ory's library, on which Hydra stands, with rotation and reuse detection.
func startFosite(t *testing.T, _ string, l lives) running {
	cfg := &fosite.Config{
		AccessTokenLifespan: l.access, RefreshTokenLifespan: l.refresh,
		GlobalSecret: []byte("some-cool-secret-that-is-32bytes"), TokenURL: "/token",
	}
	db := storage.NewExampleStore()
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	db.Clients[clientID].(*fosite.DefaultClient).Secret = hash
	p := compose.Compose(cfg, db, compose.NewOAuth2HMACStrategy(cfg),
		compose.OAuth2ResourceOwnerPasswordCredentialsFactory, compose.OAuth2RefreshTokenGrantFactory,
		compose.OAuth2TokenRevocationFactory, compose.OAuth2TokenIntrospectionFactory)
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		req, err := p.NewAccessRequest(ctx, r, new(fosite.DefaultSession))
		if err != nil {
			p.WriteAccessError(ctx, w, req, err)
			return
		}
		if req.GetGrantTypes().ExactOne("password") {
			for _, scope := range req.GetRequestedScopes() {
				req.GrantScope(scope)
			}
		}
		resp, err := p.NewAccessResponse(ctx, req)
		if err != nil {
			p.WriteAccessError(ctx, w, req, err)
			return
		}
		p.WriteAccessResponse(ctx, w, req, resp)
	})
	mux.HandleFunc("/revoke", func(w http.ResponseWriter, r *http.Request) {
		p.WriteRevocationResponse(r.Context(), w, p.NewRevocationRequest(r.Context(), r))
	})
	return running{
		handler: mux,
		consent: func(t *testing.T, _ string) *oauth2.Token {
			return password(t, mux, url.Values{"username": {"peter"}, "password": {"secret"}, "scope": {"fosite offline"}})
		},
		alive: func(accessToken string) bool {
			_, _, err := p.IntrospectToken(context.Background(), accessToken, fosite.AccessToken, new(fosite.DefaultSession))
			return err == nil
		},
	}
}

// startGoOAuth2 is go-oauth2 with its defaults: a refresh replaces both tokens.
func startGoOAuth2(_ *testing.T, _ string, l lives) running {
	m := manage.NewDefaultManager()
	m.MustTokenStorage(store.NewMemoryTokenStore())
	m.SetPasswordTokenCfg(&manage.Config{AccessTokenExp: l.access, RefreshTokenExp: l.refresh, IsGenerateRefresh: true})
	clients := store.NewClientStore()
	_ = clients.Set(clientID, &models.Client{ID: clientID, Secret: secret})
	m.MapClientStorage(clients)
	s := oauthserver.NewDefaultServer(m)
	s.SetClientInfoHandler(oauthserver.ClientBasicHandler)
	s.SetAllowedGrantType("password", "refresh_token")
	s.SetPasswordAuthorizationHandler(func(_ context.Context, _, username, _ string) (string, error) { return username, nil })
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) { _ = s.HandleTokenRequest(w, r) })
	return running{
		handler: mux,
		consent: func(t *testing.T, tenant string) *oauth2.Token {
			return password(t, mux, url.Values{"username": {tenant}, "password": {"x"}, "scope": {"all"}})
		},
		alive: func(accessToken string) bool {
			_, err := m.LoadAccessToken(context.Background(), accessToken)
			return err == nil
		},
	}
}

// startZitadel is the example OP of zitadel/oidc.
func startZitadel(_ *testing.T, issuer string, _ lives) running {
	db := zitadel.NewStorageWithClients(zitadel.NewUserStore(issuer), map[string]*zitadel.Client{
		clientID: zitadel.WebClient(clientID, secret, "http://localhost/callback"),
	})
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	h := exampleop.SetupServer(issuer, db, quiet, false, op.WithLogger(quiet),
		op.WithCustomTokenEndpoint(op.NewEndpoint("token")), op.WithCustomRevocationEndpoint(op.NewEndpoint("revoke")))
	return running{
		handler: h,
		consent: func(t *testing.T, _ string) *oauth2.Token {
			ctx := context.Background()
			req, err := db.CreateAuthRequest(ctx, &oidc.AuthRequest{ClientID: clientID, Scopes: oidc.SpaceDelimitedArray{"openid", "offline_access"}}, "id1")
			if err != nil {
				t.Fatal(err)
			}
			_, rt, expiry, err := db.CreateAccessAndRefreshTokens(ctx, req, "")
			if err != nil {
				t.Fatal(err)
			}
			return &oauth2.Token{AccessToken: "of-the-consent", RefreshToken: rt, Expiry: expiry}
		},
		alive: func(accessToken string) bool {
			r := httptest.NewRequest(http.MethodGet, issuer+"/userinfo", nil)
			r.Header.Set("Authorization", "Bearer "+accessToken)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code == http.StatusOK
		},
	}
}

// password gets the first pair of a tenant, by the shortest way that a server has.
func password(t *testing.T, h http.Handler, form url.Values) *oauth2.Token {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	cfg := &oauth2.Config{ClientID: clientID, ClientSecret: secret, Endpoint: oauth2.Endpoint{TokenURL: s.URL + "/token", AuthStyle: oauth2.AuthStyleInHeader}, Scopes: []string{form.Get("scope")}}
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), oauth2.HTTPClient, s.Client()), 10*time.Second)
	defer cancel()
	tok, err := cfg.PasswordCredentialsToken(ctx, form.Get("username"), form.Get("password"))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}
