package refreshtest

import (
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Outcome is what the server decided about one presentation.
type Outcome string

const (
	// Pending: not decided yet.
	Pending Outcome = "pending"
	// Rotated: the token was unspent, is spent now, and brought a new pair.
	Rotated Outcome = "rotated"
	// Kept: a new access token; the refresh token stays (Config.NoRotation).
	Kept Outcome = "kept"
	// Minted: a new access token, without a refresh token (RFC 6749 §4.4, RFC 7523).
	Minted Outcome = "minted"
	// SamePair: a spent token brought the pair that its first redemption brought.
	SamePair Outcome = "same pair"
	// Sibling: a spent token brought another living pair.
	Sibling Outcome = "sibling"
	// ReplayRefused: a spent token was refused; its successor lives.
	ReplayRefused Outcome = "replay refused"
	// FamilyRevoked: a spent token was refused, and this killed the whole family.
	FamilyRevoked Outcome = "family revoked"
	// Revoked: the family had been revoked before.
	Revoked Outcome = "revoked"
	// Expired: the refresh token was past its idle or absolute life.
	Expired Outcome = "expired"
	// Unknown: the server never issued this token.
	Unknown Outcome = "unknown"
	// RequestRefused: a malformed request or a wrong client; the token was not
	// looked at.
	RequestRefused Outcome = "request refused"
	// NotProcessed: a step of the script, or Close, ended the exchange before
	// its commit; the token was not touched.
	NotProcessed Outcome = "not processed"
)

// Committed reports whether the presentation brought a pair, delivered or not.
func (o Outcome) Committed() bool {
	switch o {
	case Rotated, Kept, Minted, SamePair, Sibling:
		return true
	}
	return false
}

// judge says what presenting t at now does, without doing it. A nil t is a
// token nobody knows.
func (i *issuer) judge(t *refreshToken, now time.Time) Outcome {
	switch {
	case t == nil:
		return Unknown
	case t.family.revoked:
		return Revoked
	case expired(i.cfg.Profile, t, now):
		return Expired
	case i.cfg.NoRotation:
		return Kept
	case t.spentAt.IsZero():
		return Rotated
	}
	return judgeReplay(i.cfg.Profile, t, now)
}

// judgeReplay says what presenting the spent token t does.
func judgeReplay(p provider.Profile, t *refreshToken, now time.Time) Outcome {
	switch p.Replay {
	case provider.ReplayHarmless:
		return Sibling
	case provider.ReplaySamePair:
		if t.next.access.used || !t.next.spentAt.IsZero() {
			return ReplayRefused
		}
		return SamePair
	case provider.ReplayGrace:
		if now.Sub(t.spentAt) <= p.Grace {
			return Sibling
		}
		return FamilyRevoked
	case provider.ReplayDead:
		return ReplayRefused
	default:
		return FamilyRevoked
	}
}

func expired(p provider.Profile, t *refreshToken, now time.Time) bool {
	return p.RefreshTokenIdle > 0 && now.Sub(t.issuedAt) > p.RefreshTokenIdle ||
		p.RefreshTokenLife > 0 && now.Sub(t.family.grantedAt) > p.RefreshTokenLife
}

// redeem does what judge says and returns the living pair that came of it, or
// nil.
func (i *issuer) redeem(t *refreshToken, now time.Time) (Outcome, *refreshToken) {
	outcome := i.judge(t, now)
	switch outcome {
	case Rotated:
		i.replaceAccess(t)
		t.spentAt = now
		t.next = i.issuePair(t, now)
		return outcome, t.next
	case Kept:
		i.replaceAccess(t)
		t.access = i.issueAccess(t.family, now)
		t.issuedAt = now // use renews the idle life
		return outcome, t
	case Sibling:
		return outcome, i.issuePair(t, now)
	case SamePair:
		return outcome, t.next
	case FamilyRevoked:
		t.family.revoked = true
	}
	return outcome, nil
}

// replaceAccess kills the access token that belongs to t, if the profile says
// so. Those of sibling pairs live on.
func (i *issuer) replaceAccess(t *refreshToken) {
	if i.killsAccess() {
		t.access.dead = true
	}
}

func (i *issuer) killsAccess() bool { return i.cfg.Profile.KillsAccessToken == provider.Yes }

func (i *issuer) issuePair(parent *refreshToken, now time.Time) *refreshToken {
	rt := i.issueRefresh(parent.family, parent.generation+1, now)
	rt.access = i.issueAccess(parent.family, now)
	return rt
}
