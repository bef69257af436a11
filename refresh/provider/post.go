package provider

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

var errSealed = errors.New("the exchange is over: nothing more is sent")

// onePost is the transport of one exchange: it lets one request through and
// keeps the answer, of which x/oauth2 would throw away what it cannot parse.
type onePost struct {
	// ctx is the exchange's. The request need not carry it: x/oauth2/jwt posts with
	// none at all, and would hang as long as the server does.
	ctx    context.Context
	base   http.RoundTripper
	shape  func(*http.Request) error // makes it what is sent; nil changes nothing
	used   bool                      // no mutex: http.Client calls RoundTrip on its caller's goroutine
	answer Answer
}

// RoundTrip sends a request that cannot be sent twice. Given a way to rewind the
// body (GetBody), net/http repeats a request on a new connection when a reused
// one turns out to be dead, and HTTP/2 also when the server goes away.
func (o *onePost) RoundTrip(req *http.Request) (*http.Response, error) {
	if o.used {
		closeBody(req.Body)
		return nil, errSecondPost
	}
	o.used = true
	once := req.Clone(o.ctx)
	once.GetBody = nil
	if o.shape != nil && once.Body != nil {
		if err := o.shape(once); err != nil {
			o.answer = Answer{Err: err, Unsent: true}
			return nil, err
		}
	}
	body := &tellingBody{ctx: o.ctx, body: once.Body, read: once.Body == nil}
	once.Body = body

	resp, err := o.base.RoundTrip(once)
	if err == nil && resp == nil {
		err = errNoResponse
	}
	if err != nil {
		o.answer = Answer{Err: err, Unsent: body.seal()}
		return nil, err
	}
	o.answer = readAnswer(resp)
	resp.Body = io.NopCloser(bytes.NewReader(o.answer.Body))
	return resp, nil
}

func readAnswer(resp *http.Response) Answer {
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	if resp.Body == nil {
		return a
	}
	defer closeBody(resp.Body)
	a.Body, a.Err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if len(a.Body) > maxBody {
		a.Body, a.Err = a.Body[:maxBody], errBodyTooLong
	}
	return a
}

// tellingBody knows whether any byte of the request's body was taken. The
// refresh token leaves in the body and in nothing else, so a body that was never
// read proves that it did not leave: no address, no connection, no TLS, no turn
// in the pool. Unlike a trace of the connection, this holds for any transport
// and for HTTP/2.
type tellingBody struct {
	ctx context.Context // the exchange's

	mu     sync.Mutex // guards all below: transports read on their own goroutine
	body   io.ReadCloser
	read   bool
	sealed bool
}

// Read looks at the clock, for a deadline that only a timer keeps does not hold to the
// write on the socket:
//  1. the process is stopped during DNS, dial or TLS, for longer than the exchange may
//     take, and another process presents the refresh token;
//  2. it goes on: the ctx's timer and the finished connection are ready together;
//  3. net/http takes either, and may come here for the body.
//
// The clock is Go's monotonic one, which stands still while the machine is suspended.
func (b *tellingBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sealed {
		return 0, errSealed
	}
	if err := Sending(b.ctx); err != nil {
		return 0, err
	}
	b.read = true
	return b.body.Read(p)
}

func (b *tellingBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return closeBody(b.body)
}

// seal reports whether the body was never read, and keeps it so:
//  1. the caller's ctx ends just as the request is handed to a connection;
//  2. RoundTrip returns, its body unread, and the exchange is called unsent;
//  3. the connection's goroutine comes to the body now, and must find nothing.
func (b *tellingBody) seal() (unsent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sealed = true
	return !b.read
}

func closeBody(body io.Closer) error {
	if body == nil {
		return nil
	}
	return body.Close()
}
