package refresh_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func refusing(rules ...provider.APIRefusal) provider.Profile {
	return provider.Profile{APIRefusals: rules}
}

func TestATokenThatIsRefusedWithoutA401IsReplacedToo(t *testing.T) {
	t.Parallel()
	uhome := refusing(provider.APIRefusal{Status: 200, Member: "status", Value: "401"})
	long := `{"error":"token_expired","x":"` + strings.Repeat("x", 64<<10) + `"}`
	for _, c := range []struct {
		name      string // FIELD's kind F, and kin
		profile   provider.Profile
		status    int
		media     string
		challenge string
		body      string
		refuses   bool
	}{
		{"Slack: expired", provider.Slack(), 200, "application/json; charset=utf-8", "", `{"ok":false,"error":"token_expired"}`, true},
		{"Slack: revoked", provider.Slack(), 200, "application/json", "", `{"ok":false,"error":"token_revoked"}`, true},
		{"Slack: another error", provider.Slack(), 200, "application/json", "", `{"ok":false,"error":"channel_not_found"}`, false},
		{"Slack: a message that says so", provider.Slack(), 200, "application/json", "", `{"ok":true,"message":{"error":"token_expired"}}`, false},
		{"Slack: a file", provider.Slack(), 200, "application/octet-stream", "", `{"ok":false,"error":"token_expired"}`, false},
		{"Slack: a long answer", provider.Slack(), 200, "application/json", "", long, false},
		{"Slack: another status", provider.Slack(), 500, "application/json", "", `{"ok":false,"error":"token_expired"}`, false},
		{"U-Tec, Withings: a status in the body", uhome, 200, "application/json", "", `{"status":401}`, true},
		{"… as text", uhome, 200, "application/json", "", `{"status":"401"}`, true},
		{"… another one", uhome, 200, "application/json", "", `{"status":0}`, false},
		{"Google: 403", provider.Google(), 403, "", `Bearer realm="x", error="invalid_token"`, "no", true},
		{"Google: another 403", provider.Google(), 403, "", `Bearer error="insufficient_scope"`, "no", false},
		{"Google: 403 without a word", provider.Google(), 403, "", "", "no", false},
		{"Meta: 190", provider.Meta(), 400, "application/json", "", `{"error":{"code":190,"type":"OAuthException"}}`, true},
		{"Meta: another code", provider.Meta(), 400, "application/json", "", `{"error":{"code":100}}`, false},
		{"a list", refusing(provider.APIRefusal{Status: 403, Member: "errors.code", Value: "expired"}), 403, "application/json", "", `{"errors":[{"code":"x"},{"code":"expired"}]}`, true},
		{"a list at the top", refusing(provider.APIRefusal{Member: "errorCode", Value: "INVALID_SESSION_ID"}), 403, "application/json", "", `[{"errorCode":"INVALID_SESSION_ID"}]`, true},
		{"true or false", refusing(provider.APIRefusal{Status: 200, Member: "expired", Value: "true"}), 200, "application/json", "", `{"expired":true}`, true},
		{"text", refusing(provider.APIRefusal{Status: 403, Value: "Bad_OAuth_Token"}), 403, "text/html", "", "Bad_OAuth_Token", true},
		{"text in JSON", refusing(provider.APIRefusal{Status: 400, Value: "token is expired"}), 400, "application/json", "", `{"message":"the token is expired"}`, true},
		{"other text", refusing(provider.APIRefusal{Status: 403, Value: "Bad_OAuth_Token"}), 403, "text/html", "", "Wrong_Org", false},
		{"a status of its own", refusing(provider.APIRefusal{Status: 498}), 498, "", "", "", true},
		{"no JSON", uhome, 200, "application/json", "", `<html>`, false},
		{"no body", uhome, 200, "application/json", "", ``, false},
		{"no rule", provider.Profile{}, 200, "application/json", "", `{"error":"token_expired"}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.profile.AuthStyle = 0
			f := newFleet(t, refreshtest.Config{Profile: c.profile})
			w := f.worker()
			f.connect(w, "acme", false)
			f.server.ExpireAccessTokens("acme")
			a := f.api(func(w http.ResponseWriter, r *http.Request) {
				if c.refuses && f.alive(r) {
					_, _ = io.WriteString(w, "fine")
					return
				}
				w.Header().Set("WWW-Authenticate", c.challenge)
				w.Header().Set("Content-Type", c.media)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			resp, err := w.client(t, "acme").Post(a.URL, "text/plain", strings.NewReader("hello"))
			if c.refuses {
				if got := answered(t, resp, err, 200); got != "fine" || len(a.calls()) != 2 {
					t.Errorf("%q after %d attempts", got, len(a.calls()))
				}
				f.exchanges(1)
				return
			}
			if got := answered(t, resp, err, c.status); got != c.body || len(a.calls()) != 1 {
				t.Errorf("%d bytes after %d attempts", len(got), len(a.calls()))
			}
			f.exchanges(0)
		})
	}
}

func TestAFunctionSaysWhatRefusesTheToken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	long := strings.Repeat("x", 100<<10)
	w := f.worker(func(cfg *refresh.Config) {
		cfg.Refused = func(resp *http.Response) bool {
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || len(body) > 16<<10 {
				t.Errorf("it sees %d bytes: %v", len(body), err)
			}
			return string(body) == "expired"
		}
	})
	f.connect(w, "acme", false)
	f.server.ExpireAccessTokens("acme")
	a := f.api(func(w http.ResponseWriter, r *http.Request) {
		if !f.alive(r) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "expired")
			return
		}
		_, _ = io.WriteString(w, long)
	})
	resp, err := w.client(t, "acme").Get(a.URL)
	if got := answered(t, resp, err, 200); got != long {
		t.Errorf("%d bytes of %d", len(got), len(long))
	}
	resp, err = w.client(t, "acme").Get(a.URL) // accepted at once: looked at, and whole
	if got := answered(t, resp, err, 200); got != long || len(a.calls()) != 3 {
		t.Errorf("%d bytes of %d after %d attempts", len(got), len(long), len(a.calls()))
	}
	f.exchanges(1)
	f.lawful(w, "acme")
}

// An API that goes on saying so cannot burn the grant, as with 401s.
func TestRefusalsWithoutA401AreBoundedAsOthersAre(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Slack()})
	w := f.worker()
	f.connect(w, "acme", false)
	a := f.api(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":false,"error":"token_expired"}`)
	})
	for range 10 {
		resp, err := w.client(t, "acme").Get(a.URL)
		if err == nil {
			resp.Body.Close()
		}
		var e *refresh.Error
		if err != nil && (!errors.As(err, &e) || e.Code != "suspect") {
			t.Fatal(err)
		}
	}
	if n := f.server.Ledger().Exchanges(); n > 2 {
		t.Errorf("%d exchanges", n)
	}
}

// The end of a body that breaks off is the caller's to see.
func TestABodyThatWasLookedAtEndsAsItDid(t *testing.T) {
	t.Parallel()
	cut := errors.New("cut")
	f := newFleet(t, refreshtest.Config{Profile: provider.Slack()})
	w := f.worker()
	f.connect(w, "acme", false)
	client := &http.Client{Transport: w.Transport("acme", answering(func(*http.Request) *http.Response {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"ok":tr`), iotest.ErrReader(cut)))}
	}))}
	resp, err := client.Get("https://api.example")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); string(got) != `{"ok":tr` || !errors.Is(err, cut) {
		t.Errorf("%q %v", got, err)
	}
}

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }
