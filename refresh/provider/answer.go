package provider

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

const (
	maxCode       = 64             // bytes of an error code that is reported
	maxRetryAfter = 24 * time.Hour // longer wishes are cut to this
	shortPause    = time.Second    // what a 503 wants that names no length, or none
)

var (
	errRedirect   = errors.New("the token endpoint redirects, which is not followed: write its final address in TokenURL")
	errUnreadable = errors.New("no access token could be read from the answer")
)

// Answer is what came back from a token endpoint, or why nothing did.
type Answer struct {
	Status int         // 0: no answer came
	Header http.Header // Retry-After and Date are looked at
	Body   []byte
	// Err says why no answer came, or, with a Status, why Body ends early.
	Err error
	// Unsent: the refresh token provably never left. Only looked at without a Status.
	Unsent bool
}

func (a Answer) String() string {
	return fmt.Sprintf("answer status=%d body=%d bytes [redacted]", a.Status, len(a.Body))
}

// GoString keeps %#v from printing the body.
func (a Answer) GoString() string { return "provider.Answer{" + a.String() + "}" }

// Format keeps every verb from printing the body.
func (a Answer) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(a.String())) }

// MarshalJSON keeps the body out of JSON.
func (a Answer) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// LogValue keeps the body out of log/slog.
func (a Answer) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalZerologObject keeps the body out of zerolog.
func (a Answer) MarshalZerologObject(e *zerolog.Event) {
	e.Int("status", a.Status).Int("body_bytes", len(a.Body))
}

// Classify reads an answer: the new pair, or an [*Error] that says whose fault
// it is. It is pure, looks at no clock, and its error holds neither text of the
// body, save an error code that looks like one, nor any of secrets: the tokens
// and the client secret that were presented. A code that holds one of them, or eight
// bytes of one, is left out, also in base64, in hex or escaped for a URL.
//
// A 2xx answer with an access token is a pair, whatever else it says: it is the
// only living one. For the rest, the first rule that matches decides:
//
//  1. a phrase, then a code of the profile;
//  2. "@status" of the profile, where no standard code was sent;
//  3. 429: throttled;
//  4. a standard code (RFC 6749 §5.2 and kin), but not in a 5xx: a server that
//     stumbles may have redeemed the refresh token first;
//  5. the status: 401 without a code is the client refused, a redirect a wrong
//     TokenURL, any other 4xx refused, all else ambiguous.
//
// A 401 with a code is about that code: of those in RFC 6749 §5.2, only
// invalid_client is answered with 401. A 5xx is ambiguous even if it names a time
// to come back (a gateway says so too, after the server behind it was done): the
// wish is kept in RetryAfter, and [Error.Throttles] tells of it.
func Classify(p Profile, a Answer, secrets ...string) (Pair, error) {
	if a.Status == 0 {
		return Pair{}, noAnswer(a)
	}
	m, whole := readMembers(a.Body, a.Err != nil)
	if a.Status/100 == 2 {
		if pair, ok := p.pair(m, whole); ok {
			pair.RequestID = requestID(p, a.Header, append([]string{pair.AccessToken, pair.RefreshToken}, secrets...))
			return pair, nil
		}
	}
	return Pair{}, p.refusal(a, m, secrets)
}

func noAnswer(a Answer) *Error {
	e := &Error{Class: Ambiguous, Err: safeCause(a.Err)}
	if a.Unsent {
		e.Class = Unsent
	}
	return e
}

// pair is what a 2xx answer brought. Without a refresh token it means that the
// presented one is kept (RFC 6749 §6), which a body that was cut cannot say:
// taking it so would present a spent refresh token later.
func (p Profile) pair(m members, whole bool) (Pair, bool) {
	pair := Pair{
		AccessToken:  m.text("access_token"),
		RefreshToken: m.text("refresh_token"),
		TokenType:    m.text("token_type"),
		Scope:        m.scope(),
		ExpiresIn:    m.seconds("expires_in"),
	}
	if pair.AccessToken == "" {
		return Pair{}, false
	}
	if pair.RefreshToken == "" && !whole && p.Replay != ReplayHarmless {
		return Pair{}, false
	}
	pair.RefreshTokenExpiresIn = p.RefreshTokenLifetime(m.find)
	known := append([]string{"access_token", "refresh_token", "token_type", "scope", "expires_in"}, p.refreshExpiryNames()...)
	if rest, _ := WithoutRefreshTokens(m.without(known...)).(map[string]any); len(rest) > 0 {
		pair.Extra = rest
	}
	return pair, true
}

