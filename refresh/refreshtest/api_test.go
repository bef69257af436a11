package refreshtest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestTheAPIAnswersOnlyLivingTokens(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{AccessTokenLife: time.Minute})
	acme, other := s.Grant("acme"), s.Grant("other")
	if a := callAPI(t, s, acme.AccessToken); a.status != 200 || a.text(t, "tenant") != "acme" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	refused := func(why, token string) {
		t.Helper()
		a := callAPI(t, s, token)
		if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: got %d %v", why, a.status, a.header)
		}
	}
	s.ExpireAccessTokens("acme")
	refused("expired by hand", acme.AccessToken)
	refused("never issued", "at-never-issued")
	refused("a refresh token", other.RefreshToken)
	if a := callAPI(t, s, other.AccessToken); a.status != 200 {
		t.Errorf("another tenant's token: %d", a.status)
	}
	s.Advance(time.Minute)
	refused("expired by time", other.AccessToken)

	want := refreshtest.Stats{APICalls: 6, Unauthorized: 4}
	if got := s.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestARequestWithoutATokenGetsAChallengeWithoutACode(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	a := callAPI(t, s, "")
	if h := a.header.Get("WWW-Authenticate"); a.status != 401 || !strings.HasPrefix(h, "Bearer") || strings.Contains(h, "error") {
		t.Errorf("got %d %q", a.status, h)
	}
}

func TestBareUnauthorizedTellsItsReasonInTheBodyOnly(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{BareUnauthorized: true})
	a := callAPI(t, s, "at-never-issued")
	if a.status != 401 || a.header.Get("WWW-Authenticate") != "" || a.member(t, "code") != 124.0 {
		t.Errorf("got %d %v %s", a.status, a.header, a.body)
	}
}
