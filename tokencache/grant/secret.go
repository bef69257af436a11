package grant

import (
	"errors"
	"fmt"
	"log/slog"
)

// Secret is a token that no printer shows. Not even by value in an unexported field of somebody's
// struct, where fmt cannot call its methods: what such a field holds is a pointer.
type Secret struct{ text *string }

// Hide returns a token as a Secret. The empty one is the zero value.
func Hide(token string) Secret {
	if token == "" {
		return Secret{}
	}
	return Secret{&token}
}

// Reveal returns the token.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String shows the fingerprint of the secret alone.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return "[redacted " + Fingerprint(*s.text) + "]"
}

// Format keeps every verb from printing the token.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText keeps the token out of JSON, and of all that writes text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue keeps the token out of log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

var errNoGob = errors.New("tokencache: a Secret is not written by gob")

// GobEncode refuses: there is no redacted form that could be read again.
func (s Secret) GobEncode() ([]byte, error) { return nil, errNoGob }
