package refresh_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// Slack's answers say "bot" or "user"; its API wants Bearer.
func TestABotsTokenIsPresentedAsBearer(t *testing.T) {
	t.Parallel()
	var got string
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") }))
	defer api.Close()
	f := newFleet(t, refreshtest.Config{})
	f.profile.TokenTypes = provider.Slack().TokenTypes
	f.server.Script(refreshtest.Step{Times: -1, Edit: func(a map[string]any) { a["token_type"] = "user" }})
	w := f.worker()
	tok := f.server.Grant("T1")
	tok.TokenType = "bot"
	if err := w.Connect(f.ctx(), "T1", tok); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as the consent brought it, and after a refresh
		resp, err := w.Client("T1").Get(api.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		now := f.token(w, "T1")
		if want := "Bearer " + now.AccessToken; got != want || now.Type() != "Bearer" {
			t.Errorf("Authorization: %.12s…, type %s", got, now.Type())
		}
		if err := w.Refresh(f.ctx(), "T1"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMembersOfAConsentsTokenAreKeptAndMerged(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.KeepExtra = []string{"merchant_id", "authed_user"}
	w := f.worker()
	tok := f.server.Grant("acme").WithExtra(map[string]any{
		"api_domain": "https://www.example.eu", "instance_url": "https://eu1.example", "merchant_id": "M1", "id_token": "old", "other": "x",
		"authed_user": map[string]any{"id": "U1", "refresh_token": "CANARY"},
	})
	if err := w.Connect(f.ctx(), "acme", tok, refresh.WithExtra(map[string]any{"realmId": "123", "instance_url": "https://given.example"})); err != nil {
		t.Fatal(err)
	}
	tell := func() string {
		tok := f.token(w, "acme")
		return fmt.Sprint(tok.Extra("api_domain"), tok.Extra("instance_url"), tok.Extra("merchant_id"), tok.Extra("id_token"), tok.Extra("realmId"), tok.Extra("other"), tok.Extra("authed_user"))
	}
	if got, want := tell(), fmt.Sprint("https://www.example.eu", "https://given.example", "M1", "old", "123", nil, map[string]any{"id": "U1"}); got != want {
		t.Errorf("at first:\ngot  %s\nwant %s", got, want)
	}
	f.server.Script(refreshtest.Step{Edit: func(a map[string]any) {
		a["id_token"], a["instance_url"], a["api_domain"], a["merchant_id"] = "new", "https://eu2.example", nil, ""
	}})
	if err := w.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	if got, want := tell(), fmt.Sprint("https://www.example.eu", "https://eu2.example", "M1", "new", "123", nil, map[string]any{"id": "U1"}); got != want {
		t.Errorf("after a refresh:\ngot  %s\nwant %s", got, want)
	}
}

// A provider that wraps its pairs, and dates them: nothing is set for it.
func TestAWrappedAndDatedPairIsTaken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{AccessTokenLife: time.Hour})
	w := f.worker()
	f.connect(w, "acme", true)
	f.server.Script(refreshtest.Step{Edit: func(a map[string]any) {
		data := map[string]any{"accessToken": a["access_token"], "refreshToken": a["refresh_token"], "expiresAt": time.Now().Add(time.Hour).UnixMilli()}
		clear(a)
		a["code"], a["data"] = 200, data
	}})
	tok := f.token(w, "acme")
	if left := time.Until(tok.Expiry); left < 59*time.Minute || left > 61*time.Minute {
		t.Errorf("lives %s", left)
	}
	f.lawful(w, "acme")
}

func TestNewSaysWhichLifetimeIsAssumed(t *testing.T) {
	t.Parallel()
	for life, want := range map[time.Duration]int{0: 1, time.Hour: 0} {
		f := newFleet(t, refreshtest.Config{})
		f.profile.AccessTokenLife = life
		var log bytes.Buffer
		f.worker(func(c *refresh.Config) { c.Log = zerolog.New(&log) })
		if got := strings.Count(log.String(), `"assumed":"5m0s"`); got != want {
			t.Errorf("AccessTokenLife %s: said %d times: %s", life, got, &log)
		}
	}
}
