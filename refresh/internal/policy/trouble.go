package policy

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Who acts next.
type Who uint8

const (
	WhoNobody       Who = iota // it passes by itself: try again after Trouble.Retry
	WhoTenant                  // must consent again
	WhoOperator                // must fix the app's configuration, or the keyset
	WhoNotConnected            // the tenant has not connected the app, or has disconnected it
)

// Trouble says why a caller gets no token, and who acts next.
type Trouble struct {
	Who    Who
	Code   string // the provider's, or one of this package's
	Status int    // HTTP, of the provider's answer; 0 for none
	Retry  time.Duration
	Why    error // may be nil
}

// Error is for people who look at the code. Package refresh says to callers what a trouble is about, and who acts.
func (t *Trouble) Error() string {
	if t.Why == nil {
		return cmp.Or(t.Code, "no token")
	}
	return cmp.Or(t.Code, "no token") + ": " + t.Why.Error()
}

// Unwrap returns the cause.
func (t *Trouble) Unwrap() error { return t.Why }

// WhoOf says who acts after an exchange that failed in this way and left the grant alive.
func WhoOf(c provider.Class) Who {
	switch c {
	case provider.AppRefused:
		return WhoOperator
	case provider.Reauthorize: // of a grant without refresh token: nothing is spent, it comes back by itself
		return WhoTenant
	default:
		return WhoNobody
	}
}

// ErrorText spells a failed exchange as the record has it: class/code/status.
func ErrorText(e *provider.Error) string {
	return e.Class.String() + "/" + strings.ReplaceAll(e.Code, "/", "_") + "/" + strconv.Itoa(e.Status)
}

// ParseErrorText undoes [ErrorText].
func ParseErrorText(s string) (code string, status int, who Who) {
	part := strings.Split(s, "/")
	for _, c := range []provider.Class{provider.AppRefused, provider.Reauthorize} {
		if part[0] == c.String() {
			who = WhoOf(c)
		}
	}
	if len(part) == 3 {
		code = part[1]
		status, _ = strconv.Atoi(part[2])
	}
	return code, status, who
}

// HTTP, without its package.
const (
	statusUnauthorized    = 401
	statusTooManyRequests = 429
)

// Codes of a Trouble that are no reasons of a grant.
const (
	CodeSealed     = "sealed"
	CodeEnded      = "disconnected"
	CodeUnresolved = "unresolved_claim"
	CodeThrottled  = "throttled"
	// CodeUnreadable: the app is stopped by the brake.
	CodeUnreadable = "unreadable_answer"
	// CodeMassDeath: too many grants die at once, which is not believed. Errors of such grants begin with it.
	CodeMassDeath = "mass_death"
	// CodeHangs: an exchange was given up although its pair may still come.
	CodeHangs = "exchanger_hangs"
)

var (
	// ErrBraked is why an app is stopped whose first answer could not be read.
	ErrBraked = errors.New("the provider answered this app's first exchange with a success from which no token could be read, so that the pair is lost: no other grant is risked. " +
		"Compare what the token endpoint answers with provider.Profile, or unwrap it in the endpoint's Transport, and deploy. A changed profile goes on by itself; else delete the key of the app's state (tl:app:…). The tenant that was hit must consent again")
	// ErrMassDeath is why a grant that was refused as if it were dead is not believed to be.
	ErrMassDeath = errors.New("the provider refuses the refresh tokens of many tenants within minutes, which is not believed: one grant a minute is tried, and all go on as soon as one is accepted")

	errElsewhere  = errors.New("the last refresh failed in another process; nobody retries before RetryAfter")
	errRefusesAll = errors.New("an API has refused several access tokens of this grant in a row: either it refuses them all (look at what it answers: scope, address), or something kills them (does another program refresh this grant?); Refresh forces a new one")
	errCircuit    = errors.New("the provider refuses this app's client, whatever the tenant: look at client id, secret and token URL; one exchange at a time tries whether it accepts it again")
	errThrottled  = errors.New("the provider wants a pause of all the app's exchanges")

	errHostCircuit   = errors.New("refuses this app's client, whatever the tenant: look at client id, secret and token URL for it; one exchange at a time tries whether it accepts it again")
	errHostThrottled = errors.New("wants a pause of the exchanges of all its tenants")
)
