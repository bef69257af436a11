package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// api is a provider's API that notes who calls it.
type api struct {
	*httptest.Server
	conns atomic.Int64

	mu   sync.Mutex
	auth []string // the Authorization of each call
}

// api answers what answer says, and else a living token with the request's body and any
// other with a 401 of RFC 6750.
func (f *fleet) api(answer http.HandlerFunc, alter ...func(*httptest.Server)) *api {
	f.t.Helper()
	a := &api{}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.auth = append(a.auth, r.Header.Get("Authorization"))
		a.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		if !f.alive(r) {
			unauthorized(w)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	a.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			a.conns.Add(1)
		}
	}
	if alter == nil {
		alter = []func(*httptest.Server){(*httptest.Server).Start}
	}
	for _, start := range alter {
		start(a.Server)
	}
	f.t.Cleanup(a.Close)
	return a
}

// readsAll is an API that reads every request to its end before it refuses it.
func (f *fleet) readsAll(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if !f.alive(r) {
		unauthorized(w)
	}
}

func (a *api) calls() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.auth)
}

func (f *fleet) alive(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return scheme == "Bearer" && f.server.AccessAlive(token)
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(w, "refused")
}

// base is a connection pool for one test.
func base(t *testing.T) *http.Transport {
	b := &http.Transport{}
	t.Cleanup(b.CloseIdleConnections)
	return b
}

func (w *worker) client(t *testing.T, tenant string) *http.Client {
	return &http.Client{Transport: w.Transport(tenant, base(t))}
}

// killed is a fleet whose tenant's access token is refused although it has not expired.
func killed(t *testing.T) (*fleet, *worker) {
	f := newFleet(t, refreshtest.Config{TokenPrefix: "canary-"})
	w := f.worker()
	f.connect(w, "acme", false)
	f.server.ExpireAccessTokens("acme")
	return f, w
}

func (f *fleet) exchanges(want int) {
	f.t.Helper()
	if n := f.server.Ledger().Exchanges(); n != want {
		f.t.Errorf("%d exchanges, want %d", n, want)
	}
}

func answered(t *testing.T, resp *http.Response, err error, status int) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("answered %d %q (%v), want %d", resp.StatusCode, body, err, status)
	}
	return string(body)
}

// streamed hides what http.NewRequest would make a GetBody of.
type streamed struct{ io.Reader }

func TestTransportReplaysARefusedRequestOnceWithTheNewerToken(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]io.Reader{
		"GetBody": strings.NewReader("hello"), "kept": streamed{strings.NewReader("hello")}, "none": nil,
	} {
		f, w := killed(t)
		a := f.api(nil)
		resp, err := w.client(t, "acme").Post(a.URL, "text/plain", body)
		if got := answered(t, resp, err, 200); body != nil && got != "hello" {
			t.Errorf("%s: sent %q", name, got)
		}
		if calls := a.calls(); len(calls) != 2 || calls[0] == calls[1] {
			t.Errorf("%s: %d attempts, want 2 with different tokens", name, len(calls))
		}
		f.exchanges(1)
		f.lawful(w, "acme")
	}
}

func TestTransportHidesADeadTokenFromAHundredConcurrentRequests(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{false, true} {
		f := newFleet(t, refreshtest.Config{BareUnauthorized: bare})
		workers := []*worker{f.worker(), f.worker()}
		f.connect(workers[0], "acme", false)
		f.token(workers[1], "acme")
		f.server.ExpireAccessTokens("acme")
		var calls sync.WaitGroup
		for _, w := range workers {
			client := w.client(t, "acme")
			for range 50 {
				calls.Go(func() {
					resp, err := client.Get(f.server.APIURL())
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					if resp.StatusCode != 200 {
						t.Errorf("answered %d", resp.StatusCode)
					}
				})
			}
		}
		calls.Wait()
		f.exchanges(1)
		f.lawful(workers[0], "acme")
	}
}

