package provider

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

const (
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

// String leaves out what may be secret.
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

// Classify reads an answer: the new pair, or an [*Error] that says whose fault it is. It is
// pure and looks at no clock. secrets are the tokens and the client secret that were
// presented. The error holds none of them, and no text of the body but an error code that
// looks like one. If a code holds a secret, or eight bytes of one, it is left out, also if it
// holds that in base64, in hex or escaped for a URL.
//
// A 2xx answer with an access token is a pair, whatever else it says: that pair is the only
// living one. Classify also finds a pair
//
//   - below the top level, if only one object there holds an access token (of two,
//     [Profile.PairIn] says which);
//   - under names in any case, and as accessToken;
//   - form-encoded or as XML; as JSON in a string, in UTF-16 or with rubbish before it; and in
//     gzip that no header tells of.
//
// For other answers, the first rule that matches decides:
//
//  1. a phrase, then a code of the profile;
//  2. "@status" of the profile, if no standard code was sent;
//  3. 429: throttled;
//  4. a standard code (RFC 6749 §5.2 and kin), but not in a 5xx: a server that
//     fails may have redeemed the refresh token before;
//  5. the status: a 401 without a code refuses the client, a redirect means a wrong
//     TokenURL, any other 4xx is Refused, all else is Ambiguous.
//
// A 401 with a code is about that code: of those in RFC 6749 §5.2, only
// invalid_client is answered with 401. A 5xx is Ambiguous even if it names a time
// to come back: a gateway may send it after the server behind it has redeemed the token.
// RetryAfter keeps that time, and [Error.Throttles] reports the wish.
func Classify(p Profile, a Answer, secrets ...string) (Pair, error) {
	if a.Status == 0 {
		return Pair{}, noAnswer(a)
	}
	m, whole := readMembers(a.Body, a.Err != nil)
	if a.Status/100 != 2 {
		return Pair{}, p.refusal(a, m, secrets)
	}
	if at, ok := placeOf(p, m, whole); ok {
		pair, ok := readPair(p, at, dateOf(a.Header), secrets)
		if ok && !(at.echoes(secrets) && p.refusal(a, m, secrets).Class != Ambiguous) {
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

// readPair returns what a 2xx answer brought. Without a refresh token it means that the
// presented one is kept (RFC 6749 §6), which a body that was cut cannot say:
// taking it so would present a spent refresh token later.
func readPair(p Profile, at place, date time.Time, presented []string) (Pair, bool) {
	pair := Pair{
		AccessToken:  at.text("access_token"),
		RefreshToken: at.text("refresh_token"),
		TokenType:    p.Scheme(at.text("token_type")),
		Scope:        scopeOf(at.find("scope")),
	}
	pair.ExpiresIn = p.AccessTokenLifetime(pair.AccessToken, at.find, date)
	if pair.RefreshToken == "" && p.Replay != ReplayHarmless {
		pair.RefreshToken = at.refreshTokenElsewhere(presented)
	}
	if pair.RefreshToken == "" && !at.whole && p.Replay != ReplayHarmless {
		return Pair{}, false
	}
	pair.RefreshTokenExpiresIn = p.RefreshTokenLifetime(at.find, date)
	known := slices.Concat(pairNames, refreshExpiryNames(p))
	if rest, _ := WithoutRefreshTokens(at.without(known...)).(map[string]any); len(rest) > 0 {
		pair.Extra = rest
	}
	return pair, true
}

func (p Profile) refusal(a Answer, m members, secrets []string) *Error {
	after, wished := retryAfter(a.Header)
	if wished && a.Status == http.StatusServiceUnavailable {
		after = max(after, shortPause) // the class does not tell that it was wished for
	}
	r := refusal{status: a.Status, said: spoken(m)}
	r.codes, r.coded = codesOf(p, m, a.Status)
	class, code := p.class(r)
	if reveals(p, code, secrets) {
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
	if from := dateOf(h); !from.IsZero() {
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
		if id := strings.TrimSpace(h.Get(name)); printable(id) && !reveals(p, id, secrets) {
			return id
		}
	}
	return ""
}

func printable(id string) bool {
	return id != "" && len(id) <= maxRequestID && vschars(id) && !strings.Contains(id, " ")
}

// dateOf returns when an answer was given, by the server's clock; zero where it does not say.
func dateOf(h http.Header) time.Time {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}
