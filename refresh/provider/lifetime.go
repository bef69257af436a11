package provider

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxLife caps a lifetime. It keeps seconds that overflow, or a date sent by
// mistake, from becoming a negative or an eternal one; what is still too long is
// corrected by the first 401.
const maxLife = 20 * 365 * 24 * time.Hour

// Numbers from these on are dates since 1970, in seconds or in milliseconds: both begin in 2001. As
// lifetimes they are of more than 30 years.
const (
	epochSeconds = 1e9
	epochMillis  = 1e12
)

// Members that say in how long, or when, a token ends.
var (
	lifeNames = []string{"expires_in", "expire_in", "expires_in_seconds"}
	endNames  = []string{
		"expires_at", "expires_on", "expires", "expire_at", "expiry", "expiry_date", "expiration",
		"expiration_time", "expires_time", "expire_time", "access_token_expires_at", ".expires",
	}
	defaultRefreshExpiryKeys = []string{
		"refresh_token_expires_in",   // e.g. GitHub
		"x_refresh_token_expires_in", // QuickBooks
		"refresh_expires_in",         // e.g. Keycloak
		"refresh_token_expires_at",   // Square
		"refresh_expires_at",
	}
)

// AccessTokenLifetime returns how long the access token of an answer lives that was given at that time; 0
// where nothing says it. It goes by expires_in, in ExpiresInUnit; else by a date (expires_at, expires_on,
// expires: seconds or milliseconds since 1970, ISO 8601, or as in a header); else by the claim exp of an
// access token that is a JWT. An expires_in that is a thousand times what the answer says elsewhere, or
// AccessTokenLife, counts milliseconds.
//
// member returns a member of the answer, as [oauth2.Token.Extra] does. at is the issuer's time, which an
// answer's Date says: where it is zero, dates say nothing, and a JWT is taken to live from its iat to its exp.
func (p Profile) AccessTokenLifetime(accessToken string, member func(name string) any, at time.Time) time.Duration {
	other := cmp.Or(firstLife(p, endNames, member, at, false), jwtLife(accessToken, at))
	said := firstLife(p, lifeNames, member, at, true)
	if said == 0 {
		return other
	}
	for _, known := range []time.Duration{other, p.AccessTokenLife} {
		if ratio := said.Seconds() / known.Seconds(); p.ExpiresInUnit == 0 && known > 0 && ratio > 900 && ratio < 1100 {
			return said / 1000
		}
	}
	return said
}

// RefreshTokenLifetime returns how long the refresh token of an answer lives: what the first of
// RefreshExpiryKeys says that the answer has; 0 where none says it. member returns a member of the
// answer, as [oauth2.Token.Extra] does. at is when the answer was given; without it, dates say nothing.
func (p Profile) RefreshTokenLifetime(member func(name string) any, at ...time.Time) time.Duration {
	return firstLife(p, refreshExpiryNames(p), member, append(at, time.Time{})[0], true)
}

// refreshExpiryNames are RefreshExpiryKeys, or their default.
func refreshExpiryNames(p Profile) []string {
	if len(p.RefreshExpiryKeys) > 0 {
		return p.RefreshExpiryKeys
	}
	return defaultRefreshExpiryKeys
}

// firstLife returns what the first of names says that says something. Without at, a number that is a date is
// the largest lifetime where lifetimes are expected, and says nothing elsewhere.
func firstLife(p Profile, names []string, member func(string) any, at time.Time, expected bool) time.Duration {
	for _, name := range names {
		for _, spelled := range []string{name, camel(name)} {
			d := lifeIn(number(member(spelled)), cmp.Or(p.ExpiresInUnit, time.Second), at)
			if d > 0 && (expected || d < maxLife || !at.IsZero()) {
				return d
			}
		}
	}
	return 0
}

// camel is expiresIn for expires_in: members that x/oauth2 has read have to be asked for to the letter.
func camel(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// lifeIn reads 3600, "3600", 3600.0, 1e3 and "3600s" alike, and dates. What is missing, unreadable, zero, negative
// or over is 0: unsaid.
func lifeIn(s string, unit time.Duration, at time.Time) time.Duration {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	switch {
	case err != nil && !math.IsInf(f, 0):
		if d, err := time.ParseDuration(strings.TrimSpace(s)); err == nil { // "3600s"
			return capped(d.Seconds())
		}
		return until(parseTime(s), at)
	case f*unit.Seconds() >= epochSeconds && !at.IsZero():
		return until(epoch(f), at)
	}
	return capped(f * unit.Seconds())
}

func capped(seconds float64) time.Duration {
	if math.IsNaN(seconds) || seconds <= 0 {
		return 0
	}
	if seconds >= maxLife.Seconds() {
		return maxLife
	}
	return time.Duration(seconds * float64(time.Second))
}

func until(end, at time.Time) time.Duration {
	if end.IsZero() || at.IsZero() {
		return 0
	}
	return min(max(0, end.Sub(at)), maxLife)
}

// epoch is a date in seconds or milliseconds since 1970; far ones are as far as can be told.
func epoch(f float64) time.Time {
	if f >= epochMillis {
		f /= 1000
	}
	return time.Unix(int64(min(f, 1e11)), int64(math.Mod(min(f, 1e11), 1)*1e9))
}

// timeLayouts are those of ISO 8601 that are in use, and headers'. A time without a zone is UTC.
var timeLayouts = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04",
	"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 UTC", "2006-01-02 15:04:05",
	"20060102T150405Z0700", "20060102T150405", "2006-01-02", time.RFC1123Z, http.TimeFormat, time.RFC850, time.ANSIC,
}

func parseTime(s string) time.Time {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t
		}
	}
	return time.Time{}
}

// jwtLife returns how long a JWT (RFC 7519) lives by its own word. Its signature is the API's matter.
func jwtLife(token string, at time.Time) time.Duration {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	var c struct {
		Exp float64 `json:"exp"`
		Iat float64 `json:"iat"`
	}
	if err != nil || json.Unmarshal(claims, &c) != nil || c.Exp < epochSeconds {
		return 0
	}
	if at.IsZero() && c.Iat >= epochSeconds {
		at = epoch(c.Iat)
	}
	return until(epoch(c.Exp), at)
}
