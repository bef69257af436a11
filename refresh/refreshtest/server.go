package refreshtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// ErrClosed is what an Await returns when the server was closed meanwhile.
var ErrClosed = errors.New("refreshtest: server closed")

// closePatience bounds Close. Handlers end at once when done is closed; this
// only keeps a bug in one of them from hanging a whole test binary.
const closePatience = 5 * time.Second

// Server is a fake authorization server with a small API behind it. It is safe
// for concurrent use.
type Server struct {
	// URL is the server's base, e.g. "http://127.0.0.1:41234".
	URL string

	cfg     Config
	http    *http.Server
	done    chan struct{} // closed when Close begins
	stopped chan struct{} // closed when no goroutine of the server is left

	handlers sync.WaitGroup // handlers under way; Add only under mu with closed false

	mu        sync.Mutex // guards what follows; the commit of an exchange is one critical section
	closed    bool
	changed   chan struct{} // closed and replaced at every change that an Await may wait for
	skew      time.Duration // what Advance has added to the clock
	before    time.Duration // latency before the commit
	after     time.Duration // latency after the commit
	families  map[string]*family
	consents  map[string]int // families per tenant, ever
	refreshes map[string]*refreshToken
	accesses  map[string]*accessToken
	codes     map[string]*code
	script    []*Step
	gates     []*Gate
	ledger    Ledger
	awaited   int // arrivals that AwaitExchange has handed out
	inFlight  int // exchanges that arrived and were not answered yet
	stats     Stats
	secrets   []string // that a client may show
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
	s := &Server{
		URL:       "http://" + ln.Addr().String(),
		cfg:       cfg,
		done:      make(chan struct{}),
		stopped:   make(chan struct{}),
		changed:   make(chan struct{}),
		before:    cfg.LatencyBefore,
		after:     cfg.LatencyAfter,
		families:  make(map[string]*family),
		consents:  make(map[string]int),
		refreshes: make(map[string]*refreshToken),
		accesses:  make(map[string]*accessToken),
		codes:     make(map[string]*code),
		secrets:   []string{cfg.ClientSecret},
	}
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
		close(s.done)
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

// TokenURL is the token endpoint.
func (s *Server) TokenURL() string { return s.URL + "/token" }

// APIURL is the API behind the tokens: any path below it answers the tenant's
// name to a living access token and 401 to every other.
func (s *Server) APIURL() string { return s.URL + "/api/" }

// OAuth2Config is a client configuration that this server accepts. For consent in a
// browser set its RedirectURL. Its AuthStyle is explicit: auto-detect may present a refresh token twice.
func (s *Server) OAuth2Config() *oauth2.Config {
	return &oauth2.Config{
		ClientID:     s.cfg.ClientID,
		ClientSecret: s.cfg.ClientSecret,
		Endpoint:     oauth2.Endpoint{AuthURL: s.AuthURL(), TokenURL: s.TokenURL(), AuthStyle: s.cfg.authStyle()},
	}
}

// Format keeps every verb from printing the tokens the server knows.
func (s *Server) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "refreshtest.Server{"+s.URL+"}")
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/authorize", s.serveAuthorize)
	mux.HandleFunc("/token", s.serveToken)
	mux.HandleFunc("/api/", s.serveAPI)
	if s.cfg.Control {
		s.addControl(mux)
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
	<-s.done // Serve may fail by itself; no handler starts after done
	s.handlers.Wait()
}
