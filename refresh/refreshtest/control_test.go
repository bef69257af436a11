package refreshtest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func control(t *testing.T, s *refreshtest.Server, method, path string) answer {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+"/control/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t.Context(), req)
}

func mustControl(t *testing.T, s *refreshtest.Server, path string) {
	t.Helper()
	if a := control(t, s, http.MethodPost, path); a.status != http.StatusNoContent {
		t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
}

func TestNobodyControlsAServerThatDoesNotSayControl(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	tok := s.Grant("acme")
	for _, a := range []answer{control(t, s, "POST", "revoke?tenant=acme"), control(t, s, "GET", "ledger")} {
		if a.status != http.StatusNotFound {
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
	if !s.Alive(tok.RefreshToken) {
		t.Error("it was revoked all the same")
	}
}

func TestControlDoesWhatTheMethodsDo(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{Control: true, AccessTokenLife: time.Hour})
	acme, other := s.Grant("acme"), s.Grant("other")
	a := control(t, s, http.MethodPost, "grant?tenant=third")
	if a.status != 200 || !s.AccessAlive(a.text(t, "access_token")) || a.member(t, "expires_in") != 3600.0 {
		t.Errorf("grant: %d %s", a.status, a.body)
	}
	if living, ok := s.Living("third"); !ok || living != a.text(t, "refresh_token") {
		t.Error("grant: it brings another refresh token than the tenant's")
	}
	mustControl(t, s, "expire?tenant=acme")
	if s.AccessAlive(acme.AccessToken) || !s.Alive(acme.RefreshToken) || !s.AccessAlive(other.AccessToken) {
		t.Error("expire: want acme's access token dead, and nothing else")
	}
	mustControl(t, s, "advance?by=2h")
	if s.AccessAlive(other.AccessToken) {
		t.Error("advance: an access token has outlived its hour")
	}
	mustControl(t, s, "revoke?tenant=acme")
	if s.Alive(acme.RefreshToken) || !s.Alive(other.RefreshToken) {
		t.Error("revoke: want acme's refresh token dead, and nothing else")
	}
}

func TestControlMakesTheNextExchangesFail(t *testing.T) {
	for path, want := range map[string]struct {
		status int
		body   string
		spent  bool
	}{
		"fail":                           {status: 503},
		"fail?status=429&retry_after=7":  {status: 429},
		"fail?error=invalid_grant":       {status: 400, body: `{"error":"invalid_grant"}`},
		"fail?fault=drop":                {},
		"fail?fault=reset&at=after":      {spent: true},
		"fail?tenant=acme&at=after":      {status: 503, spent: true},
		"fail?status=500&at=before":      {status: 500},
		"fail?tenant=acme&error=x&at=":   {status: 400, body: `{"error":"x"}`},
		"fail?error=y&status=401&times=": {status: 401, body: `{"error":"y"}`},
	} {
		s := refreshtest.Start(t, refreshtest.Config{Control: true})
		first := s.Grant("acme")
		mustControl(t, s, path)
		a := present(t, s, first.RefreshToken)
		if a.status != want.status || a.body != want.body || (a.err != nil) != (want.status == 0) {
			t.Errorf("%s: got %d %q %v", path, a.status, a.body, a.err)
		}
		if strings.Contains(path, "retry_after") && a.header.Get("Retry-After") != "7" {
			t.Errorf("%s: headers %v", path, a.header)
		}
		if living, _ := s.Living("acme"); (living != first.RefreshToken) != want.spent {
			t.Errorf("%s: spent is not %v", path, want.spent)
		}
		if !want.spent {
			mustRefresh(t, s, first.RefreshToken) // the next one only
		}
	}
}

func TestControlMakesAsManyExchangesFailAsItIsAskedTo(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{Control: true})
	first := s.Grant("acme")
	mustControl(t, s, "fail?times=2")
	for range 2 {
		if a := present(t, s, first.RefreshToken); a.status != 503 {
			t.Errorf("got %d", a.status)
		}
	}
	mustRefresh(t, s, first.RefreshToken)
}

func TestControlSaysWhatItDoesNotUnderstand(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{Control: true})
	first := s.Grant("acme")
	for path, want := range map[string]string{
		"grant": "tenant is missing", "revoke": "never consented", "revoke?tenant=acmee": "never consented", "expire?tenant=": "never consented",
		"advance": "by must be", "advance?by=-1s": "by must be", "advance?by=7": "by must be",
		"fail?fault=fire": "fault must be", "fail?at=noon": "at must be", "fail?times=0": "times must be", "fail?status=200": "status must be", "fail?status=x": "status must be",
	} {
		if a := control(t, s, http.MethodPost, path); a.status != http.StatusBadRequest || !strings.Contains(a.text(t, "error"), want) {
			t.Errorf("%s: got %d %s, want %q", path, a.status, a.body, want)
		}
	}
	if a := control(t, s, http.MethodGet, "revoke?tenant=acme"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("a GET, which a browser's prefetch may send, got %d", a.status)
	}
	mustRefresh(t, s, first.RefreshToken) // nothing of it was scripted
}

func TestControlShowsTheLedgerWithoutTokens(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{Control: true})
	if a := control(t, s, http.MethodGet, "ledger"); a.status != 200 || strings.TrimSpace(a.body) != "[]" {
		t.Errorf("an empty ledger is %d %s", a.status, a.body)
	}
	first := s.Grant("acme")
	mustRefresh(t, s, first.RefreshToken)
	mustRefuse(t, s, first.RefreshToken)
	mustRefresh(t, s, s.Grant("other").RefreshToken)
	a := control(t, s, http.MethodGet, "ledger?tenant=acme")
	var lines []map[string]any
	if err := json.Unmarshal([]byte(a.body), &lines); err != nil || len(lines) != 2 {
		t.Fatalf("%v: %s", err, a.body)
	}
	if lines[0]["outcome"] != "rotated" || lines[0]["violation"] != false || lines[0]["fingerprint"] != refreshtest.Fingerprint(first.RefreshToken) {
		t.Errorf("first line %v", lines[0])
	}
	if lines[1]["outcome"] != "family revoked" || lines[1]["violation"] != true || lines[1]["error"] != "invalid_grant" || lines[1]["answered"] == nil {
		t.Errorf("second line %v", lines[1])
	}
	for _, token := range s.Issued() {
		if strings.Contains(a.body, token) {
			t.Errorf("the ledger shows a token: %s", a.body)
		}
	}
}