func TestTransportReturnsTheSecondAnswerWhateverItIs(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403, 500} {
		f, w := killed(t)
		a := f.api(func(w http.ResponseWriter, r *http.Request) {
			if !f.alive(r) {
				unauthorized(w)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "second")
		})
		resp, err := w.client(t, "acme").Get(a.URL)
		if got := answered(t, resp, err, status); got != "second" || len(a.calls()) != 2 {
			t.Errorf("%d: %q after %d attempts", status, got, len(a.calls()))
		}
	}
}

func TestTransportRefreshesOnlyForARefusedToken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	for _, c := range []struct {
		status    int
		challenge string
	}{
		{401, `Bearer error="insufficient_scope"`},
		{401, `Bearer error="insufficient_user_authentication"`},
		{403, `Bearer error="invalid_token"`},
		{403, ""},
		{407, `Bearer error="invalid_token"`},
	} {
		a := f.api(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", c.challenge)
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, "why")
		})
		resp, err := w.client(t, "acme").Get(a.URL)
		if got := answered(t, resp, err, c.status); got != "why" || len(a.calls()) != 1 {
			t.Errorf("%d %s: %q after %d attempts", c.status, c.challenge, got, len(a.calls()))
		}
	}
	f.exchanges(0)
}

// withHTTP1 and withHTTP2 are the two ways in which a body is sent.
func withHTTP1(s *httptest.Server) { s.StartTLS() }

func withHTTP2(s *httptest.Server) {
	s.EnableHTTP2 = true
	s.StartTLS()
}

func TestTransportReplaysABodyThatTheRefusalInterrupted(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*httptest.Server){"HTTP/1": withHTTP1, "HTTP/2": withHTTP2} {
		f, w := killed(t)
		refused := make(chan struct{})
		a := f.api(func(w http.ResponseWriter, r *http.Request) {
			if f.alive(r) {
				_, _ = io.Copy(w, r.Body)
				return
			}
			answer := http.NewResponseController(w)
			if r.ProtoMajor == 1 {
				_ = answer.EnableFullDuplex() // else the server reads the body to its end first
				w.Header().Set("Connection", "close")
			}
			_, _ = io.ReadFull(r.Body, make([]byte, 4))
			unauthorized(w)
			_ = answer.Flush()
			close(refused)
		}, start)
		source, caller := io.Pipe()
		go func() {
			_, _ = caller.Write([]byte("one "))
			<-refused // the first attempt waits for more of the body
			_, _ = caller.Write([]byte("two "))
			_, _ = caller.Write([]byte("three"))
			caller.Close()
		}()
		client := &http.Client{Transport: w.Transport("acme", a.Client().Transport)}
		resp, err := client.Post(a.URL, "text/plain", source)
		if got := answered(t, resp, err, 200); got != "one two three" {
			t.Errorf("%s: sent %q", name, got)
		}
		f.exchanges(1)
	}
}

// bodies is a request body that tells when it is closed, and by how many.
type bodies struct {
	io.Reader
	closes atomic.Int64
	closed chan struct{}
}

func newBody(r io.Reader) *bodies { return &bodies{Reader: r, closed: make(chan struct{})} }

func (b *bodies) Close() error {
	if b.closes.Add(1) == 1 {
		close(b.closed)
	}
	return nil
}

// settled asserts that the body is closed, or will be, and not twice.
func (b *bodies) settled(t *testing.T, name string) {
	t.Helper()
	select {
	case <-b.closed:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: the caller's body is never closed", name)
	}
	if n := b.closes.Load(); n != 1 {
		t.Errorf("%s: the caller's body was closed %d times", name, n)
	}
}

// reading is an inner transport that sends the whole body, and then answers.
type reading struct {
	answer func() (*http.Response, error)
}

func (r reading) RoundTrip(req *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, req.Body)
	_ = req.Body.Close()
	return r.answer()
}

