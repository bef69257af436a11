package provider

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

var grant = Grant{App: "zoom", Tenant: "acme", Generation: 7, AccessToken: canaryAccess, RefreshToken: canaryRefresh}

// endpoint is an exchanger for a token endpoint at url.
func endpoint(t *testing.T, url string, p Profile) *TokenEndpoint {
	t.Helper()
	pr, err := OAuth2(&oauth2.Config{
		ClientID:     "id",
		ClientSecret: canarySecret,
		Endpoint:     oauth2.Endpoint{TokenURL: url, AuthStyle: oauth2.AuthStyleInHeader},
	}, p)
	if err != nil {
		t.Fatal(err)
	}
	ep := pr.Exchanger.(*TokenEndpoint)
	t.Cleanup(ep.CloseIdleConnections)
	return ep
}

// counting serves h and counts its requests.
func counting(t *testing.T, h http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s, &n
}

func ctxFor(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// refuses checks that an exchange fails as it should and says nothing secret.
func refuses(t *testing.T, ep *TokenEndpoint, ctx context.Context, want Class) *Error {
	t.Helper()
	_, err := ep.Exchange(ctx, grant)
	e := asError(t, err)
	if e.Class != want {
		t.Errorf("got %s, want %s: %v", e.Class, want, e)
	}
	for _, s := range []string{e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
		if strings.Contains(s, "CANARY") {
			t.Errorf("leaks: %s", s)
		}
	}
	return e
}

func TestAnExchangeAsksAsRFC6749Says(t *testing.T) {
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		s, n := counting(t, func(w http.ResponseWriter, r *http.Request) {
			id, secret, basic := r.BasicAuth()
			if !basic {
				id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
			}
			if r.Method != "POST" || basic != (style == oauth2.AuthStyleInHeader) || id != "id" || secret != canarySecret {
				t.Errorf("%s, basic %t, id %q", r.Method, basic, id)
			}
			if r.PostFormValue("grant_type") != "refresh_token" || r.PostFormValue("refresh_token") != canaryRefresh || r.PostForm.Has("scope") {
				t.Errorf("form keys: %d", len(r.PostForm))
			}
			fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q,"expires_in":60}`, canaryNew, canaryNewRT)
		})
		pr, err := OAuth2(&oauth2.Config{
			ClientID: "id", ClientSecret: canarySecret, Scopes: []string{"not sent"},
			Endpoint: oauth2.Endpoint{TokenURL: s.URL},
		}, Profile{AuthStyle: style})
		if err != nil {
			t.Fatal(err)
		}
		pair, err := pr.Exchanger.Exchange(t.Context(), grant)
		if err != nil || pair.AccessToken != canaryNew || pair.RefreshToken != canaryNewRT || pair.ExpiresIn != time.Minute {
			t.Errorf("%v, %v", pair, err)
		}
		if n.Load() != 1 {
			t.Errorf("%d requests", n.Load())
		}
		pr.Exchanger.(*TokenEndpoint).CloseIdleConnections()
	}
}

func TestOneExchangeIsOnePostWhateverTheAnswer(t *testing.T) {
	for _, status := range []int{200, 301, 302, 303, 307, 308, 400, 401, 403, 407, 408, 409, 421, 425, 429, 500, 502, 503, 504} {
		s, n := counting(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", r.URL.Path)
			w.Header().Set("WWW-Authenticate", "Basic")
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(status)
		})
		_, err := endpoint(t, s.URL, Profile{}).Exchange(t.Context(), grant)
		if e := asError(t, err); e.Status != status || n.Load() != 1 {
			t.Errorf("%d: %v after %d requests", status, e, n.Load())
		}
		s.Close()
	}
}

func TestARedirectIsRefusedEvenWithALocationNobodyCanRead(t *testing.T) {
	s, n := counting(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Location"] = []string{"https://x/?token=" + canaryRefresh + "%zz:/\\"}
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	e := refuses(t, endpoint(t, s.URL, Profile{}), t.Context(), AppRefused)
	if n.Load() != 1 || !errors.Is(e, errRedirect) {
		t.Errorf("%v after %d requests", e, n.Load())
	}
}

// rawServer hands each connection to serve, on a goroutine that the test awaits.
func rawServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String()
}

// readPost reads one whole request.
func readPost(r *bufio.Reader) error {
	req, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err
}

func TestOneExchangeIsOnePostEvenWhenTheReusedConnectionIsDead(t *testing.T) {
	var posts, conns atomic.Int32
	url := rawServer(t, func(c net.Conn) {
		conns.Add(1)
		r := bufio.NewReader(c)
		for readPost(r) == nil {
			if posts.Add(1) == 2 {
				return // the second request gets no answer: the reused connection dies under it
			}
			body := `{"access_token":"a","refresh_token":"r"}`
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
	ep := endpoint(t, url, Profile{})
	if _, err := ep.Exchange(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	refuses(t, ep, t.Context(), Ambiguous)
	if posts.Load() != 2 || conns.Load() != 1 {
		t.Errorf("%d posts on %d connections, want 2 on 1: resent, or not reused", posts.Load(), conns.Load())
	}
}

// breakable is a connection on which nothing can be written once it is broken.
type breakable struct {
	net.Conn
	broken *atomic.Bool
}

func (c breakable) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// Given GetBody, net/http would dial again here and repeat the request.
func TestARequestThatFailsOnADeadConnectionIsNotMovedToAnother(t *testing.T) {
	s, n := counting(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"access_token":"a","refresh_token":"r"}`)
	})
	var dials atomic.Int32
	var broken atomic.Bool
	ep := endpoint(t, s.URL, Profile{})
	ep.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return breakable{c, &broken}, err
	}
	if _, err := ep.Exchange(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	refuses(t, ep, t.Context(), Unsent) // the headers failed already, so the body was never read
	if n.Load() != 1 || dials.Load() != 1 {
		t.Errorf("%d requests on %d connections", n.Load(), dials.Load())
	}
}

