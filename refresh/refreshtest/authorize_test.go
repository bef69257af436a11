package refreshtest_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

const callback = "http://127.0.0.1:1/callback?from=fake"

func browserConfig(s *refreshtest.Server) *oauth2.Config {
	cfg := s.OAuth2Config()
	cfg.RedirectURL = callback
	return cfg
}

// visit is what a browser gets, before it follows anything.
func visit(t *testing.T, address string) answer {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t.Context(), req)
}

// sentBack is the query with which a browser comes back to the client.
func sentBack(t *testing.T, a answer) url.Values {
	t.Helper()
	to, err := url.Parse(a.header.Get("Location"))
	if a.status != http.StatusFound || err != nil || !strings.HasPrefix(to.String(), "http://127.0.0.1:1/callback?") || to.Query().Get("from") != "fake" {
		t.Fatalf("got %d to %q, want a redirect to the client: %v %s", a.status, a.header.Get("Location"), err, a.body)
	}
	return to.Query()
}

// consents goes through consent as x/oauth2 does and returns the code.
func consents(t *testing.T, s *refreshtest.Server, tenant string, opts ...oauth2.AuthCodeOption) string {
	t.Helper()
	opts = append(opts, oauth2.SetAuthURLParam("login_hint", tenant))
	q := sentBack(t, visit(t, browserConfig(s).AuthCodeURL("st&te=", opts...)))
	if q.Get("state") != "st&te=" || q.Get("code") == "" {
		t.Fatalf("came back with %v", q)
	}
	return q.Get("code")
}

func exchange(t *testing.T, s *refreshtest.Server, code string, opts ...oauth2.AuthCodeOption) (*oauth2.Token, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return browserConfig(s).Exchange(context.WithValue(t.Context(), oauth2.HTTPClient, client), code, opts...)
}

// refusedAs is the error's OAuth code.
func refusedAs(err error) string {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		return refused.ErrorCode
	}
	return ""
}

func TestConsentInABrowserIsAGrantOfThatTenant(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{TokenPrefix: "canary-"})
	before := s.Grant("acme")
	verifier := oauth2.GenerateVerifier()
	code := consents(t, s, "acme", oauth2.S256ChallengeOption(verifier))
	if !s.Alive(before.RefreshToken) {
		t.Error("a code that nobody has redeemed ends the consent before it")
	}
	tok, err := exchange(t, s, code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if a := callAPI(t, s, tok.AccessToken); a.status != 200 || a.text(t, "tenant") != "acme" {
		t.Errorf("the API answers %d %s", a.status, a.body)
	}
	if s.Alive(before.RefreshToken) {
		t.Error("the tenant's earlier consent lives on")
	}
	if left := time.Until(tok.Expiry); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the access token lives for %v, want an hour", left)
	}
	mustRefresh(t, s, tok.RefreshToken)
	if l := s.Ledger(); len(l) != 1 || l[0].Consent != 2 || l[0].Generation != 1 {
		t.Errorf("want the refresh of the second consent's first pair alone in the ledger:\n%v", l)
	}
}

func TestASecondRedemptionOfACodeRevokesWhatTheFirstBrought(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	code := consents(t, s, "acme")
	tok, err := exchange(t, s, code)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(t, s, code); refusedAs(err) != "invalid_grant" {
		t.Errorf("got %v", err)
	}
	if s.Alive(tok.RefreshToken) || s.AccessAlive(tok.AccessToken) {
		t.Error("the thief's or the owner's pair lives on (RFC 6749 §4.1.2)")
	}
}

func TestACodeIsBoundToItsRequest(t *testing.T) {
	verifier := oauth2.GenerateVerifier()
	pkce := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier)}
	for name, tt := range map[string]struct {
		ask, redeem []oauth2.AuthCodeOption
		before      func(s *refreshtest.Server)
		code        string // error code; empty: it brings a pair
	}{
		"with its verifier":    {ask: pkce, redeem: []oauth2.AuthCodeOption{oauth2.VerifierOption(verifier)}},
		"without PKCE":         {},
		"another verifier":     {ask: pkce, redeem: []oauth2.AuthCodeOption{oauth2.VerifierOption(oauth2.GenerateVerifier())}, code: "invalid_grant"},
		"no verifier":          {ask: pkce, code: "invalid_grant"},
		"an unasked verifier":  {redeem: []oauth2.AuthCodeOption{oauth2.VerifierOption(verifier)}, code: "invalid_grant"},
		"another redirect_uri": {redeem: []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("redirect_uri", "http://127.0.0.1:1/other")}, code: "invalid_grant"},
		"just in time":         {before: func(s *refreshtest.Server) { s.Advance(55 * time.Second) }},
		"too late":             {before: func(s *refreshtest.Server) { s.Advance(61 * time.Second) }, code: "invalid_grant"},
		"never issued":         {redeem: []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("code", "guess")}, code: "invalid_grant"},
		"none":                 {redeem: []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("code", "")}, code: "invalid_request"},
		"wrong secret":         {before: func(s *refreshtest.Server) { s.SetClientSecrets("new") }, code: "invalid_client"},
	} {
		s := refreshtest.Start(t, refreshtest.Config{})
		code := consents(t, s, "acme", tt.ask...)
		if tt.before != nil {
			tt.before(s)
		}
		tok, err := exchange(t, s, code, tt.redeem...)
		if refusedAs(err) != tt.code || (tok != nil) != (tt.code == "") {
			t.Errorf("%s: got %v, want %q", name, err, tt.code)
		}
		if _, living := s.Living("acme"); living != (tt.code == "") {
			t.Errorf("%s: consented: %v", name, living)
		}
		if refused := s.Stats().Refused; refused != 0 != (tt.code != "") {
			t.Errorf("%s: %d refused", name, refused)
		}
	}
}

