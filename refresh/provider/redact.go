package provider

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
)

const (
	minSecret = 6 // bytes; a shorter secret is found in codes by chance
	minPiece  = 8 // bytes that a code and a form of a secret have in common by no chance
)

// reveals reports whether a code holds one of secrets or a piece of it, as it is or
// in a form in which it travels: base64, hex, escaped for a URL. The codes that are
// known beforehand reveal nothing.
func reveals(p Profile, code string, secrets []string) bool {
	if code == "" {
		return false
	}
	known := knows(p, code)
	code = strings.ToLower(code)
	for _, s := range secrets {
		if s != "" && code == asCode(s) {
			return true
		}
		if known || s == "" {
			continue
		}
		for form := range formsOf(s) {
			if overlaps(code, asCode(form)) {
				return true
			}
		}
	}
	return false
}

// knows reports whether a code is written in the standards or in the profile.
func knows(p Profile, code string) bool {
	if _, ok := standard[strings.ToLower(code)]; ok {
		return true
	}
	for key := range p.Codes {
		if own, _, _ := strings.Cut(key, "@"); own == code {
			return true
		}
	}
	for _, ph := range p.Phrases {
		if ph.Code == code {
			return true
		}
	}
	return false
}

// asCode spells a secret as a code that quotes it is spelled: cleanCode turns spaces
// into underscores, and a server may change the case.
func asCode(s string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), " ", "_"))
}

// formsOf yields a secret and the texts in which it is easily read. Base64 of a
// longer text holds the secret's in one of three alignments; the characters that also
// depend on what is before it are left out.
func formsOf(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, text := range slices.Compact([]string{s, url.QueryEscape(s), url.PathEscape(s)}) {
			if !yield(text) || !yield(hex.EncodeToString([]byte(text))) {
				return
			}
			for before := range 3 {
				padded := []byte(strings.Repeat("x", before) + text)
				skip := (before*8 + 5) / 6
				if !yield(base64.RawStdEncoding.EncodeToString(padded)[skip:]) || !yield(base64.RawURLEncoding.EncodeToString(padded)[skip:]) {
					return
				}
			}
		}
	}
}

// overlaps reports whether a code holds a form, is a piece of it, or holds a piece.
func overlaps(code, form string) bool {
	if len(form) >= minSecret && strings.Contains(code, form) {
		return true
	}
	if len(code) < minPiece {
		return len(code) >= minSecret && strings.Contains(form, code)
	}
	for i := 0; i+minPiece <= len(code); i++ {
		if strings.Contains(form, code[i:i+minPiece]) {
			return true
		}
	}
	return false
}

// basicSecrets are what authenticates a client: its secret, and what stands in an
// Authorization header with it, as RFC 6749 §2.3.1 has it and without its escapes.
func basicSecrets(id, secret string) []string {
	if secret == "" {
		return nil
	}
	return []string{secret, id + ":" + secret, url.QueryEscape(id) + ":" + url.QueryEscape(secret)}
}
