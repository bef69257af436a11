package provider

import (
	"fmt"
	"maps"
	"slices"
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

// String is the word that docs/providers.md and the command use.
func (r Replay) String() string {
	switch r {
	case ReplayRevokesFamily:
		return "revokes_family"
	case ReplayDead:
		return "dead"
	case ReplayGrace:
		return "grace"
	case ReplaySamePair:
		return "same_pair"
	case ReplayHarmless:
		return "harmless"
	default:
		return fmt.Sprintf("Replay(%d)", uint8(r))
	}
}

// Assumption is a yes-or-no fact whose zero value is the careful answer, Yes.
type Assumption uint8

const (
	Yes Assumption = iota // it does, or nobody knows: assume that it does
	No                    // it provably does not
)

// String is the word that docs/providers.md and the command use.
func (a Assumption) String() string {
	switch a {
	case Yes:
		return "yes"
	case No:
		return "no"
	default:
		return fmt.Sprintf("Assumption(%d)", uint8(a))
	}
}

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
	// AccessTokenLife is assumed where an answer says no lifetime, see [Profile.AccessTokenLifetime].
	// Default 5 minutes.
	AccessTokenLife time.Duration
	// MaxAccessTokenLife is the longest life of an access token that is believed; 0 is 20 years.
	MaxAccessTokenLife time.Duration
	// ExpiresInUnit is what the numbers of this provider's lifetimes count, e.g. time.Millisecond.
	// Default time.Second; milliseconds are noticed by themselves where the answer says the token's
	// life in another way too, or AccessTokenLife is known.
	ExpiresInUnit time.Duration
	// RefreshAhead is the share of an access token's lifetime, before its end, in
	// which it is renewed while still being served: 0 < RefreshAhead < 1. Default
	// 0.1, which 0 stands for.
	RefreshAhead float64
	// APIRefusals are responses of the provider's APIs that refuse the access token without a 401.
	APIRefusals []APIRefusal
	// Request is what is asked of the token endpoint besides what RFC 6749 says.
	Request Request
	// TokenURLs say where refresh tokens are redeemed if that depends on the tenant, for [PerTenant]: the
	// first is taken whose marks the grant fills in. A mark is {tenant}, or in braces the name of a
	// member of the answers, e.g. "{instance_url}/services/oauth2/token".
	TokenURLs []string
	// TokenHosts are the only hosts to which a mark may lead: a host's name, or a dot and a domain's name
	// for all hosts below it. They are required if a mark is the whole host, or its end: the end of
	// "https://{tenant}.example.com" is fixed, the end of "https://login.{domain}" is not.
	TokenHosts []string
	// RevokeURL is where tokens are revoked (RFC 7009); it may hold the same marks. Without a host it
	// is at the token endpoint's: "/oauth/revoke", or "revoke" for what is beside it. Empty: not known.
	RevokeURL string
	// Budget is how many requests the provider allows the app; the zero value is any number.
	Budget Budget
	// AuthStyle is how the client authenticates (RFC 6749 §2.3.1). It is used if the
	// oauth2.Config leaves it at auto-detect. Auto-detect itself is refused.
	AuthStyle oauth2.AuthStyle
	// Codes maps error codes of this provider to classes, over the standard ones.
	// A key may name the HTTP status it holds for: "access_denied@403"; "@409"
	// matches any answer of that status without a known code. Codes are compared
	// as [Error.Code] spells them: spaces are underscores.
	Codes map[string]Class
	// CodeKeys are JSON members, besides "error" and "errors", in which this provider puts its
	// error code, e.g. "status": as a text, or in an object or a list below it. Codes of the
	// standards, and those in Codes and Phrases that are no numbers, are also found in other
	// members that tell of errors, e.g. "code" or "reason", down to a few levels below the top.
	CodeKeys []string
	// Phrases tell apart what the code alone does not. They come before Codes; the
	// first that matches decides.
	Phrases []Phrase
	// PairIn names the member in which this provider puts the pair if it is not at the top level, e.g.
	// "data" or "authed_user", or "data.user" two levels down. It need not be set if only one object
	// of an answer holds an access token. An answer without that member is read as any other.
	PairIn string
	// MemberNames are this provider's names for "access_token", "refresh_token", "token_type", "scope"
	// and "expires_in", where they differ in more than case, "_" and "-": {"access_token": "token"}.
	// A name may be a path, as PairIn.
	MemberNames map[string]string
	// TokenTypes maps a token_type that is no scheme of the provider's API to the scheme under which the
	// access token is presented: {"bot": "Bearer"}. Case does not matter. "*" stands for any type but
	// those of the standards (Bearer, DPoP, MAC, PoP).
	TokenTypes map[string]string
	// KeepExtra are further members of a consent's answer that Connect keeps with the grant, besides
	// "id_token", "instance_url", "api_domain", "api_url", "realm_id", "realmId" and "team". Of
	// the answers to refreshes all are kept.
	KeepExtra []string
	// RefreshExpiryKeys are JSON members that hold the refresh token's lifetime, in
	// ExpiresInUnit, or when it ends. Default "refresh_token_expires_in",
	// "x_refresh_token_expires_in", "refresh_expires_in", "refresh_token_expires_at" and
	// "refresh_expires_at".
	RefreshExpiryKeys []string
}

// Budget limits an app's exchanges over all its processes. What is 0 is not limited.
type Budget struct {
	// Requests is how many exchanges there may be in any stretch of Per. The fleet uses four
	// fifths of it, since exchanges that leave evenly can arrive in bunches.
	Requests int
	Per      time.Duration
	// Concurrency is how many exchanges there may be at once.
	Concurrency int
}

// Phrase is a text by which a provider's refusal is known where its error code
// means several things.
type Phrase struct {
	Code     string // the error code it goes with; empty is any, or none
	Contains string // looked for in all messages (error_description, message, reason, msg, …, also below "error" and "errors"), in any case
	Class    Class
}

const defaultAccessTokenLife = 5 * time.Minute

// Lifetime returns how long an access token is taken to live whose answer said
// expiresIn: that, but MaxAccessTokenLife at most, or AccessTokenLife where the answer was silent.
func (p Profile) Lifetime(expiresIn time.Duration) time.Duration {
	switch {
	case expiresIn > 0 && p.MaxAccessTokenLife > 0:
		return min(expiresIn, p.MaxAccessTokenLife)
	case expiresIn > 0:
		return expiresIn
	case p.AccessTokenLife > 0:
		return p.AccessTokenLife
	default:
		return defaultAccessTokenLife
	}
}

// clone keeps a caller's later changes to its maps and slices out.
func (p Profile) clone() Profile {
	p.Request = p.Request.clone()
	p.TokenURLs, p.TokenHosts = slices.Clone(p.TokenURLs), slices.Clone(p.TokenHosts)
	p.APIRefusals = slices.Clone(p.APIRefusals)
	p.Codes = maps.Clone(p.Codes)
	p.CodeKeys = slices.Clone(p.CodeKeys)
	p.Phrases = slices.Clone(p.Phrases)
	p.MemberNames = maps.Clone(p.MemberNames)
	p.TokenTypes = maps.Clone(p.TokenTypes)
	p.KeepExtra = slices.Clone(p.KeepExtra)
	p.RefreshExpiryKeys = slices.Clone(p.RefreshExpiryKeys)
	return p
}
