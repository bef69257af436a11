package provider

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Request is what the requests to a token endpoint look like where RFC 6749 has nothing, or something
// else, to say. The zero value adds nothing.
type Request struct {
	// Params are sent besides what the grant needs, or in its place, e.g. "action" (Withings) or
	// "resource" (RFC 8707). In a value the text {tenant} stands for the grant's tenant. A name
	// without values is left out of the request.
	Params url.Values
	// Names are other names of parameters, e.g. "client_id": "client_key" (TikTok).
	Names map[string]string
	// Header is set in the request, e.g. User-Agent. Its values may be secrets.
	Header http.Header
	// JSON sends the parameters as one JSON object instead of a form.
	JSON bool
	// Scopes sends the Scopes of the oauth2.Config as well (RFC 6749 §6). Without it the grant keeps
	// the scope that it has.
	Scopes bool
}

func (r Request) clone() Request {
	r.Params = url.Values(http.Header(r.Params).Clone())
	r.Names = maps.Clone(r.Names)
	r.Header = r.Header.Clone()
	return r
}

// ownFields are written elsewhere: sent in Params they would be sent twice, or shown in prints.
var ownFields = map[string]string{
	"refresh_token":    "it is the grant's",
	"client_secret":    "write ClientSecret",
	"client_id":        "write ClientID",
	"assertion":        "JWTBearer makes it",
	"client_assertion": "give the option ClientAssertion",
}

// wireFields are net/http's: set by hand they would break every request.
var wireFields = []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Trailer", "Accept-Encoding"}

func (r Request) validate() error {
	var broken []error
	wrong := func(format string, args ...any) {
		broken = append(broken, fmt.Errorf("provider: Request: "+format, args...))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Params)) {
		why, own := ownFields[name]
		switch {
		case name == "":
			wrong("Params must not hold an empty name")
		case own && len(r.Params[name]) > 0:
			wrong("Params must not hold %s: %s", name, why)
		case name == "scope" && r.Scopes && len(r.Params[name]) > 0:
			wrong("Params must not hold scope, which Scopes sends already")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Names)) {
		if name == "" || r.Names[name] == "" {
			wrong("Names must not hold an empty name")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if why := badHeader(name, r.Header[name]); why != "" {
			wrong("Header: %s", why)
		}
	}
	return errors.Join(broken...)
}

// badHeader says, without a value, why net/http would refuse a header, or should.
func badHeader(name string, values []string) string {
	token := func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	}
	switch {
	case name == "" || strings.ContainsFunc(name, token):
		return fmt.Sprintf("%q is no name of a header (RFC 9110 §5.1)", name)
	case slices.ContainsFunc(wireFields, func(own string) bool { return strings.EqualFold(own, name) }):
		return name + " is the transport's to set"
	case slices.ContainsFunc(values, func(v string) bool { return strings.ContainsFunc(v, unprintable) }):
		return "the value of " + name + " holds a line feed or another control character"
	}
	return ""
}

func unprintable(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }

// Format keeps every verb from printing headers and parameters, which may be secrets.
func (r Request) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "request params=%d header=%d json=%t scopes=%t [redacted]", len(r.Params), len(r.Header), r.JSON, r.Scopes)
}