func status(code int) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(""))}, nil
	}
}

func TestTransportClosesTheCallersBodyOnEveryPath(t *testing.T) {
	t.Parallel()
	f, w := killed(t)
	broken := errors.New("broken")
	large := func() io.Reader { return io.LimitReader(zeros{}, 2<<20) }
	small := func() io.Reader { return strings.NewReader("hello") }
	for _, c := range []struct {
		name, tenant, url string
		body              func() io.Reader
		answer            func() (*http.Response, error)
		fails             error
	}{
		{"insecure", "acme", "http://api.example/", small, status(200), refresh.ErrClientConfig},
		{"no grant", "nobody", "https://api.example/", small, status(200), refresh.ErrNotConnected},
		{"not sent", "acme", "https://api.example/", small, func() (*http.Response, error) { return nil, broken }, broken},
		{"answered", "acme", "https://api.example/", small, status(200), nil},
		{"replayed", "acme", "https://api.example/", small, status(401), nil},
		{"too long", "acme", "https://api.example/", large, status(401), refresh.ErrUnavailable},
		{"suspect", "acme", "https://api.example/", small, status(401), refresh.ErrUnavailable},
	} {
		body := newBody(c.body())
		req := f.request("POST", c.url, body)
		resp, err := w.Transport(c.tenant, reading{c.answer}).RoundTrip(req)
		if !errors.Is(err, c.fails) || (err == nil) != (resp != nil) {
			t.Errorf("%s: %v, %v", c.name, resp, err)
		}
		body.settled(t, c.name)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func (f *fleet) request(method, url string, body io.Reader) *http.Request {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.ctx(), method, url, body)
	if err != nil {
		f.t.Fatal(err)
	}
	return req
}

func TestTransportLetsAnAnswerComeBeforeTheBodyHasEnded(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	a := f.api(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(w, r.Body)
	}, withHTTP2)
	source, caller := io.Pipe()
	body := newBody(source)
	resp, err := w.Transport("acme", a.Client().Transport).RoundTrip(f.request("POST", a.URL, body))
	if err != nil {
		t.Fatal(err)
	}
	if body.closes.Load() != 0 {
		t.Error("the body was closed while it is being sent")
	}
	_, _ = io.WriteString(caller, "late")
	caller.Close()
	if got := answered(t, resp, err, 200); got != "late" {
		t.Errorf("sent %q", got)
	}
	body.settled(t, "after the answer")
}

func TestTransportSaysWhenABodyIsTooLongToSendAgain(t *testing.T) {
	t.Parallel()
	f, w := killed(t)
	a := f.api(f.readsAll)
	post := func() (*http.Response, error) {
		return w.client(t, "acme").Post(a.URL+"/?q=private", "text/plain", io.LimitReader(zeros{}, 2<<20))
	}
	resp, err := post()
	if resp != nil {
		t.Error("a response beside the error")
	}
	e := kind(t, err, refresh.ErrUnavailable, "body_not_replayable")
	if e.Status != 401 || e.RetryAfter <= 0 || e.RetryAfter > time.Second || strings.Contains(e.Error(), "private") {
		t.Errorf("%v: status %d, retry after %s", e, e.Status, e.RetryAfter)
	}
	for _, says := range []string{"1 MiB", "GetBody", "newer one is ready", "send the request again"} {
		if !strings.Contains(e.Error(), says) {
			t.Errorf("%v does not say %q", e, says)
		}
	}
	if calls := a.calls(); len(calls) != 1 {
		t.Errorf("%d attempts, want 1", len(calls))
	}
	resp, err = post() // as it says
	answered(t, resp, err, 200)
	f.exchanges(1)
}

