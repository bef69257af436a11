package bearer

import (
	"net/http"
	"strings"
)

// RefusesToken reports whether a response is about the access token, so that a newer one
// may help: a 401 (RFC 6750 §3.1) that says so, or that does not say what it is about.
func RefusesToken(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized && tokenProblem(bearerErrors(resp.Header.Values("WWW-Authenticate")))
}

// tokenProblem judges the error codes of one 401's Bearer challenges. Real APIs do not
// keep to invalid_token: "expired_token" and "INVALID_SESSION_ID" are seen. What is about
// something else (invalid_request, RFC 9470's insufficient_user_authentication, a code
// nobody knows) would be refused with every other token too.
func tokenProblem(codes []string) bool {
	problem := len(codes) == 0
	for _, code := range codes {
		code = strings.ToLower(code)
		if code == "insufficient_scope" {
			return false
		}
		for _, word := range []string{"token", "expired", "session"} {
			problem = problem || strings.Contains(code, word)
		}
	}
	return problem
}

// bearerErrors are the error codes in the Bearer challenges of WWW-Authenticate headers
// (RFC 9110 §11.6.1, RFC 6750 §3). Of a malformed header it takes what can be read.
func bearerErrors(headers []string) []string {
	var codes []string
	for _, h := range headers {
		for p, more := (challenges{rest: h}), true; more; {
			var name, value string
			name, value, more = p.next()
			if value != "" && strings.EqualFold(p.scheme, "Bearer") && strings.EqualFold(name, "error") {
				codes = append(codes, value)
			}
		}
	}
	return codes
}

// challenges reads one header. A comma may part two parameters or two challenges, which
// is only known by what comes after it, and real headers forget some. So commas are just
// skipped: a word with "=" behind it is a parameter, any other begins a challenge. A token68,
// as after "Negotiate", passes for one more challenge, or a parameter, of no interest.
type challenges struct{ scheme, rest string }

// next reads up to the end of one parameter, or of one scheme, which has no name.
func (p *challenges) next() (name, value string, more bool) {
	p.rest = strings.TrimLeft(p.rest, ", \t")
	if p.rest == "" {
		return "", "", false
	}
	name = p.word()
	if name == "" { // not a character that may stand here
		p.unquoted()
		return "", "", true
	}
	after := strings.TrimLeft(p.rest, " \t") // RFC 9110 allows blanks around "="
	if !strings.HasPrefix(after, "=") {
		p.scheme, p.rest = name, after
		return "", "", true
	}
	p.rest = strings.TrimLeft(after[1:], " \t")
	return name, p.value(), true
}

// word reads a token (RFC 9110 §5.6.2).
func (p *challenges) word() string {
	n := strings.IndexFunc(p.rest, func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r) })
	if n < 0 {
		n = len(p.rest)
	}
	w := p.rest[:n]
	p.rest = p.rest[n:]
	return w
}

func alphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// value reads a parameter's value.
func (p *challenges) value() string {
	if strings.HasPrefix(p.rest, `"`) {
		return p.quoted()
	}
	return p.unquoted()
}

// unquoted reads up to the next comma or blank.
func (p *challenges) unquoted() string {
	n := strings.IndexAny(p.rest, ", \t")
	if n < 0 {
		n = len(p.rest)
	}
	v := p.rest[:n]
	p.rest = p.rest[n:]
	return v
}

// quoted reads a quoted string (RFC 9110 §5.6.4). One that is not closed was cut off and
// says nothing.
func (p *challenges) quoted() string {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			p.rest = p.rest[i+1:]
			return b.String()
		case '\\':
			if i++; i < len(p.rest) {
				b.WriteByte(p.rest[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	p.rest = ""
	return ""
}
