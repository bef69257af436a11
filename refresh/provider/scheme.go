package provider

import (
	"maps"
	"slices"
	"strings"
)

// anyType is the key of TokenTypes for all that are not named.
const anyType = "*"

// notSchemes are types under which no API wants a token presented: RFC 8693's for what is no access
// token, and how some servers spell Bearer.
var notSchemes = map[string]string{"n_a": "Bearer", "bearertoken": "Bearer", "bearer_token": "Bearer"}

// schemes are those of the standards, which "*" does not touch.
var schemes = []string{"", "bearer", "dpop", "mac", "pop"}

// Scheme is the scheme under which an access token of that token_type is presented (RFC 6750 §2.1,
// RFC 9449 §7.1): what TokenTypes says, else the type as it was sent.
func (p Profile) Scheme(tokenType string) string {
	said := strings.ToLower(strings.TrimSpace(tokenType))
	for _, own := range slices.Sorted(maps.Keys(p.TokenTypes)) {
		if strings.ToLower(own) == said {
			return p.TokenTypes[own]
		}
	}
	if scheme, ok := notSchemes[said]; ok {
		return scheme
	}
	if scheme, ok := p.TokenTypes[anyType]; ok && !slices.Contains(schemes, said) {
		return scheme
	}
	return tokenType
}
