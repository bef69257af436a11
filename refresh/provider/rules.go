package provider

import (
	"net/http"
	"strconv"
	"strings"
)

// maxCode is how many bytes of an error code are reported.
const maxCode = 64

// refusal is an answer that brought no pair.
type refusal struct {
	status int
	codes  []string // error codes it holds, in the order of trust
	said   string   // its text for people, in lower case
	coded  bool     // it names an error, if only in words that are no code
}

// standard are the codes of RFC 6749 §5.2, RFC 8628 §3.5 and OpenID Connect Core
// §3.1.2.6 that a token endpoint answers with, and what they mean for a refresh.
var standard = map[string]Class{
	"invalid_grant":              Reauthorize,
	"interaction_required":       Reauthorize,
	"login_required":             Reauthorize,
	"consent_required":           Reauthorize,
	"account_selection_required": Reauthorize,
	"invalid_client":             AppRefused,
	"unauthorized_client":        AppRefused,
	"unsupported_grant_type":     AppRefused,
	"invalid_scope":              AppRefused,
	"slow_down":                  Throttled,
	"temporarily_unavailable":    Throttled,
	"server_error":               Ambiguous,
	// Says something about a token, hence not about the client even in a 401, but
	// is no code of a token endpoint, hence not enough to call a grant dead.
	"invalid_token": Refused,
}

// class applies the rules that [Classify] lists. The code is the one that
// decided, else the first that was sent.
func (p Profile) class(r refusal) (Class, string) {
	first := ""
	if len(r.codes) > 0 {
		first = r.codes[0]
	}
	if class, code, ok := p.ownRule(r); ok {
		if code == "" {
			code = first
		}
		return class, code
	}
	for _, code := range r.codes {
		if class, ok := standard[strings.ToLower(code)]; ok {
			switch {
			case r.status == http.StatusTooManyRequests:
				return Throttled, code
			case r.status >= 500:
				return Ambiguous, code
			}
			return class, code
		}
	}
	if class, ok := p.Codes["@"+strconv.Itoa(r.status)]; ok {
		return class, first
	}
	return r.byStatus(), first
}

// ownRule is the profile's word on phrases and codes.
func (p Profile) ownRule(r refusal) (_ Class, code string, ok bool) {
	for _, ph := range p.Phrases {
		if r.says(ph) {
			return ph.Class, ph.Code, true
		}
	}
	for _, code := range r.codes {
		if class, ok := p.Codes[code+"@"+strconv.Itoa(r.status)]; ok {
			return class, code, true
		}
		if class, ok := p.Codes[code]; ok {
			return class, code, true
		}
	}
	return 0, "", false
}

func (r refusal) says(ph Phrase) bool {
	if !strings.Contains(r.said, strings.ToLower(ph.Contains)) {
		return false
	}
	for _, code := range r.codes {
		if code == ph.Code {
			return true
		}
	}
	return ph.Code == ""
}

func (r refusal) byStatus() Class {
	switch {
	case r.status == http.StatusTooManyRequests:
		return Throttled
	case r.status == http.StatusUnauthorized && !r.coded:
		return AppRefused
	case r.status == 301, r.status == 302, r.status == 307, r.status == 308:
		// The resource is elsewhere: nothing was processed here. Not so 303,
		// which may follow a POST that was.
		return AppRefused
	case r.status == http.StatusRequestTimeout, r.status == 499:
		// A proxy that gave up waiting; the server behind it may not have.
		return Ambiguous
	case r.status/100 == 4:
		return Refused
	default:
		return Ambiguous
	}
}

// cleanCode lets through what looks like a code. Longer text is dropped rather
// than cut: half a token is token material too.
func cleanCode(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), " ", "_")
	if len(s) > maxCode {
		return ""
	}
	for _, c := range []byte(s) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		digit := '0' <= c && c <= '9'
		if !letter && !digit && strings.IndexByte("_.:-", c) < 0 {
			return ""
		}
	}
	return s
}
