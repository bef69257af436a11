package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
)

// cause is why no answer came. The text of a transport's error may quote what
// the server sent, or the URL, so that text is written anew from parts known to
// be harmless. [errors.Is] sees through it; there is no way to the original.
type cause struct {
	text    string
	timeout bool
	is      func(error) bool // a func: printers that walk fields find nothing
}

// safeCause returns err in words that hold no token, body or URL.
func safeCause(err error) error {
	if err == nil {
		return nil
	}
	return &cause{
		text:    oneLine(safeText(err)), // a certificate's names are the server's choice
		timeout: timedOut(err),
		is:      func(target error) bool { return errors.Is(err, target) },
	}
}

func (c *cause) Error() string        { return c.text }
func (c *cause) Is(target error) bool { return c.is(target) }

// Timeout and Temporary make it a [net.Error].
func (c *cause) Timeout() bool   { return c.timeout }
func (c *cause) Temporary() bool { return c.timeout }

func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// Why no answer came, or why it ends early, as far as that is known here.
var (
	errBodyTooLong = errors.New("the answer is longer than 1 MiB")
	errSecondPost  = errors.New("an exchange is one request: a second one was refused")
	errNoResponse  = errors.New("the transport returned neither an answer nor an error")
	errNotBuilt    = errors.New("a TokenEndpoint is made by OAuth2, ClientCredentials or JWTBearer")
	errUnshaped    = errors.New("the request could not be written: the function given to Authenticate failed, or the body could not be read")
	errUnsigned    = errors.New("the request could not be signed: see to the key given to ClientAssertion or DPoP")
	errLate        = fmt.Errorf("the exchange's deadline passed before the request was sent, perhaps while this process was stopped: %w", context.DeadlineExceeded)
)

// plain are errors whose text is a constant.
var plain = []error{
	errLate, io.ErrUnexpectedEOF, io.EOF, net.ErrClosed, http.ErrSchemeMismatch,
	context.DeadlineExceeded, context.Canceled, os.ErrDeadlineExceeded,
	errBodyTooLong, errSecondPost, errNoResponse, errNotBuilt, errUnshaped, errUnsigned, errNoTenant,
}

// plainTexts are constant texts of net/http that have no exported error.
var plainTexts = []string{
	"http: server closed idle connection",
	"http2: client connection lost",
	"http2: timeout awaiting response headers",
	"net/http: TLS handshake timeout",
	"net/http: timeout awaiting response headers",
}

func safeText(err error) string {
	if s := connText(err); s != "" {
		return s
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if slices.Contains(plainTexts, e.Error()) || fmt.Sprintf("%T", e) == "tls.alert" {
			return e.Error()
		}
	}
	for _, e := range plain {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	if timedOut(err) {
		return "timeout"
	}
	return fmt.Sprintf("the transport failed (%T)", innermost(err))
}

// connText describes what failed before or below HTTP. No text in it comes from
// a server that had seen the request, save a TLS alert's number.
func connText(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Error()
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return cert.Error()
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return record.Error()
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		return ""
	}
	where := op.Op
	if op.Addr != nil {
		where += " " + op.Addr.Network() + " " + op.Addr.String()
	}
	if op.Err == nil {
		return where
	}
	return where + ": " + safeText(op.Err)
}

func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