func TestARefusedCodeIsSpent(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	verifier := oauth2.GenerateVerifier()
	code := consents(t, s, "acme", oauth2.S256ChallengeOption(verifier))
	for _, v := range []string{oauth2.GenerateVerifier(), verifier} {
		if _, err := exchange(t, s, code, oauth2.VerifierOption(v)); refusedAs(err) != "invalid_grant" {
			t.Errorf("got %v", err)
		}
	}
}

func TestTheFirstPairHasARefreshTokenThoughRefreshesOmitIt(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{NoRotation: true, OmitRefreshToken: true, Profile: provider.Profile{Replay: provider.ReplayHarmless}})
	tok, err := exchange(t, s, consents(t, s, "acme"))
	if err != nil || tok.RefreshToken == "" {
		t.Fatalf("no refresh token: %v", err)
	}
}

func TestABadAuthorizationRequestIsSentBackOnlyWhereTheClientIs(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	good := url.Values{"response_type": {"code"}, "client_id": {"client"}, "redirect_uri": {callback}, "state": {"s"}, "login_hint": {"acme"}}
	challenge := strings.Repeat("x", 43)
	for name, tt := range map[string]struct {
		change url.Values
		code   string // what the client is told; empty: the browser gets an error page
	}{
		"another client":      {url.Values{"client_id": {"you"}}, ""},
		"two clients":         {url.Values{"client_id": {"client", "you"}}, ""},
		"no redirect_uri":     {url.Values{"redirect_uri": nil}, ""},
		"elsewhere":           {url.Values{"redirect_uri": {"https://evil.example/callback"}}, ""},
		"two places":          {url.Values{"redirect_uri": {callback, "http://127.0.0.1:2/"}}, ""},
		"a path only":         {url.Values{"redirect_uri": {"/callback"}}, ""},
		"a fragment":          {url.Values{"redirect_uri": {callback + "#x"}}, ""},
		"no response_type":    {url.Values{"response_type": nil}, "invalid_request"},
		"the implicit flow":   {url.Values{"response_type": {"token"}}, "unsupported_response_type"},
		"two states":          {url.Values{"state": {"a", "b"}}, "invalid_request"},
		"PKCE in plain":       {url.Values{"code_challenge": {challenge}, "code_challenge_method": {"plain"}}, "invalid_request"},
		"PKCE by default":     {url.Values{"code_challenge": {challenge}}, "invalid_request"},
		"a short challenge":   {url.Values{"code_challenge": {"x"}, "code_challenge_method": {"S256"}}, "invalid_request"},
		"no challenge":        {url.Values{"code_challenge_method": {"S256"}}, "invalid_request"},
		"neither state, PKCE": {url.Values{"state": nil}, "invalid_request"},
		"the tenant says no":  {url.Values{"deny": {"1"}}, "access_denied"},
	} {
		q := url.Values{}
		for _, values := range []url.Values{good, tt.change} {
			for k, v := range values {
				q[k] = v
			}
		}
		a := visit(t, s.AuthURL()+"?"+q.Encode())
		if tt.code == "" {
			if a.status != http.StatusBadRequest || a.header.Get("Location") != "" {
				t.Errorf("%s: got %d to %q", name, a.status, a.header.Get("Location"))
			}
			continue
		}
		if got := sentBack(t, a); got.Get("error") != tt.code || got.Has("code") || len(q["state"]) == 1 && got.Get("state") != "s" {
			t.Errorf("%s: came back with %v", name, got)
		}
	}
}

func TestOnlyRegisteredRedirectURLsCountOnceThereAreSome(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{RedirectURLs: []string{"https://app.example/callback"}})
	cfg := s.OAuth2Config()
	for uri, want := range map[string]int{"https://app.example/callback": 302, "https://app.example/callback/": 400, callback: 400} {
		cfg.RedirectURL = uri
		if a := visit(t, cfg.AuthCodeURL("s", oauth2.SetAuthURLParam("login_hint", "acme"))); a.status != want {
			t.Errorf("%s: got %d %s, want %d", uri, a.status, a.body, want)
		}
	}
}

func TestThePageAsksWhoConsentsAndKeepsTheRequest(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	state := `"><script>alert(1)</script>`
	a := visit(t, browserConfig(s).AuthCodeURL(state))
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d %v", a.status, a.header)
	}
	for _, want := range []string{`name="login_hint"`, `<button>Allow`, `name="deny"`, `name="response_type" value="code"`, `name="redirect_uri" value="http://127.0.0.1:1/callback`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page lacks %q:\n%s", want, a.body)
		}
	}
	if strings.Contains(a.body, "<script>") {
		t.Errorf("the page runs what a request brings:\n%s", a.body)
	}
	if req, _ := http.NewRequest(http.MethodPost, s.AuthURL(), nil); do(t.Context(), req).status != http.StatusMethodNotAllowed {
		t.Error("a POST was taken")
	}
}

func TestACodeBesideARefreshTokenIsRefusedAndThePresentationWrittenDown(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	a := do(t.Context(), formRequest(s, "grant_type=authorization_code&code=x&refresh_token="+first.RefreshToken))
	if a.status != 400 || a.text(t, "error") != "invalid_request" || len(s.Ledger()) != 1 {
		t.Errorf("got %d %s\n%v", a.status, a.body, s.Ledger())
	}
}
