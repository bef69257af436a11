package refresh_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestConsentWinsOverAnExchangeUnderWay(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	a, b := f.worker(), f.worker()
	f.connect(a, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	var got *oauth2.Token
	var caller sync.WaitGroup
	caller.Go(func() { got = f.token(a, "acme") })
	gate.Await(t)
	tok := f.connect(b, "acme", false)
	gate.Release()
	caller.Wait()
	if got.AccessToken != tok.AccessToken {
		t.Error("the caller did not get the new consent's token")
	}
	f.lawful(b, "acme")
}

func TestDisconnectIsNeverUndoneByAnExchangeUnderWay(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	a, b := f.worker(), f.worker()
	f.connect(a, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	var waiters sync.WaitGroup
	waiters.Go(func() {
		_, err := a.Token(f.ctx(), "acme")
		kind(t, err, refresh.ErrNotConnected, "disconnected")
	})
	gate.Await(t)
	waiters.Go(func() { // a waiter elsewhere learns it by push
		_, err := b.Token(f.ctx(), "acme")
		kind(t, err, refresh.ErrNotConnected, "disconnected")
	})
	if err := b.Disconnect(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	gate.Release()
	waiters.Wait()
	for _, w := range []*worker{a, b, f.worker()} {
		_, err := w.Token(f.ctx(), "acme")
		kind(t, err, refresh.ErrNotConnected, "")
	}
	if st, err := a.Status(f.ctx(), "acme"); err != nil || st.State != "disconnected" {
		t.Errorf("status %v %v, want a tombstone", st.State, err)
	}
}

func TestUnknownTenantIsNotConnected(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	_, err := w.Token(f.ctx(), "nobody")
	kind(t, err, refresh.ErrNotConnected, "")
	_, err = w.TryToken(f.ctx(), "nobody")
	kind(t, err, refresh.ErrNotConnected, "")
	_, err = w.Status(f.ctx(), "nobody")
	kind(t, err, refresh.ErrNotConnected, "")
	kind(t, w.Refresh(f.ctx(), "nobody"), refresh.ErrNotConnected, "")
}

func TestConnectRefusesWhatCannotBeKeptAlive(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	for name, tok := range map[string]*oauth2.Token{
		"nil": nil, "no access token": {RefreshToken: "rt"}, "no refresh token": {AccessToken: "at", Expiry: time.Now()},
	} {
		if err := w.Connect(f.ctx(), "acme", tok); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := w.Connect(f.ctx(), "", f.server.Grant("x")); err == nil {
		t.Error("an empty tenant was accepted")
	}
}

// A consent's answer may be the only one that says where the API is.
func TestMembersOfTheConsentAreKeptFromTheFirstTokenOn(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, other := f.worker(), f.worker()
	tok := f.server.Grant("acme")
	members := map[string]any{"instance_url": "https://eu1.example", "id": 7, "authed_user": map[string]any{"refresh_token": "nested", "name": "n"}}
	if err := w.Connect(f.ctx(), "acme", tok, refresh.WithExtra(members)); err != nil {
		t.Fatal(err)
	}
	keeps := func(w *worker) {
		t.Helper()
		tok := f.token(w, "acme")
		if tok.Extra("instance_url") != "https://eu1.example" || fmt.Sprint(tok.Extra("id")) != "7" {
			t.Errorf("instance_url %v, id %v", tok.Extra("instance_url"), tok.Extra("id"))
		}
		if text := fmt.Sprint(tok.Extra("authed_user")); strings.Contains(text, "nested") || !strings.Contains(text, "n") {
			t.Errorf("authed_user: %s", text)
		}
	}
	keeps(w)
	keeps(other)
	pin := other.cache.Grant(key("acme")).Pin()
	defer pin.Unpin()
	if err := pin.Confirm(f.ctx()); err != nil { // or the push comes before it listens
		t.Fatal(err)
	}
	if err := w.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	keeps(w)
	f.knows(other, "acme", 2)
	keeps(other)
	err := w.Connect(f.ctx(), "bad", f.server.Grant("bad"), refresh.WithExtra(map[string]any{"f": func() {}}))
	if err == nil || !strings.Contains(err.Error(), "WithExtra") {
		t.Errorf("a member that is no JSON: %v", err)
	}
}

func TestAConsentSaysItsRefreshTokensLifeUnderTheProfilesName(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.RefreshExpiryKeys = []string{"rt_ttl"}
	w := f.worker()
	tok := f.server.Grant("acme").WithExtra(map[string]any{"rt_ttl": 7200.0, "refresh_token_expires_in": 60.0})
	if err := w.Connect(f.ctx(), "acme", tok); err != nil {
		t.Fatal(err)
	}
	s, err := w.Status(f.ctx(), "acme")
	if left := s.RefreshTokenExpiresAt.Sub(s.Now); err != nil || left < 7100*time.Second || left > 7200*time.Second {
		t.Errorf("the refresh token lives for %v: %v", left, err)
	}
}
