package pair

import (
	"math/rand/v2"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// OfConsent returns what is stored of the token that a consent brought, with the members that the
// caller gives.
func (m *Maker) OfConsent(tok *oauth2.Token, given map[string]any, now int64) grant.Pair {
	expires := now + lifeOf(m.Profile, tok, now).Milliseconds()
	scheme := m.Profile.Scheme(tok.TokenType)
	if !(provider.Pair{AccessToken: tok.AccessToken, TokenType: scheme}).Usable() {
		expires = now
	}
	scope, _ := tok.Extra("scope").(string)
	return grant.Pair{
		AccessToken: grant.Hide(tok.AccessToken), RefreshToken: grant.Hide(tok.RefreshToken), TokenType: scheme, Scope: scope, Extra: consentExtra(m.Profile, tok, given),
		IssuedAt: now, ExpiresAt: expires,
		RefreshAt:             policy.RefreshAt(m.Profile, now, expires, rand.Float64()),
		RefreshTokenExpiresAt: policy.RefreshTokenExpiry(m.Profile, m.Profile.RefreshTokenLifetime(tok.Extra, time.UnixMilli(now)), now, now, 0),
	}
}

// lifeOf returns how long the access token of a consent still lives. Expiry was made from expires_in by
// this machine's clock, and is undone by it; x/oauth2 takes any number for seconds, and looks at nothing else.
func lifeOf(p provider.Profile, tok *oauth2.Token, now int64) time.Duration {
	said := p.AccessTokenLifetime(tok.AccessToken, tok.Extra, time.UnixMilli(now))
	if tok.Expiry.IsZero() {
		return p.Lifetime(said)
	}
	left := time.Until(tok.Expiry)
	if read := time.Duration(tok.ExpiresIn) * time.Second; read > 0 && said > 0 && tok.Extra("expires_in") != nil {
		left += said - read
	}
	if most := p.MaxAccessTokenLife; most > 0 {
		left = min(left, most)
	}
	return left
}

// consentExtra returns the further members of a consent that are stored: those of its answer that the
// profile keeps, and over them what the caller gives.
func consentExtra(p provider.Profile, tok *oauth2.Token, given map[string]any) map[string]any {
	kept, _ := storableOf(p.KeptMembers(tok.Extra))
	if len(kept) == 0 {
		return given
	}
	both := newOver(kept, given)
	if _, err := jsonOf(both); err != nil {
		return given
	}
	return both
}
