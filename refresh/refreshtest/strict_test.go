package refreshtest_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestBadRequestsAreRefusedAndSpendNothing(t *testing.T) {
	const good = "grant_type=refresh_token&refresh_token="
	tests := []struct {
		name   string
		body   string // the refresh token is appended
		spoil  func(*http.Request)
		status int
		code   string
	}{
		{"GET", good, func(r *http.Request) { r.Method = "GET" }, 405, "invalid_request"},
		{"JSON", good, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 400, "invalid_request"},
		{"no content type", good, func(r *http.Request) { r.Header.Del("Content-Type") }, 400, "invalid_request"},
		{"query", good, func(r *http.Request) { r.URL.RawQuery = "client_id=client" }, 400, "invalid_request"},
		{"repeated parameter", "grant_type=refresh_token&" + good, nil, 400, "invalid_request"},
		{"not form-encoded", "%zz&" + good, nil, 400, "invalid_request"},
		{"too long", "pad=" + strings.Repeat("x", 70<<10) + "&" + good, nil, 400, "invalid_request"},
		{"no grant type", "refresh_token=", nil, 400, "invalid_request"},
		{"no refresh token", "grant_type=refresh_token&state=", nil, 400, "invalid_request"},
		{"other grant type", "grant_type=password&refresh_token=", nil, 400, "unsupported_grant_type"},
		{"wrong secret", good, func(r *http.Request) { r.SetBasicAuth("client", "guess") }, 401, "invalid_client"},
		{"wrong client", good, func(r *http.Request) { r.SetBasicAuth("you", "secret") }, 401, "invalid_client"},
		{"odd escape", good, func(r *http.Request) { r.SetBasicAuth("client", "%zz") }, 401, "invalid_client"},
		{"no client", good, func(r *http.Request) { r.Header.Del("Authorization") }, 401, "invalid_client"},
		{"wrong secret in the body", "client_id=client&client_secret=guess&" + good, func(r *http.Request) { r.Header.Del("Authorization") }, 401, "invalid_client"},
		{"client twice", "client_secret=secret&" + good, nil, 400, "invalid_request"},
		{"two clients", "client_id=you&" + good, nil, 400, "invalid_request"},
	}
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := formRequest(s, tt.body+first.RefreshToken)
			if tt.spoil != nil {
				tt.spoil(req)
			}
			a := do(t.Context(), req)
			if a.status != tt.status || a.text(t, "error") != tt.code {
				t.Errorf("got %d %s %v, want %d %s", a.status, a.body, a.err, tt.status, tt.code)
			}
			if a.header.Get("Cache-Control") != "no-store" {
				t.Error("the refusal may be stored")
			}
			if strings.Contains(a.body, first.RefreshToken) {
				t.Error("the refusal repeats the token")
			}
			if a.status == 401 && (a.header.Get("WWW-Authenticate") != "") != (req.Header.Get("Authorization") != "") {
				t.Error("WWW-Authenticate belongs to Basic only (RFC 6749 §5.2)")
			}
		})
	}
	mustRefresh(t, s, first.RefreshToken)
	if n := s.Ledger().Pairs(); n != 1 {
		t.Errorf("%d pairs, want 1\n%v", n, s.Ledger())
	}
	if got := s.Stats().Refused; got != len(tests) {
		t.Errorf("%d refused, want %d", got, len(tests))
	}
}

func TestEveryPresentationOfARefusedRequestIsInTheLedger(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	req := tokenRequest(s, first.RefreshToken)
	req.SetBasicAuth("client", "guess")
	req.Header.Set("User-Agent", "worker-7")
	do(t.Context(), req)
	p := s.Ledger()[0]
	if p.Outcome != refreshtest.RequestRefused || p.Code != "invalid_client" || p.Status != 401 || p.UserAgent != "worker-7" || p.Tenant != "acme" {
		t.Errorf("got %+v code %q", p, p.Code)
	}
}

func TestAnswersAreThoseOfRFC6749(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{AccessTokenLife: 1500 * time.Millisecond})
	a := present(t, s, s.Grant("acme").RefreshToken)
	if a.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		t.Errorf("headers %v", a.header)
	}
	if a.text(t, "token_type") != "Bearer" || a.member(t, "expires_in") != 1.0 {
		t.Errorf("got %v %v", a.member(t, "token_type"), a.member(t, "expires_in"))
	}
}

func TestTheProfilesAuthStyleIsTheOnlyOneAccepted(t *testing.T) {
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		s := refreshtest.Start(t, refreshtest.Config{ClientSecret: "s&c r%t", Profile: provider.Profile{AuthStyle: style}})
		first := s.Grant("acme")
		if got := s.OAuth2Config().Endpoint.AuthStyle; got != style {
			t.Errorf("config says %v, want %v", got, style)
		}
		wrong := tokenRequest(s, first.RefreshToken)
		wrong.SetBasicAuth("client", url.QueryEscape("s&c r%t"))
		if style == oauth2.AuthStyleInHeader {
			wrong = formRequest(s, url.Values{
				"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken},
				"client_id": {"client"}, "client_secret": {"s&c r%t"},
			}.Encode())
			wrong.Header.Del("Authorization")
		}
		if a := do(t.Context(), wrong); a.status != 401 {
			t.Errorf("style %v: the other one got %d", style, a.status)
		}
		if _, err := oauthRefresh(t, s, first); err != nil {
			t.Errorf("style %v: %v", style, err)
		}
	}
}

// oauthRefresh refreshes as golang.org/x/oauth2 does.
func oauthRefresh(t *testing.T, s *refreshtest.Server, tok *oauth2.Token) (*oauth2.Token, error) {
	t.Helper()
	stale := &oauth2.Token{RefreshToken: tok.RefreshToken}
	return s.OAuth2Config().TokenSource(t.Context(), stale).Token()
}

func TestContradictoryConfigurationsAreRefused(t *testing.T) {
	harmless := provider.Profile{Replay: provider.ReplayHarmless}
	for field, cfg := range map[string]refreshtest.Config{
		"NoRotation":       {NoRotation: true},
		"OmitRefreshToken": {OmitRefreshToken: true, Profile: harmless},
		"Grace":            {Profile: provider.Profile{Replay: provider.ReplayGrace}},
		"AccessTokenLife":  {AccessTokenLife: time.Millisecond},
		"LatencyBefore":    {LatencyBefore: -1},
		"Addr":             {Addr: "127.0.0.1:nonsense"},
	} {
		if _, err := refreshtest.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v, want an error that names the field", field, err)
		}
	}
}