func TestTransportReportsAGetBodyThatFails(t *testing.T) {
	t.Parallel()
	f, w := killed(t)
	a := f.api(nil)
	req := f.request("POST", a.URL, strings.NewReader("hello"))
	gone := errors.New("the file is gone")
	req.GetBody = func() (io.ReadCloser, error) { return nil, gone }
	_, err := w.client(t, "acme").Do(req)
	kind(t, err, refresh.ErrUnavailable, "body_not_replayable")
	if !errors.Is(err, gone) {
		t.Errorf("%v does not say why", err)
	}
}

func TestTransportErrorAfterARefusalSaysWhoActsAndWhichAPI(t *testing.T) {
	t.Parallel()
	f, w := killed(t)
	a := f.api(nil)
	f.server.Revoke("acme")
	_, err := w.Transport("acme", base(t)).RoundTrip(f.request("GET", a.URL+"/?q=private", nil))
	if e := kind(t, err, refresh.ErrReauthorize, "invalid_grant"); e.Status != 400 {
		t.Errorf("status %d is not the provider's", e.Status)
	}
	if text := err.Error(); !strings.Contains(text, "API at "+strings.TrimPrefix(a.URL, "http://")+" answered 401") ||
		strings.Contains(text, "private") || strings.Contains(text, "refused\"") {
		t.Errorf("says %q", text)
	}
	_, err = w.client(t, "acme").Get(a.URL)
	kind(t, err, refresh.ErrReauthorize, "invalid_grant")
}

func TestTransportReusesTheConnectionOfARefusedRequest(t *testing.T) {
	t.Parallel()
	f, w := killed(t)
	a := f.api(func(w http.ResponseWriter, r *http.Request) {
		if !f.alive(r) {
			w.WriteHeader(401)
			_, _ = io.CopyN(w, zeros{}, 60<<10) // more than net/http drains by itself
		}
	})
	resp, err := w.client(t, "acme").Get(a.URL)
	answered(t, resp, err, 200)
	if n := a.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestTransportWaitsOnTheRequestsOwnContext(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	a := f.api(nil)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	defer gate.Release()
	ctx, cancel := context.WithCancelCause(f.ctx())
	left := errors.New("the webhook's sender hung up")
	failed := make(chan error, 1)
	client := w.client(t, "acme")
	go func() {
		_, err := client.Do(f.request("GET", a.URL, nil).WithContext(ctx))
		failed <- err
	}()
	gate.Await(t)
	cancel(left)
	if err := <-failed; !errors.Is(err, left) {
		t.Errorf("got %v, want the cause", err)
	}
	if calls := a.calls(); len(calls) != 0 {
		t.Errorf("%d calls without a token", len(calls))
	}
}

func TestTransportSendsUnderTheRequestsOwnContext(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	ctx, cancel := context.WithCancelCause(f.ctx())
	left := errors.New("left")
	inner := roundTrip(func(req *http.Request) (*http.Response, error) {
		cancel(left)
		return nil, context.Cause(req.Context())
	})
	if _, err := w.Transport("acme", inner).RoundTrip(f.request("GET", "https://api.example/", nil).WithContext(ctx)); err != left {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestTransportRefusalAfterTheContextEndedIsTheContexts(t *testing.T) {
	t.Parallel()
	f, w := killed(t)
	ctx, cancel := context.WithCancelCause(f.ctx())
	left := errors.New("left")
	answer := func() (*http.Response, error) {
		cancel(left)
		return status(401)()
	}
	body := newBody(strings.NewReader("hello"))
	req := f.request("POST", "https://api.example/", body).WithContext(ctx)
	if resp, err := w.Transport("acme", reading{answer}).RoundTrip(req); resp != nil || err != left {
		t.Errorf("%v, %v, want the cause", resp, err)
	}
	body.settled(t, "left")
	f.exchanges(0)
}

func TestTransportLeavesTheCallersRequestAsItIs(t *testing.T) {
	t.Parallel()
	f, w := killed(t)
	a := f.api(nil)
	req := f.request("POST", a.URL, streamed{strings.NewReader("hello")})
	req.Header.Set("Authorization", "mine")
	req.Header["X-Many"] = []string{"a", "b"}
	before, body := req.Header.Clone(), req.Body
	resp, err := w.Transport("acme", base(t)).RoundTrip(req)
	answered(t, resp, err, 200)
	if resp.Request != req || req.Body != body || fmt.Sprint(req.Header) != fmt.Sprint(before) {
		t.Errorf("request changed: %v", req.Header)
	}
	bare := f.request("GET", a.URL, nil)
	bare.Header = nil
	resp, err = w.Transport("acme", base(t)).RoundTrip(bare)
	answered(t, resp, err, 200)
	if bare.Header != nil {
		t.Error("request changed: it has a header now")
	}
}

func TestTransportPrintsNoToken(t *testing.T) {
	t.Parallel()
	f, w := killed(t)
	a := f.api(f.readsAll)
	client := w.client(t, "acme")
	resp, err := client.Get(a.URL)
	answered(t, resp, err, 200)
	f.server.ExpireAccessTokens("acme")
	_, long := client.Post(a.URL, "", io.LimitReader(zeros{}, 2<<20))
	kind(t, long, refresh.ErrUnavailable, "body_not_replayable")
	f.server.ExpireAccessTokens("acme")
	_, suspect := client.Get(a.URL)
	kind(t, suspect, refresh.ErrUnavailable, "suspect")
	_, insecure := client.Get("http://api.example/")
	kind(t, insecure, refresh.ErrClientConfig, "insecure_url")
	for name, v := range map[string]any{
		"Transport": client.Transport, "Client": client, "Request": resp.Request, "Header": resp.Request.Header,
		"long": long, "suspect": suspect, "insecure": insecure,
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "canary") {
				t.Errorf("%s prints a token with %s: %s", name, verb, text)
			}
		}
	}
	if text := fmt.Sprintf("%+v", client.Transport); text != "refresh.Transport("+key("acme").String()+")" {
		t.Errorf("prints %s", text)
	}
}

// redirector sends each path on to where it is told.
func redirector(to map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if next := to[r.URL.Path]; next != "" {
			http.Redirect(w, r, next, http.StatusFound)
		}
	}
}

