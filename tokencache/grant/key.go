package grant

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Key names a grant: what one tenant let one app do.
type Key struct {
	App    string // one OAuth client registration at one provider, e.g. "zoom"
	Tenant string // the customer account that granted access
}

const (
	// DefaultPrefix begins every key, unless Config.Prefix says another one.
	DefaultPrefix = "tl"
	maxName       = 256 // bytes
)

// ErrName is in the chain of every error about a bad app or tenant name or prefix.
var ErrName = errors.New("tokencache: bad name")

// Validate reports whether app and tenant can name a grant: 1 to 256 bytes each.
func (k Key) Validate() error {
	return errors.Join(validName("app", k.App), validName("tenant", k.Tenant))
}

// String is app:tenant, escaped as in the keys of Redis.
func (k Key) String() string { return Escape(k.App) + ":" + Escape(k.Tenant) }

func validName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: %s is empty; give the name of the %s", ErrName, what, what)
	case len(name) > maxName:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrName, what, len(name), maxName)
	}
	return nil
}

// ValidPrefix refuses what would break the hash tag that keeps a grant's keys in
// one Cluster slot, or the lines of an event.
func ValidPrefix(prefix string) error {
	if prefix == "" || len(prefix) > 64 || Escape(prefix) != strings.ReplaceAll(prefix, ":", "%3A") {
		return fmt.Errorf("%w: Prefix %q: use 1 to 64 letters, digits, colons or any of -_.@", ErrName, prefix)
	}
	return nil
}

const hexDigits = "0123456789ABCDEF"

// Escape percent-escapes every byte but letters, digits, '-', '_', '.' and '@'.
func Escape(s string) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = plain(s[i])
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == '@'
}

// Unescape undoes escape; what is not an escape stays.
func Unescape(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}
