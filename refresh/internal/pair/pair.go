// Package pair makes what is stored of a provider's answer, and of a consent.
package pair

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Maker makes the pairs of one app.
type Maker struct {
	Profile provider.Profile
	Log     zerolog.Logger
}

// Before is what an answer replaces; the zero value is nothing.
type Before struct {
	Pair                         grant.Pair
	Tenant                       string
	Epoch, RefreshTokenExpiresAt int64
	LearnedLife                  time.Duration // see [policy.AccessLife]
}

// OfAnswer returns what is stored of an exchange's answer. Times count from now, the Redis time of the
// claim, which is before the request was sent.
func (m *Maker) OfAnswer(was Before, p provider.Pair, now int64) grant.Pair {
	expires := now + policy.AccessLife(m.Profile.Lifetime(p.ExpiresIn), was.LearnedLife).Milliseconds()
	if p.TokenType = m.Profile.Scheme(p.TokenType); !p.Usable() {
		expires = now
	}
	return grant.Pair{
		AccessToken: grant.Hide(p.AccessToken), RefreshToken: grant.Hide(cmp.Or(p.RefreshToken, was.Pair.RefreshToken.Reveal())),
		TokenType: p.TokenType, Scope: cmp.Or(p.Scope, was.Pair.Scope), Extra: m.extra(was, p.Extra),
		IssuedAt: now, ExpiresAt: expires,
		RefreshAt:             policy.RefreshAt(m.Profile, now, expires, rand.Float64()),
		RefreshTokenExpiresAt: policy.RefreshTokenExpiry(m.Profile, p.RefreshTokenExpiresIn, now, was.Epoch, was.RefreshTokenExpiresAt),
	}
}

// extra returns the further members that are stored. Those that say where the API is may come with the
// consent alone: new over old.
func (m *Maker) extra(was Before, said map[string]any) map[string]any {
	members, dropped := storableOf(said)
	if dropped > 0 {
		m.Log.Warn().Str("tenant", was.Tenant).Int("members", dropped).Msg("members of the answer cannot be written as JSON and are left out; the pair is kept")
	}
	switch {
	case len(was.Pair.Extra) > 0 && len(members) > 0:
		both := newOver(was.Pair.Extra, members)
		if _, err := jsonOf(both); err == nil {
			return both
		}
		// What is sealed must open again.
		m.Log.Warn().Str("tenant", was.Tenant).Msg("the members of this answer and of those before are too long together: the new ones alone are kept")
	case members == nil:
		return was.Pair.Extra
	}
	return members
}