func TestTransportKeepsTheTokenOnItsFirstHost(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	home, away := map[string]string{}, map[string]string{}
	a, b := f.api(redirector(home)), f.api(redirector(away))
	byName := strings.Replace(a.URL, "127.0.0.1", "localhost", 1)
	home["/same"] = "/end"
	home["/port"] = b.URL + "/end"
	home["/name"] = byName + "/end"
	home["/back"], away["/back"] = b.URL+"/back", a.URL+"/end"
	home["/again"] = a.URL + "/port" // one more hop before it leaves
	tok := "Bearer " + f.token(w, "acme").AccessToken
	client := w.client(t, "acme")
	for _, c := range []struct {
		path       string
		home, away []string
	}{
		{"/same", []string{tok, tok}, nil},
		{"/port", []string{tok}, []string{""}},
		{"/name", []string{tok, ""}, nil},
		{"/back", []string{tok, ""}, []string{""}},
		{"/again", []string{tok, tok}, []string{""}},
	} {
		atHome, atAway := len(a.calls()), len(b.calls())
		resp, err := client.Get(a.URL + c.path)
		answered(t, resp, err, 200)
		if got := a.calls()[atHome:]; !slices.Equal(got, c.home) {
			t.Errorf("%s: the first host saw %q", c.path, got)
		}
		if got := b.calls()[atAway:]; !slices.Equal(got, c.away) {
			t.Errorf("%s: the other host saw %q", c.path, got)
		}
	}
	// Nor does a header that the caller set himself get to another host.
	req := f.request("GET", a.URL+"/name", nil)
	req.Header.Set("Authorization", "mine")
	seen := len(a.calls())
	resp, err := client.Do(req)
	answered(t, resp, err, 200)
	if got := a.calls()[seen:]; !slices.Equal(got, []string{tok, ""}) {
		t.Errorf("with a header of the caller's: %q", got)
	}
}

