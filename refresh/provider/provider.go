package provider

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Provider is one OAuth client registration: how its server behaves and how to
// ask it for a new pair.
type Provider struct {
	Profile   Profile
	Exchanger Exchanger
	// Fallback is the same app with its other client secret, while that is being rotated:
	// tried once when Exchanger is answered app_refused. nil: there is none.
	Fallback Exchanger
	// Mints: the Exchanger needs no refresh token. Every exchange mints an access token
	// from the client's own credentials (RFC 6749 §4.4, RFC 7523), and nothing is spent by it.
	Mints bool
}

// Exchanger trades a grant's refresh token for a new pair.
//
// Exchange sends at most one request, ever: no retry, no redirect, no
// auto-detection of the client authentication style. It calls [Sending] just before the
// request leaves, and ends with ctx. An error that is not an [*Error] counts as
// [Ambiguous], since the refresh token may be spent.
type Exchanger interface {
	Exchange(ctx context.Context, g Grant) (Pair, error)
}

// Grant is what one exchange presents. It prints redacted, but not where fmt cannot call its methods:
// do not keep one by value in an unexported field of a struct that is printed.
type Grant struct {
	App, Tenant  string
	Generation   int64 // generation whose refresh token is presented
	AccessToken  string
	RefreshToken string
	Scope        string         // space-delimited (RFC 6749 §3.3)
	Extra        map[string]any // further members of the answer that brought this pair
}

// Pair is what a successful exchange brought (RFC 6749 §5.1). As for [Grant], do not keep one by
// value in an unexported field of a struct that is printed.
type Pair struct {
	AccessToken string // see Usable
	// RefreshToken is empty where the answer carried none: the presented one is
	// kept (RFC 6749 §6).
	RefreshToken string
	TokenType    string // as sent, or what Profile.TokenTypes makes of it; empty means Bearer
	Scope        string // empty means unchanged (RFC 6749 §5.1)
	// ExpiresIn is the access token's lifetime; 0 means the answer did not say
	// (a missing, zero, negative or unreadable expires_in).
	// See [Profile.Lifetime].
	ExpiresIn time.Duration
	// RefreshTokenExpiresIn is the refresh token's lifetime; 0 means unsaid.
	RefreshTokenExpiresIn time.Duration
	// Extra holds all other members of the answer, e.g. "id_token". Numbers are
	// json.Number, so that a 64-bit id survives; values of a form-encoded answer
	// are strings. A store that writes it as JSON reads it back with UseNumber. It holds no
	// refresh tokens: see [WithoutRefreshTokens].
	Extra map[string]any
	// RequestID is the answer's request id, by which the provider's support finds it: one printable word
	// of 64 bytes at most, and never a token. Empty where none was sent.
	RequestID string
}

// Usable reports whether the access token can be sent: it and its type hold printable
// ASCII and spaces only (VSCHAR, RFC 6749 §A.12 and §A.13). net/http refuses a request
// with a line feed or NUL in its Authorization header, and what other bytes become on
// the way nobody knows. A space is legal there and sent as it is, though RFC 6750 §2.1
// has none (b64token): an API that does not want it says 401.
//
// A pair that is not usable is still the only living one. Its refresh token must be
// kept; its access token counts as expired.
func (p Pair) Usable() bool { return vschars(p.AccessToken) && vschars(p.TokenType) }

func vschars(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// String leaves out the refresh token.
func (g Grant) String() string {
	return fmt.Sprintf("%s:%s generation %d [redacted]", escapeName(g.App), escapeName(g.Tenant), g.Generation)
}

// escapeName keeps a name within its line, and within its side of the colon.
func escapeName(s string) string { return strings.ReplaceAll(url.PathEscape(s), ":", "%3A") }

// GoString leaves out the refresh token.
func (g Grant) GoString() string { return "provider.Grant{" + g.String() + "}" }

// Format keeps every verb from printing the tokens.
func (g Grant) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(g.String())) }

// MarshalJSON keeps the tokens out of JSON.
func (g Grant) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// LogValue keeps the tokens out of log/slog.
func (g Grant) LogValue() slog.Value { return slog.StringValue(g.String()) }

// MarshalZerologObject keeps the tokens out of zerolog.
func (g Grant) MarshalZerologObject(e *zerolog.Event) {
	e.Str("app", g.App).Str("tenant", g.Tenant).Int64("generation", g.Generation)
}

// String leaves out the tokens.
func (p Pair) String() string { return fmt.Sprintf("pair expires_in=%s [redacted]", p.ExpiresIn) }

// GoString leaves out the tokens.
func (p Pair) GoString() string { return "provider.Pair{" + p.String() + "}" }

// Format keeps every verb from printing the tokens.
func (p Pair) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(p.String())) }

// MarshalJSON keeps the tokens out of JSON.
func (p Pair) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// LogValue keeps the tokens out of log/slog.
func (p Pair) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalZerologObject keeps the tokens out of zerolog.
func (p Pair) MarshalZerologObject(e *zerolog.Event) { e.Dur("expires_in", p.ExpiresIn) }
