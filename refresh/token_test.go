package refresh_test

import (
	"sync"
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestHerdPresentsARefreshTokenOnce(t *testing.T) {
	f := newFleet(t, refreshtest.Config{})
	workers := []*worker{f.worker(), f.worker(), f.worker()}
	f.connect(workers[0], "acme", true)
	var callers sync.WaitGroup
	for _, w := range workers {
		for range 100 {
			callers.Go(func() {
				tok, err := w.Token(f.ctx(), "acme")
				if err != nil {
					t.Error(err)
				} else if !f.server.AccessAlive(tok.AccessToken) {
					t.Error("a dead token was handed out")
				}
			})
		}
	}
	callers.Wait()
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
	f.lawful(workers[0], "acme")
}

func TestFreshTokenCostsNoExchange(t *testing.T) {
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	tok := f.connect(w, "acme", false)
	for range 10 {
		if got := f.token(w, "acme"); got.AccessToken != tok.AccessToken || got.RefreshToken != "" {
			t.Fatalf("got another token, or a refresh token with it")
		}
	}
	if n := f.server.Ledger().Exchanges(); n != 0 {
		t.Errorf("%d exchanges, want 0", n)
	}
}
