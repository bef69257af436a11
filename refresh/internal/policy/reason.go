package policy

import (
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Reasons for which a grant must be authorized again, or is suspect.
const (
	// ReasonSuspect: trying does not help.
	ReasonSuspect = "suspect"
	// ReasonInvalidGrant: nobody knows more than that the provider refuses it.
	ReasonInvalidGrant = "invalid_grant"
	// ReasonLostResponse: an earlier presentation may have brought a pair that was lost.
	ReasonLostResponse = "lost_response"
	// ReasonExpired: the refresh token's stated end is past.
	ReasonExpired = "refresh_token_expired"
	// ReasonRefusedForLong: the provider refuses it in ways that no rule knows, beyond the end of its
	// refresh token, or for days in which it had no valid access token.
	ReasonRefusedForLong = "refused_for_long"
	// ReasonExternal: another program uses the grant too.
	ReasonExternal = "external_rotation"
	// ReasonLifetime: access tokens die at the same age again and again, before the end that the provider says.
	ReasonLifetime = "wrong_lifetime"
	// ReasonRevoke: of a disconnected grant whose tokens were to be revoked, also those that come late.
	ReasonRevoke = "revoke"
)

// ReasonFor tells the ways apart in which a grant dies.
func ReasonFor(r *grant.Record, now int64) string {
	switch {
	case r.Claim.N > 1:
		return ReasonLostResponse // an earlier presentation's answer never arrived
	case r.RefreshTokenExpiresAt != 0 && now >= r.RefreshTokenExpiresAt:
		return ReasonExpired
	case foreignBefore(r) > 0:
		return ReasonExternal
	default:
		return ReasonInvalidGrant
	}
}

// foreignBefore is at how many generations in a row before this one another program seems to
// have used the grant. One such sign alone can be the tenant who removes the app: its
// access token dies, and then its refresh token is refused.
func foreignBefore(r *grant.Record) int64 {
	if DiesAtOneAge(r) {
		return 0
	}
	if r.ForeignGen == r.Generation {
		return r.Foreign - 1
	}
	return r.Foreign
}

// DiesAtOneAge reports whether the last access tokens died at the same age, twice at least: that is how long
// they live, rather than another program's doing.
func DiesAtOneAge(r *grant.Record) bool {
	_, times, counting := strings.Cut(r.Lived, "x")
	return r.Lived != "" && (!counting || times != "1")
}

// AccessLife returns how long an access token is taken to live: as the provider says, but no longer than those
// before it have lived (see [grant.LearnedLife]); 0 for learned where nothing was learned.
func AccessLife(said, learned time.Duration) time.Duration {
	if learned > 0 {
		return min(said, learned)
	}
	return said
}

// refusedToTheEnd reports whether one more refusal that no rule knows is one too many.
func refusedToTheEnd(v *View) bool {
	if end := v.RefreshTokenExpiresAt; end != 0 && v.Now >= end {
		return true
	}
	return !v.Valid && v.RefusedAt != 0 && v.Now-v.RefusedAt >= longEnough.Milliseconds()
}

// RevivalIn returns how long after n revivals the next one is made; 0 for never. A grant is revived only if
// it died by a refusal that can have been a mistake: one whose pair was lost has spent its refresh
// token, one that has ended has ended.
func RevivalIn(reason string, n int64, random float64) time.Duration {
	if reason != ReasonInvalidGrant && reason != ReasonExternal || n >= int64(len(revivalWaits)) {
		return 0
	}
	return Jitter(revivalWaits[n], random)
}

// Doubtable reports whether a death for this reason is not believed while too many grants die.
func Doubtable(reason string) bool {
	return reason == ReasonInvalidGrant || reason == ReasonRefusedForLong
}

// doubted reports whether a grant with this error was refused as if it were dead, which was not believed.
func doubted(text string) bool { return strings.HasPrefix(text, CodeMassDeath+"/") }
