package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/oauth2"
)

// exchangeTimeout ends an exchange whose ctx has no deadline.
const exchangeTimeout = 30 * time.Second

// newTransport is net/http's, except that a connection is kept for 2 s only.
// Bursts share connections, yet hardly any is reused that the server has already
// closed: such an exchange is ambiguous, and may cost a tenant its grant.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     2 * time.Second,
	}
}

// TokenEndpoint exchanges refresh tokens, or mints access tokens, at one token
// endpoint. [OAuth2], [PerTenant], [ClientCredentials] and [JWTBearer] make one. It is
// safe for concurrent use.
type TokenEndpoint struct {
	// Transport sends the requests. At first it is a [*http.Transport] that keeps
	// connections for 2 s only; change or replace it before the first exchange,
	// e.g. to trust a private CA. It must not repeat requests and must not log
	// them. An *http.Client in the exchange's ctx (oauth2.HTTPClient) is not looked
	// at. nil is http.DefaultTransport.
	Transport http.RoundTripper

	profile Profile
	host    string
	ask     func(Grant) (request, error) // a func: printers that walk fields find no secret
	asking  func() asking                // a func, too
	hosts   *hosts                       // nil: there is one
	where   func(Grant) string           // the address for a grant; nil: it is the same for all
}

// request is what one exchange asks.
type request struct {
	source  func(ctx context.Context) oauth2.TokenSource // writes it
	secrets []string                                     // that it presents; none may come back as an error code
	mints   bool                                         // it presents no refresh token
	client  credentials                                  // that ask
}

func newEndpoint(host string, p Profile, a asking, ask func(Grant) (request, error)) *TokenEndpoint {
	transport := newTransport()
	transport.TLSClientConfig = a.tls
	return &TokenEndpoint{Transport: transport, profile: p.clone(), host: host, ask: ask, asking: func() asking { return a }}
}

// Exchange asks for a new pair in one POST, and classifies the answer: see
// [Classify]. It ends with ctx, or after 30 s if ctx has no deadline. Its
// error is always an [*Error].
func (t *TokenEndpoint) Exchange(ctx context.Context, g Grant) (Pair, error) {
	if t.ask == nil {
		return Pair{}, &Error{Class: Unsent, Err: errNotBuilt}
	}
	req, err := t.ask(g)
	if err != nil {
		return Pair{}, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, exchangeTimeout)
		defer cancel()
	}
	d := &draft{ctx: ctx, grant: g, client: req.client}
	answer := t.post(ctx, req, d)
	pair, err := Classify(t.profile, answer, slices.Concat(req.secrets, d.secrets)...)
	err = t.asking().hear(d, answer, err)
	t.hosts.name(err, req.client.url)
	if req.mints {
		// Nothing here presents a refresh token (RFC 6749 §4.4.3 wants none sent): one that
		// is kept would be a secret more to lose.
		pair.RefreshToken, pair.RefreshTokenExpiresIn = "", 0
	}
	return pair, err
}

// post has x/oauth2 write the request and ignores what it makes of the answer:
// it drops pairs that it cannot parse, and its errors print secrets.
func (t *TokenEndpoint) post(ctx context.Context, req request, d *draft) Answer {
	if ctx.Err() != nil {
		return Answer{Err: endOf(ctx), Unsent: true}
	}
	shape := func(r *http.Request) error { return t.asking().shape(r, d) }
	once := &onePost{ctx: ctx, base: t.transport(), shape: shape}
	client := &http.Client{
		Transport:     once,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	_, err := req.source(context.WithValue(ctx, oauth2.HTTPClient, client)).Token()
	if !once.used {
		return Answer{Err: err, Unsent: true}
	}
	a := once.answer
	if a.Err != nil && ctx.Err() != nil {
		a.Err = errors.Join(endOf(ctx), a.Err)
	}
	return a
}

// endOf returns how a ctx ended: what kind of end it was, and its cause.
func endOf(ctx context.Context) error { return errors.Join(ctx.Err(), context.Cause(ctx)) }

func (t *TokenEndpoint) transport() http.RoundTripper {
	if t.Transport == nil {
		return http.DefaultTransport
	}
	return t.Transport
}

// CloseIdleConnections closes what Transport keeps open between exchanges.
func (t *TokenEndpoint) CloseIdleConnections() {
	if c, ok := t.transport().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// String leaves out what may be secret.
func (t TokenEndpoint) String() string { return "token endpoint at " + t.host + " [redacted]" }

// GoString keeps %#v from printing the client secret.
func (t TokenEndpoint) GoString() string { return "provider.TokenEndpoint{" + t.String() + "}" }

// Format keeps every verb from printing the client secret.
func (t TokenEndpoint) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(t.String())) }

// MarshalJSON keeps the client secret out of JSON.
func (t TokenEndpoint) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// LogValue keeps the client secret out of log/slog.
func (t TokenEndpoint) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalZerologObject keeps the client secret out of zerolog.
func (t TokenEndpoint) MarshalZerologObject(e *zerolog.Event) { e.Str("token_endpoint", t.host) }
