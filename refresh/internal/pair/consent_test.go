package pair

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// consentOf is what x/oauth2 makes of the answer to a consent.
func consentOf(t *testing.T, body string) *oauth2.Token {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	cfg := oauth2.Config{ClientID: "id", Endpoint: oauth2.Endpoint{TokenURL: server.URL, AuthStyle: oauth2.AuthStyleInParams}}
	tok, err := cfg.Exchange(t.Context(), "code")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// redisNow is Redis' time: an hour behind this machine's.
func redisNow() int64 { return time.Now().Add(-time.Hour).UnixMilli() }

func TestAConsentsLifetimeIsReadAsARefreshsIs(t *testing.T) {
	now := redisNow()
	in := func(d time.Duration) int64 { return now/1000 + int64(d/time.Second) }
	jwt := "h." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, in(2*time.Hour))) + ".s"
	for _, c := range []struct {
		p           provider.Profile
		token, said string
		want        time.Duration
	}{
		{provider.Profile{}, "a", `"expires_in":3600`, time.Hour},
		{provider.Profile{ExpiresInUnit: time.Millisecond}, "a", `"expires_in":3600000`, time.Hour},
		{provider.Profile{AccessTokenLife: time.Hour}, "a", `"expires_in":3600000`, time.Hour},
		{provider.Profile{}, "a", fmt.Sprintf(`"expires_in":%d`, in(time.Hour)), time.Hour},
		{provider.Profile{}, "a", fmt.Sprintf(`"expires_at":%d`, in(time.Hour)), time.Hour},
		{provider.Profile{}, "a", fmt.Sprintf(`"expiresAt":%d000`, in(time.Hour)), time.Hour},
		{provider.Profile{}, "a", `"expires_at":"` + time.Unix(in(time.Hour), 0).UTC().Format(time.RFC3339) + `"`, time.Hour},
		{provider.Profile{}, jwt, `"x":1`, 2 * time.Hour},
		{provider.Profile{}, jwt, `"expires_in":3600`, time.Hour},
		{provider.Profile{}, "a", `"x":1`, 5 * time.Minute},
		{provider.Profile{AccessTokenLife: time.Minute}, "a", `"x":1`, time.Minute},
		{provider.Profile{MaxAccessTokenLife: time.Minute}, "a", `"expires_in":3600`, time.Minute},
	} {
		tok := consentOf(t, `{"access_token":"`+c.token+`","refresh_token":"r",`+c.said+`}`)
		m := &Maker{Profile: c.p}
		life := time.Duration(m.OfConsent(tok, nil, now).ExpiresAt-now) * time.Millisecond
		if life > c.want+time.Second || life < c.want-2*time.Second {
			t.Errorf("%s: %s, want %s", c.said, life, c.want)
		}
	}
	// What the caller says stands, also where the token has expired.
	tok := (&oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now().Add(-time.Minute)}).WithExtra(map[string]any{"expires_at": 1})
	if p := (&Maker{}).OfConsent(tok, nil, now); p.ExpiresAt > now-59_000 || p.ExpiresAt < now-70_000 {
		t.Errorf("an expired one: %d ms", p.ExpiresAt-now)
	}
}
