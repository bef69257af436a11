package tokencache

import (
	"fmt"
	"log/slog"

	"github.com/rs/zerolog"
)

// Pair is an access token, its refresh token, and what belongs to them. Times are
// Redis' clock, unix ms; 0 means unknown.
type Pair struct {
	AccessToken  string
	RefreshToken string
	TokenType    string
	Scope        string
	Extra        map[string]any

	IssuedAt              int64
	ExpiresAt             int64 // of the access token
	RefreshAt             int64 // from then on it is due
	RefreshTokenExpiresAt int64
}

// wirePair is the JSON inside the seal.
type wirePair struct {
	AccessToken           string         `json:"access_token"`
	RefreshToken          string         `json:"refresh_token,omitempty"`
	TokenType             string         `json:"token_type,omitempty"`
	Scope                 string         `json:"scope,omitempty"`
	Extra                 map[string]any `json:"extra,omitempty"`
	IssuedAt              int64          `json:"issued_at"`
	ExpiresAt             int64          `json:"expires_at"`
	RefreshAt             int64          `json:"refresh_at"`
	RefreshTokenExpiresAt int64          `json:"rt_expires_at,omitempty"`
}

// fields are the record's fields that a pair sets.
func (p Pair) fields() []any {
	return []any{
		"issued_at", msText(p.IssuedAt), "expires_at", msText(p.ExpiresAt),
		"refresh_at", msText(p.RefreshAt), "rt_expires_at", msText(p.RefreshTokenExpiresAt),
		"at_fp", Fingerprint(p.AccessToken), "rt_fp", Fingerprint(p.RefreshToken),
	}
}

func (p Pair) String() string {
	return fmt.Sprintf("pair access=%s refresh=%s [redacted]", Fingerprint(p.AccessToken), Fingerprint(p.RefreshToken))
}

// GoString keeps %#v from printing the tokens.
func (p Pair) GoString() string { return "tokencache.Pair{" + p.String() + "}" }

// Format keeps every verb from printing the tokens.
func (p Pair) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(p.String())) }

// MarshalJSON keeps the tokens out of JSON.
func (p Pair) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// LogValue keeps the tokens out of log/slog.
func (p Pair) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalZerologObject keeps the tokens out of zerolog.
func (p Pair) MarshalZerologObject(e *zerolog.Event) {
	e.Str("access", Fingerprint(p.AccessToken)).Str("refresh", Fingerprint(p.RefreshToken))
}