func TestACtxWithoutADeadlineGetsOne(t *testing.T) {
	ep := endpoint(t, "https://token.invalid", Profile{})
	ep.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		at, ok := r.Context().Deadline()
		if left := time.Until(at); !ok || left > exchangeTimeout || left < exchangeTimeout/2 {
			t.Errorf("%s left, %t", left, ok)
		}
		return nil, io.EOF
	})
	refuses(t, ep, context.Background(), Unsent)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestASecondRequestOfOneExchangeIsRefused(t *testing.T) {
	var sent int
	once := &onePost{ctx: t.Context(), base: roundTrip(func(*http.Request) (*http.Response, error) {
		sent++
		return &http.Response{StatusCode: 400}, nil
	})}
	for range 3 {
		req, _ := http.NewRequest("POST", "http://x", strings.NewReader("x"))
		if resp, err := once.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		} else if !errors.Is(err, errSecondPost) {
			t.Error(err)
		}
	}
	if sent != 1 || once.answer.Status != 400 {
		t.Errorf("sent %d, answer %v", sent, once.answer)
	}
}

func TestARefusedConnectionIsUnsent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	_ = l.Close()
	e := refuses(t, endpoint(t, url+"/?k=CANARY", Profile{}), t.Context(), Unsent)
	if !errors.Is(e, syscall.ECONNREFUSED) || !strings.Contains(e.Error(), "connection refused") {
		t.Error(e)
	}
}

func TestAnUnknownHostIsUnsent(t *testing.T) {
	ep := endpoint(t, "https://token.invalid/x", Profile{})
	ep.Transport.(*http.Transport).Proxy = nil
	var dns *net.DNSError
	ep.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "token.invalid", IsNotFound: true}}
	}
	e := refuses(t, ep, t.Context(), Unsent)
	if errors.As(e, &dns) || !strings.Contains(e.Error(), "no such host") {
		t.Error(e)
	}
}

