package refresh_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// talkative is an Exchanger of one's own, which leaves everything in Extra.
type talkative struct{ provider.Exchanger }

func (e talkative) Exchange(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	p, err := e.Exchanger.Exchange(ctx, g)
	p.Extra = map[string]any{"authed_user": map[string]any{"id": "U1", "refresh_token": "CANARY"}, "list": []any{map[string]any{"refreshToken": "CANARY"}}}
	return p, err
}

func TestATokenCarriesNoRefreshTokenNotEvenInItsExtras(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]func(*refresh.Config){
		"from the answer":    func(*refresh.Config) {},
		"from one's own way": func(c *refresh.Config) { c.Provider.Exchanger = talkative{c.Provider.Exchanger} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w := f.worker(alter)
			f.connect(w, "acme", true)
			f.server.Script(refreshtest.Step{Edit: func(a map[string]any) {
				a["authed_user"] = map[string]any{"id": "U1", "refresh_token": "CANARY"}
			}})
			tok := f.token(w, "acme")
			user, _ := tok.Extra("authed_user").(map[string]any)
			if user["id"] != "U1" || tok.RefreshToken != "" {
				t.Errorf("the members are lost: %v", user)
			}
			if text := fmt.Sprint(user, tok.Extra("list")); strings.Contains(text, "CANARY") {
				t.Errorf("a refresh token: %s", text)
			}
			f.lawful(w, "acme")
		})
	}
}
