package provider

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// Validate reports every rule that the profile breaks. [OAuth2] calls it.
func (p Profile) Validate() error {
	return errors.Join(p.validateReplay(), p.validateTimes(), p.validateAnswers(), p.validateBudget(), p.Request.validate(), validateAddresses(p), validateRefusals(p.APIRefusals))
}

func (p Profile) validateBudget() error {
	switch b := p.Budget; {
	case b.Requests < 0 || b.Per < 0 || b.Concurrency < 0:
		return p.broken("Budget", "must not be negative")
	case (b.Requests == 0) != (b.Per == 0):
		return p.broken("Budget", "Requests and Per go together: so many requests in any stretch of that length")
	}
	return nil
}

func (p Profile) validateReplay() error {
	switch {
	case p.Replay > ReplayHarmless:
		return p.broken("Replay", "is %d, not one of the Replay constants", p.Replay)
	case p.KillsAccessToken > No:
		return p.broken("KillsAccessToken", "is %d, not Yes or No", p.KillsAccessToken)
	case p.Replay == ReplayGrace && p.Grace <= 0:
		return p.broken("Grace", "must be positive: ReplayGrace is a promise about a window")
	case p.Replay != ReplayGrace && p.Grace != 0:
		return p.broken("Grace", "goes with ReplayGrace only; Replay is %s", p.Replay)
	case p.AuthStyle != oauth2.AuthStyleAutoDetect && !explicit(p.AuthStyle):
		return p.broken("AuthStyle", "is %d, not one of x/oauth2's", p.AuthStyle)
	}
	return nil
}

func (p Profile) validateTimes() error {
	times := []struct {
		field string
		d     time.Duration
	}{
		{"RefreshTokenIdle", p.RefreshTokenIdle},
		{"RefreshTokenLife", p.RefreshTokenLife},
		{"AccessTokenLife", p.AccessTokenLife},
		{"MaxAccessTokenLife", p.MaxAccessTokenLife},
		{"ExpiresInUnit", p.ExpiresInUnit},
	}
	for _, t := range times {
		if t.d < 0 {
			return p.broken(t.field, "must not be negative")
		}
	}
	// Written so that NaN is refused too.
	if p.RefreshAhead != 0 && !(p.RefreshAhead > 0 && p.RefreshAhead < 1) {
		return p.broken("RefreshAhead", "must be between 0 and 1, or 0 for the default")
	}
	return nil
}

func (p Profile) validateAnswers() error {
	var broken []error
	for _, key := range slices.Sorted(maps.Keys(p.Codes)) {
		if why := badCodeKey(key); why != "" {
			broken = append(broken, p.broken("Codes", "key %q %s", key, why))
		}
		if !answerable(p.Codes[key]) {
			broken = append(broken, p.broken("Codes", "key %q: an answer is never %s", key, p.Codes[key]))
		}
	}
	for i, ph := range p.Phrases {
		switch {
		case strings.TrimSpace(ph.Contains) == "":
			broken = append(broken, p.broken("Phrases", "entry %d: Contains is empty and would match every answer", i))
		case ph.Code != cleanCode(ph.Code):
			broken = append(broken, p.broken("Phrases", "entry %d: Code %q never matches; write %q", i, ph.Code, cleanCode(ph.Code)))
		case !answerable(ph.Class):
			broken = append(broken, p.broken("Phrases", "entry %d: an answer is never %s", i, ph.Class))
		}
	}
	if slices.Contains(p.CodeKeys, "") || slices.Contains(p.RefreshExpiryKeys, "") {
		broken = append(broken, p.broken("CodeKeys and RefreshExpiryKeys", "must not hold an empty name"))
	}
	return errors.Join(append(broken, validateNames(p))...)
}

func validateNames(p Profile) error {
	for _, name := range slices.Sorted(maps.Keys(p.MemberNames)) {
		switch {
		case !slices.Contains(pairNames, name):
			return p.broken("MemberNames", "key %q is not one of %s", name, strings.Join(pairNames, ", "))
		case p.MemberNames[name] == "":
			return p.broken("MemberNames", "%q: must not be an empty name", name)
		}
	}
	for _, said := range slices.Sorted(maps.Keys(p.TokenTypes)) {
		if said == "" || p.TokenTypes[said] == "" || cleanCode(p.TokenTypes[said]) != p.TokenTypes[said] {
			return p.broken("TokenTypes", "key %q: give a type and a scheme, such as {\"bot\": \"Bearer\"}", said)
		}
	}
	return nil
}

// answerable reports whether an answer can be of that class: where one came, the
// request had left.
func answerable(c Class) bool { return c <= Refused && c != Unsent }

// badCodeKey says why a key of Codes can never match.
func badCodeKey(key string) string {
	code, status, at := strings.Cut(key, "@")
	switch {
	case code == "" && !at:
		return "is empty"
	case code != cleanCode(code):
		return fmt.Sprintf("never matches: codes are at most %d letters, digits and _.:-, with _ for a space", maxCode)
	}
	if n, err := strconv.Atoi(status); at && (err != nil || n < 100 || n > 599) {
		return "must name an HTTP status of three digits after @"
	}
	return ""
}

func (p Profile) broken(field, format string, args ...any) error {
	name := p.Name
	if name == "" {
		name = "profile"
	}
	return fmt.Errorf("provider: %s: %s %s", oneLine(name), field, fmt.Sprintf(format, args...))
}

// validateAddresses refuses patterns by which secrets could be sent anywhere.
func validateAddresses(p Profile) error {
	var broken []error
	for _, pattern := range append([]string{p.RevokeURL}, p.TokenURLs...) {
		if len(p.TokenHosts) == 0 && openHost(pattern) {
			broken = append(broken, p.broken("TokenHosts", "must say which hosts may be sent secrets: the host of an address is up to the grant"))
		}
		if rest := mark.ReplaceAllString(pattern, ""); strings.ContainsAny(rest, "{}") {
			broken = append(broken, p.broken("TokenURLs and RevokeURL", "must hold marks such as {tenant} or {instance_url} only"))
		}
	}
	for _, h := range p.TokenHosts {
		if !hostLike(strings.TrimPrefix(h, ".")) {
			broken = append(broken, p.broken("TokenHosts", "must hold names of hosts such as login.example.com, or .example.com for those below it"))
		}
	}
	return errors.Join(broken...)
}