func TestAFailedTLSHandshakeIsUnsent(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	s.Config.ErrorLog = silent
	s.StartTLS()
	defer s.Close()
	e := refuses(t, endpoint(t, s.URL, Profile{}), t.Context(), Unsent) // its CA is not trusted
	if !strings.Contains(e.Error(), "certificate") {
		t.Error(e)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	refuses(t, endpoint(t, strings.Replace(plain.URL, "http", "https", 1), Profile{}), t.Context(), Unsent)
}

func TestACtxThatEndsWhileDialingIsUnsent(t *testing.T) {
	ep := endpoint(t, "http://127.0.0.1:1", Profile{})
	ep.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	e := refuses(t, ep, ctxFor(t, 20*time.Millisecond), Unsent)
	if !errors.Is(e, context.DeadlineExceeded) {
		t.Error(e)
	}
}

func TestAnEndedCtxSendsNothingAndKeepsItsCause(t *testing.T) {
	s, n := counting(t, func(http.ResponseWriter, *http.Request) {})
	why := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	e := refuses(t, endpoint(t, s.URL, Profile{}), ctx, Unsent)
	if n.Load() != 0 || !errors.Is(e, why) || !errors.Is(e, context.Canceled) {
		t.Errorf("%v after %d requests", e, n.Load())
	}
}

func TestAPoolWithoutAFreeConnectionIsUnsent(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	s, n := counting(t, func(http.ResponseWriter, *http.Request) { close(arrived); <-leave })
	ep := endpoint(t, s.URL, Profile{})
	ep.Transport.(*http.Transport).MaxConnsPerHost = 1
	first := make(chan error, 1)
	go func() { _, err := ep.Exchange(context.Background(), grant); first <- err }()
	<-arrived
	refuses(t, ep, ctxFor(t, 30*time.Millisecond), Unsent)
	close(leave)
	<-first
	if n.Load() != 1 {
		t.Errorf("%d requests", n.Load())
	}
}

func TestAResetAfterTheRequestIsAmbiguous(t *testing.T) {
	url := rawServer(t, func(c net.Conn) {
		_ = readPost(bufio.NewReader(c))
		_ = c.(*net.TCPConn).SetLinger(0)
	})
	e := refuses(t, endpoint(t, url, Profile{}), t.Context(), Ambiguous)
	if !errors.Is(e, syscall.ECONNRESET) {
		t.Error(e)
	}
}

func TestACloseAfterTheRequestIsAmbiguous(t *testing.T) {
	url := rawServer(t, func(c net.Conn) { _ = readPost(bufio.NewReader(c)) })
	e := refuses(t, endpoint(t, url, Profile{}), t.Context(), Ambiguous)
	if !errors.Is(e, io.EOF) {
		t.Error(e)
	}
}

// deadline is a ctx whose deadline comes with an event.
type deadline struct {
	context.Context
	comes <-chan struct{}
}

func (d deadline) Done() <-chan struct{}       { return d.comes }
func (d deadline) Deadline() (time.Time, bool) { return time.Now().Add(time.Hour), true }

func (d deadline) Err() error {
	select {
	case <-d.comes:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestAHangUntilTheDeadlineIsAmbiguous(t *testing.T) {
	leave, arrived := make(chan struct{}), make(chan struct{})
	s, n := counting(t, func(_ http.ResponseWriter, r *http.Request) { close(arrived); <-leave })
	defer close(leave)
	e := refuses(t, endpoint(t, s.URL, Profile{}), deadline{context.Background(), arrived}, Ambiguous)
	var ne net.Error
	if !errors.Is(e, context.DeadlineExceeded) || !errors.As(e, &ne) || !ne.Timeout() || n.Load() != 1 {
		t.Errorf("%v after %d requests", e, n.Load())
	}
}

func TestAnAnswerThatIsNoHTTPIsAmbiguousAndNotQuoted(t *testing.T) {
	url := rawServer(t, func(c net.Conn) {
		_ = readPost(bufio.NewReader(c))
		fmt.Fprintf(c, "%s %s\r\n\r\n", canaryRefresh, canarySecret)
	})
	refuses(t, endpoint(t, url, Profile{}), t.Context(), Ambiguous)
}

func TestAPairIsKeptWhenTheBodyBreaksOffAfterIt(t *testing.T) {
	url := rawServer(t, func(c net.Conn) {
		_ = readPost(bufio.NewReader(c))
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"+`{"access_token":"a","refresh_token":"r","id_token":"e`)
	})
	pair, err := endpoint(t, url, Profile{}).Exchange(t.Context(), grant)
	if err != nil || pair.AccessToken != "a" || pair.RefreshToken != "r" {
		t.Errorf("%v, %v", pair, err)
	}
}

func TestAPairIsKeptThatXOAuth2CannotParse(t *testing.T) {
	for _, body := range []string{
		`{"access_token":"a","refresh_token":"r","expires_in":3600.0}`,
		`{"access_token":"a","refresh_token":"r","expires_in":1e3}`,
		`{"access_token":"a","refresh_token":"r","expires_in":""}`,
		`{"access_token":"a","refresh_token":"r","error":"none"}`,
		`{"access_token":"a","refresh_token":"r","pad":"` + strings.Repeat("x", maxBody) + `"}`,
	} {
		s, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		})
		pair, err := endpoint(t, s.URL, Profile{}).Exchange(t.Context(), grant)
		if err != nil || pair.AccessToken != "a" || pair.RefreshToken != "r" {
			t.Errorf("%.70s: %v, %v", body, pair, err)
		}
		s.Close()
	}
}

func TestABodyWithoutEndIsReadToItsBound(t *testing.T) {
	var served atomic.Int64
	s, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) {
		block := bytes.Repeat([]byte("x"), 64<<10)
		for {
			n, err := w.Write(block)
			served.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	e := refuses(t, endpoint(t, s.URL, Profile{}), ctxFor(t, 10*time.Second), Ambiguous)
	if !errors.Is(e, errBodyTooLong) {
		t.Errorf("%v after %d bytes", e, served.Load())
	}
}

func TestHTTP2ObeysTheSameRules(t *testing.T) {
	var n atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.ProtoMajor != 2 {
			t.Errorf("proto %s", r.Proto)
		}
		if n.Add(1) == 2 {
			panic(http.ErrAbortHandler) // RST_STREAM
		}
		fmt.Fprint(w, `{"access_token":"a","refresh_token":"r"}`)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = silent
	s.StartTLS()
	defer s.Close()
	ep := endpoint(t, s.URL, Profile{})
	ep.Transport = s.Client().Transport
	if _, err := ep.Exchange(t.Context(), grant); err != nil {
		t.Fatal(err)
	}
	refuses(t, ep, t.Context(), Ambiguous)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	refuses(t, ep, ctx, Unsent)
	if n.Load() != 2 {
		t.Errorf("%d requests", n.Load())
	}
}

func TestABodyCalledUnsentCannotLeaveLater(t *testing.T) {
	b := &tellingBody{ctx: t.Context(), body: io.NopCloser(strings.NewReader(canaryRefresh))}
	if !b.seal() {
		t.Fatal("an unread body is not unsent")
	}
	if got, err := io.ReadAll(b); len(got) != 0 || !errors.Is(err, errSealed) {
		t.Errorf("%d bytes left after all, %v", len(got), err)
	}
	read := &tellingBody{ctx: t.Context(), body: io.NopCloser(strings.NewReader("x"))}
	_, _ = read.Read(make([]byte, 1))
	if read.seal() {
		t.Error("a read body is called unsent")
	}
}

func TestATransportOfOnesOwnIsTrustedOnlyAsFarAsItReads(t *testing.T) {
	quote := errors.New("sent refresh_token=" + canaryRefresh + " with " + canarySecret)
	for _, tt := range []struct {
		f    roundTrip
		want Class
	}{
		{func(*http.Request) (*http.Response, error) { return nil, quote }, Unsent},
		{func(r *http.Request) (*http.Response, error) {
			_, _ = r.Body.Read(make([]byte, 1))
			return nil, quote
		}, Ambiguous},
		{func(r *http.Request) (*http.Response, error) {
			_, _ = io.Copy(io.Discard, r.Body)
			return nil, nil
		}, Ambiguous},
	} {
		ep := endpoint(t, "https://token.invalid", Profile{})
		ep.Transport = tt.f
		refuses(t, ep, t.Context(), tt.want)
	}
}

func TestAClientInTheCtxIsNotUsed(t *testing.T) {
	s, n := counting(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"access_token":"a"}`) })
	hijack := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("used")
		return nil, io.EOF
	})}
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, hijack)
	if _, err := endpoint(t, s.URL, Profile{}).Exchange(ctx, grant); err != nil || n.Load() != 1 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

