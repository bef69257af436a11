package tokencache

import (
	"bytes"
	"encoding/json"
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

// wirePair is what stands inside the seal: this as JSON, a line feed, and the two tokens.
// Tokens of a kilobyte and more are not for a JSON decoder to look at byte by byte: that
// took a sixth of the time of a Token from Redis.
type wirePair struct {
	AccessToken           int             `json:"access_token"` // bytes
	RefreshToken          int             `json:"refresh_token,omitempty"`
	TokenType             string          `json:"token_type,omitempty"`
	Scope                 string          `json:"scope,omitempty"`
	Extra                 json.RawMessage `json:"extra,omitempty"`
	IssuedAt              int64           `json:"issued_at"`
	ExpiresAt             int64           `json:"expires_at"`
	RefreshAt             int64           `json:"refresh_at"`
	RefreshTokenExpiresAt int64           `json:"rt_expires_at,omitempty"`
}

func (p Pair) marshal() ([]byte, error) {
	w := wirePair{
		AccessToken: len(p.AccessToken), RefreshToken: len(p.RefreshToken),
		TokenType: p.TokenType, Scope: p.Scope,
		IssuedAt: p.IssuedAt, ExpiresAt: p.ExpiresAt, RefreshAt: p.RefreshAt,
		RefreshTokenExpiresAt: p.RefreshTokenExpiresAt,
	}
	if len(p.Extra) > 0 {
		extra, err := json.Marshal(p.Extra)
		if err != nil {
			return nil, err
		}
		w.Extra = extra
	}
	text, err := json.Marshal(w)
	return append(append(append(text, '\n'), p.AccessToken...), p.RefreshToken...), err
}

// unmarshal reports whether text was a pair. There is no error, whose words could quote it.
func (p *Pair) unmarshal(text []byte) bool {
	head, tokens, _ := bytes.Cut(text, []byte{'\n'})
	var w wirePair
	if json.Unmarshal(head, &w) != nil || w.AccessToken < 0 || w.RefreshToken < 0 || w.AccessToken+w.RefreshToken != len(tokens) {
		return false
	}
	*p = Pair{
		AccessToken: string(tokens[:w.AccessToken]), RefreshToken: string(tokens[w.AccessToken:]),
		TokenType: w.TokenType, Scope: w.Scope,
		IssuedAt: w.IssuedAt, ExpiresAt: w.ExpiresAt, RefreshAt: w.RefreshAt,
		RefreshTokenExpiresAt: w.RefreshTokenExpiresAt,
	}
	if len(w.Extra) == 0 {
		return true
	}
	numbers := json.NewDecoder(bytes.NewReader(w.Extra))
	numbers.UseNumber() // as they came from the provider
	return numbers.Decode(&p.Extra) == nil
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