func TestTransportDoesNotReportARefusalByAnotherHost(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	b := f.api(func(w http.ResponseWriter, _ *http.Request) { unauthorized(w) })
	a := f.api(redirector(map[string]string{"/": b.URL}))
	resp, err := w.client(t, "acme").Get(a.URL + "/")
	if got := answered(t, resp, err, 401); got != "refused" || len(b.calls()) != 1 {
		t.Errorf("%q after %d calls", got, len(b.calls()))
	}
	f.exchanges(0)
}

// hop is a request to url that redirects led to, by way of the others.
func (f *fleet) hop(urls ...string) *http.Request {
	var req *http.Request
	for _, u := range urls {
		next := f.request("GET", u, nil)
		if req != nil {
			next.Response = &http.Response{Request: req}
		}
		req = next
	}
	return req
}

func TestTransportTreatsHostsAsTheyAreDialed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker(func(cfg *refresh.Config) { cfg.InsecureHosts = []string{"Mixed.example", "side:8080", "[FD00::7]"} })
	f.connect(w, "acme", false)
	var sent string
	inner := reading{answer: status(200)}
	rt := w.Transport("acme", roundTrip(func(req *http.Request) (*http.Response, error) {
		sent = req.Header.Get("Authorization")
		return inner.answer()
	}))
	unknown := f.hop("https://a.example/", "https://a.example/")
	unknown.Response.Request = nil
	for _, c := range []struct {
		req  *http.Request
		want string
	}{
		{f.hop("https://a.example/", "https://A.example:443/x"), "token"},
		{f.hop("https://a.example:443/", "https://a.example/x"), "token"},
		{f.hop("https://a.example/", "https://a.example:444/"), "plain"},
		{f.hop("https://a.example/", "https://sub.a.example/"), "plain"},
		{f.hop("https://a.example/", "http://b.example/"), "plain"},
		{f.hop("https://a.example/", "https://b.example/", "https://a.example/"), "plain"},
		{f.hop("https://a.example/", "https://b.example/", "https://a.example/", "https://a.example/"), "plain"},
		{unknown, "plain"},

		{f.hop("http://a.example/"), "refused"},
		{f.hop("https://a.example/", "http://a.example/"), "refused"},
		{f.hop("https://a.example:99/", "http://a.example:99/"), "refused"},
		{f.hop("ftp://a.example/"), "refused"},
		{f.hop("http://10.0.0.1/"), "refused"},
		{f.hop("http://localhost.example/"), "refused"},
		{f.hop("http://LOCALHOST/"), "refused"},     // net/http may send these two
		{f.hop("http://api.localhost/"), "refused"}, // to a proxy
		{f.hop("http://127.0.0.1.example/"), "refused"},
		{f.hop("http://side/"), "refused"},
		{f.hop("http://mixed.example:81/"), "refused"},
		{f.hop("http://sub.mixed.example/"), "refused"},

		{f.hop("http://localhost:1234/"), "token"},
		{f.hop("http://127.8.8.8/"), "token"},
		{f.hop("http://[::1]:80/"), "token"},
		{f.hop("http://mixed.EXAMPLE:80/"), "token"},
		{f.hop("http://side:8080/"), "token"},
		{f.hop("http://[fd00::7]/"), "token"},
		{f.hop("http://mixed.example/", "https://mixed.example/"), "token"},
		{f.hop("https://mixed.example/", "http://mixed.example/"), "token"},
	} {
		sent = "nothing"
		_, err := rt.RoundTrip(c.req)
		switch {
		case c.want == "refused":
			e := kind(t, err, refresh.ErrClientConfig, "insecure_url")
			if sent != "nothing" || e.App != "zoom" || e.Tenant != "acme" || !strings.Contains(e.Error(), "InsecureHosts") {
				t.Errorf("%s: sent %q, %v", c.req.URL, sent, e)
			}
		case err != nil || (c.want == "token") != strings.HasPrefix(sent, "Bearer ") || (c.want == "plain") != (sent == ""):
			t.Errorf("%s: sent %q, %v, want %s", c.req.URL, sent, err, c.want)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestTransportAsksForNoTokenThatItMayNotSend(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	_, err := w.client(t, "acme").Get("http://api.example/?q=private")
	e := kind(t, err, refresh.ErrClientConfig, "insecure_url")
	if strings.Contains(e.Error(), "private") {
		t.Errorf("prints the query: %v", e)
	}
	f.exchanges(0)
}

func TestTransportRefusesARedirectToTheSameHostWithoutTLS(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	plain := f.api(nil)
	a := f.api(redirector(map[string]string{"/": "http://api.example/"}), withHTTP1)
	inner := a.Client().Transport.(*http.Transport)
	inner.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		to := map[string]string{"api.example:443": a.Listener.Addr().String(), "api.example:80": plain.Listener.Addr().String()}[addr]
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	inner.TLSClientConfig.ServerName = "example.com"
	_, err := (&http.Client{Transport: w.Transport("acme", inner)}).Get("https://api.example/")
	kind(t, err, refresh.ErrClientConfig, "insecure_url")
	if len(a.calls()) != 1 || len(plain.calls()) != 0 {
		t.Errorf("%d and %d calls, want 1 and none", len(a.calls()), len(plain.calls()))
	}
}

func TestTransportLeavesAMalformedRequestToItsBase(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	if _, err := f.worker().Transport("acme", base(t)).RoundTrip(&http.Request{}); err == nil || !strings.Contains(err.Error(), "nil Request.URL") {
		t.Errorf("got %v", err)
	}
}

func TestInsecureHostsAreHostsAsInURLs(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	var cfg refresh.Config
	f.worker(func(c *refresh.Config) { cfg = *c })
	for _, h := range []string{"", "http://sidecar", "sidecar/", "u@sidecar", "*.local", "fd00::7", "sidecar:", ":80", "sidecar:http", "side car", "sidecar?x"} {
		cfg.InsecureHosts = []string{"fine", h}
		if _, err := refresh.New(cfg); err == nil || !strings.Contains(err.Error(), "InsecureHosts") {
			t.Errorf("%q: %v", h, err)
		}
	}
	if cfg.InsecureHosts[0] != "fine" {
		t.Error("New changed the caller's slice")
	}
}

func TestClientUsesTheDefaultTransportAndClosesItsConnections(t *testing.T) {
	t.Parallel()
	f, w := killed(t)
	closed := make(chan struct{}, 1)
	a := f.api(nil, func(s *httptest.Server) {
		inner := s.Config.ConnState
		s.Config.ConnState = func(c net.Conn, state http.ConnState) {
			inner(c, state)
			if state != http.StateClosed {
				return
			}
			select {
			case closed <- struct{}{}:
			default: // a server of another test that ends closes all that is idle, too: there was more than one
			}
		}
	}, (*httptest.Server).Start)
	client := w.Client("acme")
	resp, err := client.Get(a.URL)
	answered(t, resp, err, 200)
	if client.Timeout != 0 {
		t.Error("a Timeout that nobody asked for")
	}
	client.CloseIdleConnections()
	<-closed
	f.exchanges(1)
}

func TestClientErrorsAreSeenThroughURLError(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	_, err := f.worker().Client("nobody").Get("https://api.example/")
	if e := kind(t, err, refresh.ErrNotConnected, ""); e.Tenant != "nobody" {
		t.Errorf("%+v", e)
	}
	if wrapped := (*url.Error)(nil); !errors.As(err, &wrapped) {
		t.Errorf("%T is not http.Client's", err)
	}
}
