package refresh_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// spoiled are answers whose access token no header can carry.
var spoiled = map[string]func(answer map[string]any){
	"CR LF in the token": func(a map[string]any) { a["access_token"] = a["access_token"].(string) + "\r\nX-Evil: 1" },
	"NUL in the token":   func(a map[string]any) { a["access_token"] = "\x00" + a["access_token"].(string) },
	"CR LF in the type":  func(a map[string]any) { a["token_type"] = "Bearer\r\nX-Evil: 1" },
}

func TestAnAccessTokenNobodyCanSendIsNotServedAndItsRefreshTokenIsKept(t *testing.T) {
	t.Parallel()
	for name, edit := range spoiled {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w, other := f.worker(), f.worker()
			f.connect(w, "acme", true)
			f.server.Script(refreshtest.Step{Edit: edit})
			asked := time.Now()
			_, err := w.Token(f.ctx(), "acme")
			e := kind(t, err, refresh.ErrUnavailable, "unusable_access_token")
			if e.RetryAfter <= 0 || e.RetryAfter > 2*time.Second {
				t.Errorf("retry after %s: it may have been an accident", e.RetryAfter)
			}
			f.lawful(w, "acme")                                                          // the pair is stored
			if _, err = other.Token(f.ctx(), "acme"); time.Since(asked) < e.RetryAfter { // else it may have tried again
				kind(t, err, refresh.ErrUnavailable, "unusable_access_token")
			}

			time.Sleep(e.RetryAfter + 50*time.Millisecond)
			resp, err := other.Client("acme").Get(f.server.APIURL())
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%v, %v", resp, err)
			}
			_ = resp.Body.Close()
			f.lawful(w, "acme")
		})
	}
}

func TestAProviderThatSendsUnusableTokensIsAskedEverMoreRarely(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	f.server.Script(refreshtest.Step{Times: -1, Edit: spoiled["NUL in the token"]})
	var last *refresh.Error
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		_, err := w.Token(f.ctx(), "acme")
		last = kind(t, err, refresh.ErrUnavailable, "unusable_access_token")
	}
	if n := len(f.server.Ledger()); n != 2 || last.RetryAfter < 10*time.Minute {
		t.Errorf("%d exchanges in 3 s, the next in %s", n, last.RetryAfter)
	}
	f.lawful(w, "acme")
	if st, err := w.Status(f.ctx(), "acme"); err != nil || st.State != tokencache.Active || st.ClaimBy != "" {
		t.Errorf("%v, %v", st, err)
	}
}

func TestAConsentWithAnUnusableAccessTokenIsRefreshedAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	tok := f.server.Grant("acme")
	good := tok.AccessToken
	tok.AccessToken += "\n"
	if err := w.Connect(f.ctx(), "acme", tok); err != nil {
		t.Fatal(err)
	}
	if got := f.token(w, "acme").AccessToken; got == tok.AccessToken || got == good {
		t.Error("the token that came with the consent was served")
	}
	if n := len(f.server.Ledger()); n != 1 {
		t.Errorf("%d exchanges", n)
	}
	f.lawful(w, "acme")
}