func TestAGrantWithoutARefreshTokenNeedsItsTenant(t *testing.T) {
	ep := endpoint(t, "https://token.invalid", Profile{})
	_, err := ep.Exchange(t.Context(), Grant{App: "a", Tenant: "t"})
	if e := asError(t, err); e.Class != Reauthorize || !strings.Contains(e.Error(), "offline_access") {
		t.Error(e)
	}
	_, err = (&TokenEndpoint{}).Exchange(t.Context(), grant)
	if e := asError(t, err); e.Class != Unsent {
		t.Error(e)
	}
}

func TestOAuth2RefusesWhatWouldGoWrongLater(t *testing.T) {
	good := func() *oauth2.Config {
		return &oauth2.Config{ClientID: "id", ClientSecret: canarySecret,
			Endpoint: oauth2.Endpoint{TokenURL: "https://host/token?k=CANARY", AuthStyle: oauth2.AuthStyleInParams}}
	}
	with := func(f func(*oauth2.Config)) *oauth2.Config { c := good(); f(c); return c }
	url := func(u string) *oauth2.Config { return with(func(c *oauth2.Config) { c.Endpoint.TokenURL = u }) }
	style := func(s oauth2.AuthStyle) *oauth2.Config {
		return with(func(c *oauth2.Config) { c.Endpoint.AuthStyle = s })
	}
	for _, tt := range []struct {
		cfg  *oauth2.Config
		p    Profile
		want string
	}{
		{nil, Profile{}, "ClientID"},
		{with(func(c *oauth2.Config) { c.ClientID = "" }), Profile{}, "ClientID"},
		{style(0), Profile{}, "write oauth2.AuthStyleInHeader"},
		{style(9), Zoom(), "Endpoint.AuthStyle"},
		{good(), Profile{AuthStyle: 9}, "AuthStyle"},
		{good(), Profile{Replay: ReplayGrace}, "Grace"},
		{url(""), Profile{}, "TokenURL is missing"},
		{url("/token?k=CANARY"), Profile{}, "TokenURL is not an absolute"},
		{url("https://h\x00/CANARY"), Profile{}, "TokenURL is not an absolute"},
		{url("http://host/CANARY"), Profile{}, "must be https"},
		{url("http://10.0.0.1/"), Profile{}, "must be https"},
		{url("http://localhost.example.com/"), Profile{}, "must be https"},
		{url("ftp://localhost/"), Profile{}, "must be https"},
		{url("https://user:CANARY@host/"), Profile{}, "user or password"},
		{url("https://host/#CANARY"), Profile{}, "fragment"},
	} {
		_, err := OAuth2(tt.cfg, tt.p)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("want %q: %v", tt.want, err)
		}
	}
	for _, u := range []string{"https://host", "http://localhost:1/", "http://127.0.0.1/", "http://[::1]:8080/", "http://[::ffff:127.0.0.1]/"} {
		if _, err := OAuth2(url(u), Profile{}); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	if _, err := OAuth2(style(0), Zoom()); err != nil {
		t.Errorf("the profile's style does not stand in: %v", err)
	}
}

func TestLaterChangesToWhatOAuth2WasGivenHaveNoEffect(t *testing.T) {
	s, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"odd"}`)
	})
	p := Profile{Codes: map[string]Class{"odd": Busy}}
	cfg := &oauth2.Config{ClientID: "id", Endpoint: oauth2.Endpoint{TokenURL: s.URL, AuthStyle: oauth2.AuthStyleInParams}}
	pr, err := OAuth2(cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	p.Codes["odd"] = AppRefused
	pr.Profile.Codes["odd"] = AppRefused
	cfg.Endpoint.TokenURL = "https://elsewhere.invalid"
	ep := pr.Exchanger.(*TokenEndpoint)
	t.Cleanup(ep.CloseIdleConnections)
	refuses(t, ep, t.Context(), Busy)
}