// refusal is an answer that brought no pair.
type refusal struct {
	status int
	codes  []string // error codes it holds, in the order of trust
	said   string   // its text for people, in lower case
	coded  bool     // it names an error, if only in words that are no code
}

func (p Profile) refusal(a Answer, m members, secrets []string) *Error {
	after, wished := retryAfter(a.Header)
	if wished && a.Status == http.StatusServiceUnavailable {
		after = max(after, shortPause) // the class does not tell that it was wished for
	}
	r := refusal{status: a.Status, said: spoken(m)}
	r.codes, r.coded = p.codesOf(m, a.Status)
	class, code := p.class(r)
	if p.reveals(code, secrets) {
		code = ""
	}
	e := &Error{
		Class: class, Code: code, Status: a.Status, RetryAfter: after,
		RequestID: requestID(p, a.Header, secrets), Err: whyRefused(a, class),
	}
	e.keepUnread(a.Body)
	return e
}

func whyRefused(a Answer, class Class) error {
	switch {
	case a.Err != nil:
		return safeCause(a.Err)
	case class == AppRefused && a.Status/100 == 3:
		return errRedirect
	case class == Ambiguous && a.Status/100 == 2:
		return errUnreadable
	default:
		return nil
	}
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

// codesOf collects what may be error codes: the member "error", and those in
// which this provider puts them. any says that an error was named at all, as a code
// or in words; the status in figures names none.
func (p Profile) codesOf(m members, status int) (codes []string, any bool) {
	for _, key := range append([]string{"error"}, p.CodeKeys...) {
		said := codeIn(m.find(key))
		any = any || said != "" && said != strconv.Itoa(status)
		if code := cleanCode(said); code != "" {
			codes = append(codes, code)
		}
	}
	return codes, any
}

// codeIn also looks into {"error": {"code": …}}.
func codeIn(v any) string {
	object, ok := v.(map[string]any)
	if !ok {
		return text(v)
	}
	for _, key := range []string{"code", "type", "status"} {
		if code := text(object[key]); code != "" {
			return code
		}
	}
	return ""
}

func spoken(m members) string {
	said := []string{m.text("error_description"), m.text("message"), m.text("reason")}
	return strings.ToLower(strings.Join(said, "\n"))
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

// retryAfter reads seconds or a date (RFC 9110 §10.2.3). A date counts from the
// answer's own Date, since the worker's clock may be an hour off; without one it
// is a wish of unknown length: 0, true.
func retryAfter(h http.Header) (d time.Duration, said bool) {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if f, err := strconv.ParseFloat(v, 64); err == nil && !math.IsNaN(f) {
		if f >= maxRetryAfter.Seconds() {
			return maxRetryAfter, true
		}
		return max(0, time.Duration(f*float64(time.Second))), true
	}
	until, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	if from, err := http.ParseTime(h.Get("Date")); err == nil {
		d = until.Sub(from)
	}
	return min(max(0, d), maxRetryAfter), true
}

// requestIDs are the headers in which providers name a request, the most telling first.
var requestIDs = []string{
	"X-Request-Id", "X-Zm-Trackingid", "Request-Id", "X-Ms-Request-Id", "Intuit_tid", "X-Github-Request-Id",
	"X-Slack-Req-Id", "X-Amzn-Requestid", "X-Correlation-Id", "X-Hubspot-Correlation-Id", "X-Trace-Id", "Cf-Ray",
}

// maxRequestID is the length of the longest request id that is kept, in bytes.
const maxRequestID = 64

// requestID is the name that an answer gives the request, by which the provider's support finds it. One
// that is longer, is no printable word, or holds a piece of a secret, is none.
func requestID(p Profile, h http.Header, secrets []string) string {
	for _, name := range requestIDs {
		if id := strings.TrimSpace(h.Get(name)); printable(id) && !p.reveals(id, secrets) {
			return id
		}
	}
	return ""
}

func printable(id string) bool {
	return id != "" && len(id) <= maxRequestID && vschars(id) && !strings.Contains(id, " ")
}
