//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// go-oauth2's store has no end.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/tidwall/buntdb.(*DB).backgroundManager"))
}

const (
	clientID = "my-client"
	secret   = "foobar"
)

// lives are how long a server's tokens live.
type lives struct{ access, refresh time.Duration }

// program is an authorization server that somebody else wrote.
type program struct {
	name string
	// start makes one whose token endpoint is /token. Nil lives are its own.
	start func(t *testing.T, url string, l lives) running
	// profile is what this package says of it, and what the tests hold it to.
	profile provider.Profile
	// settable says that a test can choose how long tokens live.
	settable bool
	// laxSecret says that it does not look at the client's secret when a token is refreshed.
	laxSecret bool
}

// running is one that has been started.
type running struct {
	handler http.Handler
	consent func(t *testing.T, tenant string) *oauth2.Token
	alive   func(accessToken string) bool
}

// server is one that listens, and counts the refreshes.
type server struct {
	program
	running
	*httptest.Server
	refreshes atomic.Int64
}

func (p program) listen(t *testing.T, l lives) *server {
	t.Helper()
	s := &server{program: p}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "grant_type=refresh_token") {
			s.refreshes.Add(1)
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		s.handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.running = p.start(t, s.URL, l)
	return s
}

func (s *server) config() *oauth2.Config {
	return &oauth2.Config{
		ClientID: clientID, ClientSecret: secret,
		Endpoint: oauth2.Endpoint{TokenURL: s.URL + "/token", AuthStyle: oauth2.AuthStyleInHeader},
	}
}

// post asks a server for something in a form, and returns what it says.
func (s *server) post(t *testing.T, path string, form url.Values) (status int, answer map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(clientID, secret)
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&answer)
	return resp.StatusCode, answer
}

// redeem presents a refresh token, without any of this project's care.
func (s *server) redeem(t *testing.T, refreshToken string) (tok *oauth2.Token, code string) {
	t.Helper()
	status, a := s.post(t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}})
	if status != http.StatusOK {
		code, _ = a["error"].(string)
		return nil, code
	}
	at, _ := a["access_token"].(string)
	rt, _ := a["refresh_token"].(string)
	return &oauth2.Token{AccessToken: at, RefreshToken: rt}, ""
}
