package refreshtest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// closePatience bounds Close. Handlers end at once when done is closed; this
// only keeps a bug in one of them from hanging a whole test binary.
const closePatience = 5 * time.Second

// Server is a fake authorization server with a small API behind it. It is safe
// for concurrent use.
type Server struct {
	// URL is the server's base, e.g. "http://127.0.0.1:41234".
	URL string

	world   *world
	http    *http.Server
	stopped chan struct{} // closed when no goroutine of the server is left

	handlers sync.WaitGroup // handlers under way; Add only under mu with closed false

	mu     sync.Mutex // guards closed
	closed bool
}

// New starts a server. It needs no *testing.T, so that programs can use it too;
// the caller must Close it.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("refreshtest: Config.Addr: %w", err)
	}
	s := &Server{URL: "http://" + ln.Addr().String(), world: newWorld(cfg), stopped: make(chan struct{})}
	s.http = &http.Server{Handler: s.routes()}
	go s.serve(ln)
	return s, nil
}

// Start starts a server that is closed when the test ends.
func Start(t TB, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return s
}

// Close ends the server. Exchanges that wait in a latency or at a gate are cut
// off where they are: one that has not committed never will. Close does not
// hang, may be called twice, and leaves the ledger readable.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.world.done)
	}
	s.mu.Unlock()

	err := s.http.Close()
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case <-s.stopped:
		return err
	case <-patience.C:
		return fmt.Errorf("refreshtest: a request did not end within %v of Close", closePatience)
	}
}

// AuthURL is the authorization endpoint, where a tenant's admin consents in a browser. A
// request with login_hint=acme consents as acme at once and without a page.
func (s *Server) AuthURL() string { return s.URL + "/authorize" }

// TokenURL is the token endpoint.
func (s *Server) TokenURL() string { return s.URL + "/token" }

// RevokeURL is the revocation endpoint (RFC 7009).
func (s *Server) RevokeURL() string { return s.URL + "/revoke" }

// APIURL is the API behind the tokens: any path below it answers the tenant's
// name to a living access token and 401 to every other.
func (s *Server) APIURL() string { return s.URL + "/api/" }

// OAuth2Config is a client configuration that this server accepts. For consent in a
// browser set its RedirectURL. Its AuthStyle is explicit: auto-detect may present a refresh token twice.
func (s *Server) OAuth2Config() *oauth2.Config {
	return &oauth2.Config{
		ClientID:     s.world.cfg.ClientID,
		ClientSecret: s.world.cfg.ClientSecret,
		Endpoint:     oauth2.Endpoint{AuthURL: s.AuthURL(), TokenURL: s.TokenURL(), AuthStyle: s.world.cfg.authStyle()},
	}
}

// Format keeps every verb from printing the tokens the server knows.
func (s *Server) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "refreshtest.Server{"+s.URL+"}")
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/authorize", authorizationEndpoint{s.world}.serve)
	mux.HandleFunc("/token", tokenEndpoint{s.world}.serve)
	mux.HandleFunc("/revoke", revocationEndpoint{s.world}.serve)
	mux.HandleFunc("/api/", api{s.world}.serve)
	if s.world.cfg.Control {
		control{s.world}.addTo(mux)
	}
	return s.counted(mux)
}

// counted lets Close wait for the handlers, which net/http does not.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		s.handlers.Add(1)
		s.mu.Unlock()
		defer s.handlers.Done()
		next.ServeHTTP(w, r)
	})
}

// serve owns the server's goroutines: it returns when none is left.
func (s *Server) serve(ln net.Listener) {
	defer close(s.stopped)
	_ = s.http.Serve(ln)
	<-s.world.done // Serve may fail by itself; no handler starts after done
	s.handlers.Wait()
}
