package provider

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Class says what a failed exchange means: whose fault it is, and whether the
// refresh token may have been spent.
type Class uint8

const (
	// Ambiguous: the request may have reached the server, and no usable answer
	// came. The refresh token may be spent. This is the zero value, since it is
	// the careful reading.
	Ambiguous Class = iota
	// Reauthorize: the provider refuses this refresh token (invalid_grant and
	// kin, RFC 6749 §5.2). The caller verifies that before it declares the grant dead.
	Reauthorize
	// AppRefused: the provider refuses the client (invalid_client), or says what is
	// mostly about the client (unauthorized_client, invalid_scope,
	// unsupported_grant_type, a 401 without a code, a redirect). The operator must
	// act. Only invalid_client is certain, see [Error.ClientRefused]: providers give the
	// other answers about one tenant, too.
	AppRefused
	// Throttled: 429, or slow_down in an answer other than 5xx. The request was not processed,
	// and nobody has to act: ask later. A 503 with Retry-After wants a pause as well,
	// but is Ambiguous: see [Error.Throttles].
	Throttled
	// Busy: the provider asks to retry later because another exchange of the
	// same grant is under way.
	Busy
	// Unsent: the request provably never left (DNS, dial, TLS).
	Unsent
	// Refused: an answer of 4xx that no rule knows. The request was not processed. Package
	// refresh tries again ever more rarely, in the end every 15 to 30 minutes.
	Refused
)

// String is the class as records, logs and metrics have it.
func (c Class) String() string {
	switch c {
	case Reauthorize:
		return "reauthorize"
	case AppRefused:
		return "app_refused"
	case Throttled:
		return "throttled"
	case Busy:
		return "busy"
	case Unsent:
		return "unsent"
	case Refused:
		return "refused"
	default:
		return "ambiguous"
	}
}

// MaybeSpent reports whether the refresh token may have been consumed without
// the new pair having arrived.
func (c Class) MaybeSpent() bool { return c == Ambiguous }

// Error is a failed exchange. It never holds a response body, a token, a client
// secret or an address with its query, neither in its text nor in its fields; a success that
// could not be read is there for [Error.TakeUnread] alone.
type Error struct {
	Class      Class
	Code       string        // provider's error code (RFC 6749 §5.2), sanitized; may be empty
	Status     int           // HTTP status; 0 when no answer came
	RetryAfter time.Duration // the provider's wish (RFC 9110 §10.2.3); 0 when unsaid
	RequestID  string        // the answer's, by which the provider's support finds it; may be empty
	Err        error         // cause, without token material; may be nil. errors.Is works through it
	// Host is the token endpoint's where that depends on the tenant; else empty. A refusal of the client
	// or a wish for a pause is that host's then, until a second host says the same.
	Host string

	unread  *unread // nil for none
	again   bool
	unasked bool
}

// Error is one line, whatever stands in the fields.
func (e *Error) Error() string {
	s := "provider: " + e.Class.String()
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Status != 0 {
		s += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return oneLine(s)
}

// oneLine escapes, as Go does, what a terminal or a log does not print as it is.
func oneLine(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// Throttles reports whether the provider wishes for fewer requests: it answered
// 429, slow_down, or 503 with a Retry-After, or a rule of the profile says so. That
// is about the app's requests and says nothing about the refresh token, which a 503
// may have spent: see [Class.MaybeSpent]. RetryAfter is 0 where no length was said.
func (e *Error) Throttles() bool {
	return e.Class == Throttled || strings.EqualFold(e.Code, "slow_down") ||
		e.Status == http.StatusServiceUnavailable && e.RetryAfter > 0
}

// ClientRefused reports whether the provider said in so many words that it does not
// know this client or its secret: the code invalid_client (RFC 6749 §5.2), whatever
// the status. Any other [AppRefused] is weaker evidence, and may be about one tenant.
func (e *Error) ClientRefused() bool {
	return e.Class == AppRefused && strings.EqualFold(e.Code, "invalid_client")
}

// AskAgain reports whether the provider refused the request without looking at the refresh token, and said
// what it misses: the same exchange may ask once more at once. So it is where [DPoP] did not know the
// server's nonce (RFC 9449 §8).
func (e *Error) AskAgain() bool { return e.again }

// NotAsked reports whether the provider was not asked at all, since there is no address, or no client, for
// this tenant ([PerTenant]). It is an [AppRefused] that says nothing about the app.
func (e *Error) NotAsked() bool { return e.unasked }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
