package refreshtest_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestARevokedRefreshTokenTakesItsFamilyAlong(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	tok, other := s.Grant("acme"), s.Grant("other")
	cfg := s.OAuth2Config()
	revoke := func(token, secret string) int {
		resp, err := http.PostForm(s.RevokeURL(), url.Values{"token": {token}, "client_id": {cfg.ClientID}, "client_secret": {secret}})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := revoke(tok.RefreshToken, "wrong"); got != 401 || !s.Alive(tok.RefreshToken) {
		t.Errorf("a stranger: %d", got)
	}
	if got := revoke("", cfg.ClientSecret); got != 400 {
		t.Errorf("nothing: %d", got)
	}
	for _, token := range []string{tok.RefreshToken, tok.RefreshToken, "nobody's", other.AccessToken} {
		if got := revoke(token, cfg.ClientSecret); got != 200 {
			t.Errorf("%d", got)
		}
	}
	if s.Alive(tok.RefreshToken) || s.AccessAlive(tok.AccessToken) || s.AccessAlive(other.AccessToken) || !s.Alive(other.RefreshToken) {
		t.Error("what lives is not what should")
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
