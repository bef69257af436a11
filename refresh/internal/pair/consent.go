package pair

import (
	"time"

	"golang.org/x/oauth2"
)

// lifeOf returns how long the access token of a consent still lives. Expiry was made from expires_in by
// this machine's clock, and is undone by it; x/oauth2 takes any number for seconds, and looks at nothing else.
func (m *Maker) lifeOf(tok *oauth2.Token, now int64) time.Duration {
	said := m.Profile.AccessTokenLifetime(tok.AccessToken, tok.Extra, time.UnixMilli(now))
	if tok.Expiry.IsZero() {
		return m.Profile.Lifetime(said)
	}
	left := time.Until(tok.Expiry)
	if read := time.Duration(tok.ExpiresIn) * time.Second; read > 0 && said > 0 && tok.Extra("expires_in") != nil {
		left += said - read
	}
	if most := m.Profile.MaxAccessTokenLife; most > 0 {
		left = min(left, most)
	}
	return left
}

// consentExtra returns the further members of a consent that are stored: those of its answer that the
// profile keeps, and over them what the caller gives.
func (m *Maker) consentExtra(tok *oauth2.Token, given map[string]any) map[string]any {
	kept, _ := storableOf(m.Profile.KeptMembers(tok.Extra))
	if len(kept) == 0 {
		return given
	}
	both := newOver(kept, given)
	if _, err := jsonOf(both); err != nil {
		return given
	}
	return both
}
