package refresh

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/internal/bearer"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Client returns an HTTP client that sends every request with the tenant's access token. After a
// 401 it sends the request once more, with a newer token. See Transport for what it does and which
// errors it returns. A webhook worker writes
//
//	resp, err := tokens.Client("acme").Get(url)
//
// and is done. Client sets no Timeout: set one, or give the requests a ctx that ends. A client is
// cheap to make: all share the connections of [http.DefaultTransport].
func (c *Coordinator) Client(tenant string) *http.Client {
	return &http.Client{Transport: c.Transport(tenant, nil)}
}

// Transport returns a RoundTripper that adds the tenant's access token to requests and sends them
// by base, which is [http.DefaultTransport] if nil. It sets Authorization on a copy of the request,
// whatever the caller has set there. It waits for a token until the request's own ctx ends.
//
// A 401 is about the token if its Bearer challenge says so, or does not say what it is about (RFC
// 6750 §3.1). Transport reports such a 401 with [Coordinator.Reject], which limits what an API can
// cause that goes on refusing. Then it sends the request once more with the newer token, and
// returns the second answer whatever it is. It returns a 401 that names another reason, such as
// insufficient_scope, and every 403, at once.
//
// Transport handles responses that provider.Profile's APIRefusals or Config.Refused name like such
// a 401, whatever their status. For that it looks at up to 16 KiB of a body, and only if a rule is
// about its status.
//
// The second attempt needs the request's body again. Transport takes it from GetBody, which
// [http.NewRequest] sets for bytes and strings. Otherwise it keeps what the first attempt has
// read, in a buffer of up to 1 MiB per request. The body may be longer, if less than that was read
// before the 401. If the buffer is not enough, the caller must send the request again; the newer
// token is there then.
//
// The token goes to one host: the one that the first request of a row of redirects was for.
// Once a redirect leads to another host or port, requests are sent without the token, even back at
// the first host. The token goes over https only, except to the loopback interface and to
// Config.InsecureHosts (RFC 6750 §5.3).
//
// An error comes without a response. Besides the errors of base and of Token these are possible.
// errors.As finds the *Error also in http.Client's *url.Error:
//
//   - what Reject returns after a 401, e.g. ErrReauthorize; the text names the API's host
//   - ErrUnavailable, Code "body_not_replayable", Status of the refusal: send the request again
//   - ErrClientConfig, Code "insecure_url": nothing was sent
//   - the cause with which the request's ctx ended
func (c *Coordinator) Transport(tenant string, base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{
		c: c, tenant: tenant, base: base, token: c.handle(tenant),
		known: refusals{c.cfg.Provider.Profile.APIRefusals, c.cfg.Refused},
	}
}

type transport struct {
	c      *Coordinator
	tenant string
	base   http.RoundTripper
	token  func(context.Context) (*oauth2.Token, error)
	known  refusals
}

// Format names the grant, whatever the verb: what is inside changes all the time.
func (t *transport) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "refresh.Transport(%s)", t.c.key(t.tenant))
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (t *transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ours, err := t.entitled(req)
	if err != nil {
		bearer.CloseBody(req)
		return nil, err
	}
	if !ours {
		return t.base.RoundTrip(req)
	}
	tok, err := t.token(req.Context())
	if err != nil {
		bearer.CloseBody(req)
		return nil, err
	}
	body, first := req.Body, bearer.TeeBody(req)
	if first != nil {
		body = first
	}
	resp, err := t.send(req, body, tok)
	if err != nil || !t.known.refuses(resp) {
		first.Release()
		return resp, err
	}
	bearer.Drain(resp.Body)
	return t.again(req, first, tok.AccessToken, resp.StatusCode)
}

// entitled reports whether a request may carry the access token. It may not once a
// redirect has led to another host: that one would get the token of an API it is not, and
// might send the caller back with a URL of its own making. The error is for a request
// that would carry it unencrypted.
func (t *transport) entitled(req *http.Request) (bool, error) {
	if req.URL == nil || !bearer.Stayed(req) {
		return false, nil // without a URL the base says what is wrong
	}
	if !t.private(req.URL) {
		err := fmt.Errorf("the access token is not sent to %q over %q: use https, or list %[3]q in Config.InsecureHosts", req.URL.Host, req.URL.Scheme, bearer.HostPort(req.URL))
		t.c.insecure.note(t.tenant, err)
		return false, t.error(ErrClientConfig, "insecure_url", err)
	}
	return true, nil
}

// private reports whether nobody on the way can read what is sent there.
func (t *transport) private(u *url.URL) bool {
	switch u.Scheme {
	case "https":
		return true
	case "http":
		return provider.Loopback(u.Hostname()) || slices.Contains(t.c.cfg.InsecureHosts, bearer.HostPort(u))
	}
	return false
}

// send sends a copy of the request. The response is one to the caller's own request:
// a program that prints resp.Request shows no token, and http.Client finds the trail of redirects.
func (t *transport) send(req *http.Request, body io.ReadCloser, tok *oauth2.Token) (*http.Response, error) {
	out := req.WithContext(req.Context())
	if out.Header = req.Header.Clone(); out.Header == nil {
		out.Header = http.Header{}
	}
	out.Body = body
	tok.SetAuthHeader(out)
	resp, err := t.base.RoundTrip(out)
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

// again is the second attempt, after the API has refused the access token.
func (t *transport) again(req *http.Request, first *bearer.Tee, refused string, status int) (*http.Response, error) {
	tok, err := t.newer(req, refused, status)
	if err != nil {
		first.Abandon()
		return nil, err
	}
	body, err := bearer.BodyAgain(req, first)
	if err != nil {
		first.Abandon()
		return nil, t.notReplayed(req, status, err)
	}
	return t.send(req, body, tok)
}

// newer is the token after the refused one. The request's ctx may end meanwhile.
func (t *transport) newer(req *http.Request, refused string, status int) (*oauth2.Token, error) {
	ctx := req.Context()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	err := t.c.Reject(ctx, t.tenant, refused)
	if err == nil {
		var tok *oauth2.Token
		if tok, err = t.token(ctx); err == nil {
			return tok, nil
		}
	}
	return nil, fmt.Errorf("refresh: the API at %s answered %d to the access token, and there is no newer one: %w", req.URL.Host, status, err)
}

// notReplayed is the error of a request that was refused and could not be sent again.
func (t *transport) notReplayed(req *http.Request, status int, why error) error {
	if ctx := req.Context(); ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := t.error(ErrUnavailable, "body_not_replayable", fmt.Errorf(
		"the API at %s refused the access token; a newer one is ready now, but %w: send the request again, or set GetBody", req.URL.Host, why))
	err.Status, err.RetryAfter = status, time.Millisecond
	return err
}

func (t *transport) error(kind error, code string, cause error) *Error {
	return &Error{App: t.c.cfg.App, Tenant: t.tenant, Kind: kind, Code: code, Err: cause}
}
