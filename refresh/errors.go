package refresh

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/trouble"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// The kinds of errors say who acts next. Ask with errors.Is; errors.As with *Error
// tells the facts.
var (
	// ErrReauthorize: the tenant must act, and authorize the app again. Nothing else helps.
	ErrReauthorize = errors.New("the tenant must authorize the app again")
	// ErrClientConfig: the operator must act. Something is wrong with client id or secret, with the
	// scopes, with the keyset that seals the tokens, with a Redis that cannot do what is needed, or with
	// a profile by which answers cannot be read. The code and the cause say which. If the provider refuses one tenant as if it refused the
	// client, only that tenant gets this error. All tenants get it once several were refused, and
	// none was accepted in between.
	ErrClientConfig = errors.New("the operator must act")
	// ErrUnavailable: the provider or Redis does not answer usably. Try again after
	// Error.RetryAfter.
	ErrUnavailable = errors.New("unavailable for now, try again later")
	// ErrPending: a refresh is under way, and TryToken does not wait for it.
	ErrPending = errors.New("a refresh is under way")
	// ErrNotConnected: the tenant has never connected the app, or has disconnected it.
	ErrNotConnected = errors.New("the tenant has not connected the app")
)

// Error is every error about a grant. It never holds a token, a client secret or a
// response body.
type Error struct {
	App, Tenant string
	// Kind is one of the sentinels of this package.
	Kind error
	// Code is the provider's error code (RFC 6749 §5.2), or our own reason, such as
	// "lost_response".
	Code string
	// Status is the HTTP status of the provider's answer; 0 where there was none.
	Status int
	// RetryAfter is how long to wait before it makes sense to try again; 0 where
	// trying again does not help.
	RetryAfter time.Duration
	// Err is the cause; may be nil.
	Err error
}

// Error names the grant as [tokencache.Key] spells it, and is one line: tenants may choose
// their names, and a line feed in one must not begin a line of a log.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "refresh: %s: %v", tokencache.Key{App: e.App, Tenant: e.Tenant}, e.Kind)
	switch {
	case e.Code != "" && e.Status != 0:
		fmt.Fprintf(&b, " (%s, HTTP %d)", e.Code, e.Status)
	case e.Code != "":
		fmt.Fprintf(&b, " (%s)", e.Code)
	case e.Status != 0:
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, ", retry in %s", e.RetryAfter.Round(time.Millisecond))
	}
	if hint, ok := hints[e.Code]; ok {
		b.WriteString(": " + hint)
	}
	if cause := e.cause(); cause != nil {
		fmt.Fprintf(&b, ": %v", cause)
	}
	return oneLine(b.String())
}

// oneLine escapes, as Go does, what a terminal or a log does not print as it is.
func oneLine(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// cause returns what the text has not said yet.
func (e *Error) cause() error {
	var failed *provider.Error
	if errors.As(e.Err, &failed) {
		return failed.Err
	}
	return e.Err
}

// Unwrap makes errors.Is and errors.As see the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// hints say what people cannot guess from a code.
var hints = map[string]string{
	trouble.NotReplicated: "too few replicas of Redis acknowledge what is stored: see to them and to their links (INFO replication on the master), or lower Config.Replicas",
	trouble.ReadOnly:      "this client is connected to a replica: after a failover it finds the master by itself; else give it the master's address, or use a Sentinel or Cluster client",
	policy.ReasonLifetime: "this grant's access tokens die at the same age again and again, before the end that the provider says: set Profile.ExpiresInUnit or MaxAccessTokenLife",
	policy.ReasonExternal: "not the first time that this grant's tokens die before this fleet has used them: look for another program, a staging system perhaps, that refreshes the same grant",
}

var errSameToken = errors.New("the API refused the access token, and the provider answers a refresh with the same one")

// kindOf is the kind of error that says who acts next.
func kindOf(w policy.Who) error {
	switch w {
	case policy.WhoTenant:
		return ErrReauthorize
	case policy.WhoOperator:
		return ErrClientConfig
	case policy.WhoNotConnected:
		return ErrNotConnected
	default:
		return ErrUnavailable
	}
}

// dress makes a grant's trouble the error that callers see.
func dress(k tokencache.Key, t *policy.Trouble) *Error {
	return &Error{App: k.App, Tenant: k.Tenant, Kind: kindOf(t.Who), Code: t.Code, Status: t.Status, RetryAfter: t.Retry, Err: t.Why}
}
