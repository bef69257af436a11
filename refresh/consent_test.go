package refresh_test

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestConsentWinsOverAnExchangeUnderWay(t *testing.T) {
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
