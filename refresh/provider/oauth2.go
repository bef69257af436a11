package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/oauth2"
)

// exchangeTimeout ends an exchange whose ctx has no deadline.
const exchangeTimeout = 30 * time.Second

var (
	errNoRefreshToken = errors.New("the grant has no refresh token: ask for one at consent (often the scope offline_access)")
	errNotBuilt       = errors.New("a TokenEndpoint is made by OAuth2")
)

// OAuth2 is a provider of the refresh_token grant (RFC 6749 §6). Its Exchanger
// is a [*TokenEndpoint].
//
// cfg needs ClientID, Endpoint.TokenURL (https, except on the loopback interface)
// and Endpoint.AuthStyle, for which p.AuthStyle stands in. Its other fields are
// not looked at: the scope is not sent again, so the grant keeps the one it has.
func OAuth2(cfg *oauth2.Config, p Profile) (Provider, error) {
	if cfg == nil || cfg.ClientID == "" {
		return Provider{}, errors.New("provider: OAuth2: ClientID is missing: it names your app to the token endpoint")
	}
	if err := p.Validate(); err != nil {
		return Provider{}, err
	}
	host, err := tokenHost(cfg.Endpoint.TokenURL)
	if err != nil {
		return Provider{}, err
	}
	style, err := authStyle(cfg.Endpoint.AuthStyle, p.AuthStyle)
	if err != nil {
		return Provider{}, err
	}
	own := oauth2.Config{
		ClientID:     cfg.ClientID,
		ClientSecret: cfg.ClientSecret,
		Endpoint:     oauth2.Endpoint{TokenURL: cfg.Endpoint.TokenURL, AuthStyle: style},
	}
	p = p.clone()
	return Provider{Profile: p, Exchanger: &TokenEndpoint{
		Transport: newTransport(),
		profile:   p.clone(),
		host:      host,
		config:    func() *oauth2.Config { c := own; return &c },
	}}, nil
}

// authStyle refuses auto-detection, which presents the refresh token a second
// time after any error of the first.
func authStyle(styles ...oauth2.AuthStyle) (oauth2.AuthStyle, error) {
	for _, s := range styles {
		if explicit(s) {
			return s, nil
		}
		if s != oauth2.AuthStyleAutoDetect {
			break
		}
	}
	return 0, errors.New("provider: OAuth2: Endpoint.AuthStyle must be explicit, auto-detection may present a refresh token twice: " +
		"write oauth2.AuthStyleInHeader (client_secret_basic) or oauth2.AuthStyleInParams (client_secret_post), as your provider's documentation says")
}

func explicit(s oauth2.AuthStyle) bool {
	return s == oauth2.AuthStyleInHeader || s == oauth2.AuthStyleInParams
}

// tokenHost checks the address that secrets are sent to. Its errors do not quote
// it, since it may hold some.
func tokenHost(raw string) (string, error) {
	if raw == "" {
		return "", errors.New("provider: OAuth2: Endpoint.TokenURL is missing")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "":
		return "", errors.New("provider: OAuth2: Endpoint.TokenURL is not an absolute URL")
	case u.User != nil:
		return "", errors.New("provider: OAuth2: Endpoint.TokenURL must not hold a user or password: write ClientID and ClientSecret")
	case u.Fragment != "":
		return "", errors.New("provider: OAuth2: Endpoint.TokenURL must not have a fragment (RFC 6749 §3.2)")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return u.Host, nil
	default:
		return "", errors.New("provider: OAuth2: Endpoint.TokenURL must be https: it is sent the refresh token and the client secret")
	}
}

func loopback(host string) bool {
	host = strings.ToLower(host)
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

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

// TokenEndpoint exchanges refresh tokens at one token endpoint. It is made by
// [OAuth2] and safe for concurrent use.
type TokenEndpoint struct {
	// Transport sends the requests. OAuth2 makes a [*http.Transport] that keeps
	// connections for 2 s only; change or replace it before the first exchange,
	// e.g. to trust a private CA. It must not repeat requests and must not log
	// them. An *http.Client in the exchange's ctx (oauth2.HTTPClient) is not looked
	// at. nil is http.DefaultTransport.
	Transport http.RoundTripper

	profile Profile
	host    string
	config  func() *oauth2.Config // a func: printers that walk fields do not reach the client secret
}

// Exchange presents g.RefreshToken in one POST and classifies the answer; see
// [Classify]. It ends with ctx, or after 30 s where ctx has no deadline. Its
// error is always an [*Error].
func (t *TokenEndpoint) Exchange(ctx context.Context, g Grant) (Pair, error) {
	if t.config == nil {
		return Pair{}, &Error{Class: Unsent, Err: errNotBuilt}
	}
	if g.RefreshToken == "" {
		return Pair{}, &Error{Class: Reauthorize, Err: errNoRefreshToken}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, exchangeTimeout)
		defer cancel()
	}
	cfg := t.config()
	return Classify(t.profile, t.post(ctx, cfg, g.RefreshToken), g.RefreshToken, g.AccessToken, cfg.ClientSecret)
}

// post has x/oauth2 write the request and ignores what it makes of the answer:
// it drops pairs that it cannot parse, and its errors print secrets.
func (t *TokenEndpoint) post(ctx context.Context, cfg *oauth2.Config, refreshToken string) Answer {
	if ctx.Err() != nil {
		return Answer{Err: endOf(ctx), Unsent: true}
	}
	once := &onePost{base: t.transport()}
	client := &http.Client{
		Transport:     once,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
	_, err := cfg.TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
	if !once.used {
		return Answer{Err: err, Unsent: true}
	}
	a := once.answer
	if a.Err != nil && ctx.Err() != nil {
		a.Err = errors.Join(endOf(ctx), a.Err)
	}
	return a
}

// endOf is how a ctx ended: what kind of end it was, and its cause.
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
