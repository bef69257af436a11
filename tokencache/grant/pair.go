package grant

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
)

// Pair is an access token, its refresh token, and what belongs to them. Times are
// Redis' clock, unix ms; 0 means unknown.
type Pair struct {
	AccessToken  Secret
	RefreshToken Secret
	TokenType    string
	Scope        string
	Extra        map[string]any

	IssuedAt              int64
	ExpiresAt             int64 // of the access token
	RefreshAt             int64 // from then on it is due
	RefreshTokenExpiresAt int64
}

// marshal returns what stands inside the seal: a line of numbers, which are the lengths of the
// texts in bytes, the times and the generation, and then the texts, one after the other. Times
// after the first count from that. A Token from Redis pays for every byte of it, and so does every
// grant that rests: as JSON it took a twelfth of the time.
func (p Pair) marshal(generation int64) ([]byte, error) {
	var extra []byte
	if len(p.Extra) > 0 {
		var err error
		if extra, err = json.Marshal(p.Extra); err != nil {
			return nil, err
		}
	}
	texts := []string{p.AccessToken.Reveal(), p.RefreshToken.Reveal(), p.TokenType, p.Scope, string(extra)}
	var out []byte
	for _, text := range texts {
		out = append(strconv.AppendInt(out, int64(len(text)), 10), ' ')
	}
	at := p.IssuedAt
	for _, n := range []int64{at, p.ExpiresAt - at, p.RefreshAt - at, since(at, p.RefreshTokenExpiresAt), generation} {
		out = append(strconv.AppendInt(out, n, 10), ' ')
	}
	out[len(out)-1] = '\n'
	for _, text := range texts {
		out = append(out, text...)
	}
	return out, nil
}

// unmarshal reports whether text was a pair, and of which generation. There is no error, whose words could quote it.
func (p *Pair) unmarshal(text string) (generation int64, ok bool) {
	head, rest, ok := strings.Cut(text, "\n")
	if !ok {
		return 0, false
	}
	var read Pair
	var access, refresh, extra string
	for _, to := range []*string{&access, &refresh, &read.TokenType, &read.Scope, &extra} {
		length, ok := number(&head)
		if !ok || length < 0 || length > int64(len(rest)) {
			return 0, false
		}
		*to, rest = rest[:length], rest[length:]
	}
	for _, to := range []*int64{&read.IssuedAt, &read.ExpiresAt, &read.RefreshAt, &read.RefreshTokenExpiresAt, &generation} {
		var ok bool
		if *to, ok = number(&head); !ok {
			return 0, false
		}
	}
	if head != "" || rest != "" {
		return 0, false
	}
	read.AccessToken, read.RefreshToken = Hide(access), Hide(refresh)
	read.ExpiresAt += read.IssuedAt
	read.RefreshAt += read.IssuedAt
	read.RefreshTokenExpiresAt = after(read.IssuedAt, read.RefreshTokenExpiresAt)
	if extra != "" {
		numbers := json.NewDecoder(strings.NewReader(extra))
		numbers.UseNumber() // as they came from the provider
		if numbers.Decode(&read.Extra) != nil {
			return 0, false
		}
	}
	*p = read
	return generation, true
}

// since returns how long after `at` a time is that may be unknown: 0 stays 0, and so does no other.
func since(at, t int64) int64 {
	switch d := t - at; {
	case t == 0:
		return 0
	case d >= 0:
		return d + 1
	default:
		return d
	}
}

// after undoes since.
func after(at, d int64) int64 {
	switch {
	case d == 0:
		return 0
	case d > 0:
		return at + d - 1
	default:
		return at + d
	}
}

// number takes the first number off a line.
func number(line *string) (int64, bool) {
	first, rest, _ := strings.Cut(*line, " ")
	*line = rest
	if strconv.IntSize == 64 {
		n, err := strconv.Atoi(first) // twice as fast
		return int64(n), err == nil
	}
	n, err := strconv.ParseInt(first, 10, 64)
	return n, err == nil
}

// Bounded keeps times within what a record can hold, see [Record.check]: a caller's Expiry can be
// of any year.
func (p Pair) Bounded(now int64) Pair {
	for _, t := range []*int64{&p.IssuedAt, &p.ExpiresAt, &p.RefreshAt, &p.RefreshTokenExpiresAt} {
		*t = min(max(*t, 0), now+century/2)
	}
	return p
}

// Fields are the record's fields that a pair sets.
func (p Pair) Fields() []any {
	return []any{
		"issued_at", Millis(p.IssuedAt), "expires_at", Millis(p.ExpiresAt),
		"refresh_at", Millis(p.RefreshAt), "rt_expires_at", Millis(p.RefreshTokenExpiresAt),
		"at_fp", Fingerprint(p.AccessToken.Reveal()), "rt_fp", Fingerprint(p.RefreshToken.Reveal()),
	}
}

// String leaves out the tokens.
func (p Pair) String() string {
	return fmt.Sprintf("pair access=%s refresh=%s [redacted]", Fingerprint(p.AccessToken.Reveal()), Fingerprint(p.RefreshToken.Reveal()))
}

// GoString keeps %#v from printing the tokens.
func (p Pair) GoString() string { return "tokencache.Pair{" + p.String() + "}" }

// Format keeps every verb from printing the tokens.
func (p Pair) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(p.String())) }

// MarshalJSON keeps the tokens out of JSON.
func (p Pair) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// LogValue keeps the tokens out of log/slog.
func (p Pair) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalZerologObject keeps the tokens out of zerolog.
func (p Pair) MarshalZerologObject(e *zerolog.Event) {
	e.Str("access", Fingerprint(p.AccessToken.Reveal())).Str("refresh", Fingerprint(p.RefreshToken.Reveal()))
}
