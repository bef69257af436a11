package provider

import (
	"time"

	"golang.org/x/oauth2"
)

// Replay says what happens when a refresh token that was already redeemed is
// presented a second time. The zero value is the strictest.
type Replay uint8

const (
	ReplayRevokesFamily Replay = iota // the whole grant is revoked (RFC 9700 §4.14.2)
	ReplayDead                        // refused; the successor lives on
	ReplayGrace                       // works within Profile.Grace of the first redemption, then revokes
	ReplaySamePair                    // answers the same new pair until that pair is first used
	ReplayHarmless                    // works: refresh tokens are not rotated or the old ones stay valid
)

// Assumption is a yes-or-no fact whose zero value is the careful answer, Yes.
type Assumption uint8

const (
	Yes Assumption = iota // it does, or nobody knows: assume that it does
	No                    // it provably does not
)

// Profile is what is known of a provider. The zero value is the strictest:
// a replay revokes the family and a refresh kills the old access token.
type Profile struct {
	Name   string // e.g. "zoom"; for people
	Replay Replay
	// Grace is the window of ReplayGrace, counted from the first redemption.
	Grace time.Duration
	// KillsAccessToken: a refresh kills the access token it replaces at once.
	KillsAccessToken Assumption
	// RefreshTokenIdle is how long an unused refresh token lives; 0 is unknown or unlimited.
	RefreshTokenIdle time.Duration
	// RefreshTokenLife is the refresh token's absolute life from consent; 0 is unknown or unlimited.
	RefreshTokenLife time.Duration
	// AccessTokenLife is assumed where an answer has no expires_in. Default 5 minutes.
	AccessTokenLife time.Duration
	// RefreshAhead is the share of an access token's lifetime, before its end, in
	// which it is renewed while still being served: 0 < RefreshAhead < 1. Default 0.1.
	RefreshAhead float64
	// AuthStyle is how the client authenticates (RFC 6749 §2.3.1), used where the
	// oauth2.Config leaves it at auto-detect. Auto-detect itself is refused.
	AuthStyle oauth2.AuthStyle
	// Codes maps error codes of this provider to classes, over the standard ones.
	// A key may name the HTTP status it holds for: "access_denied@403"; "@409"
	// matches any answer of that status without a known code.
	Codes map[string]Class
	// CodeKeys are JSON members, besides "error", in which this provider puts its
	// error code, e.g. "status".
	CodeKeys []string
}
