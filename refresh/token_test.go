package refresh_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestHerdPresentsARefreshTokenOnce(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

func TestTryTokenNeverWaits(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	a, b := f.worker(), f.worker()
	f.connect(a, "acme", true)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	for _, w := range []*worker{a, b} {
		_, err := w.TryToken(f.ctx(), "acme")
		if e := kind(t, err, refresh.ErrPending, ""); e.RetryAfter <= 0 {
			t.Error("no RetryAfter")
		}
	}
	gate.Await(t)
	gate.Release()
	tok := f.token(b, "acme")
	if got, err := b.TryToken(f.ctx(), "acme"); err != nil || got.AccessToken != tok.AccessToken {
		t.Errorf("got %v, want the token at once", err)
	}
	f.lawful(a, "acme")
}

func TestTryTokenDoesNotWaitForASilentRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.patient()
	f.connect(w, "acme", true)
	proxy.Freeze()
	defer proxy.Thaw()
	start := time.Now()
	_, err := w.TryToken(f.ctx(), "acme")
	kind(t, err, refresh.ErrUnavailable, "")
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A caller leaves when its ctx ends, also while Redis is silent.
func TestRejectAndRefreshEndWithTheirCaller(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.cuttable()
	tok := f.connect(w, "acme", false)
	proxy.Freeze()
	defer proxy.Thaw()
	hungUp := errors.New("hung up")
	ctx, cancel := context.WithCancelCause(f.ctx())
	cancel(hungUp)
	if err := w.Reject(ctx, "acme", tok.AccessToken); !errors.Is(err, hungUp) {
		t.Errorf("Reject: %v", err)
	}
	if err := w.Refresh(ctx, "acme"); !errors.Is(err, hungUp) {
		t.Errorf("Refresh: %v", err)
	}
}

func TestRefreshForcesOneExchangeForAllWhoAskAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	workers := []*worker{f.worker(), f.worker()}
	before := f.connect(workers[0], "acme", false)
	for _, w := range workers {
		f.token(w, "acme")
	}
	gate := f.server.Hold(refreshtest.BeforeCommit)
	var callers sync.WaitGroup
	for _, w := range workers {
		for range 20 {
			callers.Go(func() {
				if err := w.Refresh(f.ctx(), "acme"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	gate.Await(t)
	// Under a claim the old token is still served: it is valid.
	if tok := f.token(workers[0], "acme"); tok.AccessToken != before.AccessToken {
		t.Error("a waiter of a forced refresh waited")
	}
	gate.Release()
	callers.Wait()
	if tok := f.token(workers[1], "acme"); tok.AccessToken == before.AccessToken {
		t.Error("the token did not change")
	}
	f.lawful(workers[0], "acme")
}

func TestDueTokenIsServedAtOnceAndRenewedOnceInTheBackground(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.RefreshAhead = 0.9 // due soon after it was issued
	workers := []*worker{f.worker(), f.worker()}
	tok := f.server.Grant("acme")
	tok.Expiry = time.Now().Add(10 * time.Second)
	if err := workers[0].Connect(f.ctx(), "acme", tok); err != nil {
		t.Fatal(err)
	}
	gate := f.server.Hold(refreshtest.BeforeCommit)
	due := make(chan struct{})
	go func() {
		gate.Await(t)
		close(due)
	}()
	for asking := true; asking; {
		for _, w := range workers {
			if got := f.token(w, "acme"); got.AccessToken != tok.AccessToken {
				t.Error("not the valid token")
			}
		}
		select {
		case <-due:
			asking = false
		default:
		}
	}
	gate.Release()
	for _, w := range workers {
		f.knows(w, "acme", 2)
		if got := f.token(w, "acme"); got.AccessToken == tok.AccessToken {
			t.Error("not the renewed token")
		}
	}
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
}

// clocksApart is more than a process's clock is ever ahead of Redis': one round trip, on a
// busy machine.
const clocksApart = time.Second

// A renewal that fails takes nothing from anybody before the token's end.
func TestValidTokenIsServedUntilItsEndWhateverBecomesOfItsRenewal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		step refreshtest.Step
		end  error // of Token once the access token has expired
	}{
		{"throttled", refuse("slow_down", 429), refresh.ErrUnavailable},
		{"the app refused", refuse("invalid_client", 401), refresh.ErrClientConfig},
		{"dead", refuse("invalid_grant", 400), refresh.ErrReauthorize},
		{"the answer lost", refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Drop}, refresh.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.profile.RefreshAhead = 0.9
			c.step.Times = -1
			f.server.Script(c.step)
			workers := []*worker{f.worker(), f.worker()}
			tok := f.server.Grant("acme")
			tok.Expiry = time.Now().Add(6 * time.Second) // a refusal is heard twice
			if err := workers[0].Connect(f.ctx(), "acme", tok); err != nil {
				t.Fatal(err)
			}
			failed := false
			for valid := true; valid; {
				var served [2]error
				for i, w := range workers {
					_, served[i] = w.Token(f.ctx(), "acme")
				}
				st, err := workers[0].Status(f.ctx(), "acme") // after the calls
				if err != nil {
					t.Fatal(err)
				}
				failed = failed || st.Fails > 0
				if valid = st.Now.Before(st.ExpiresAt.Add(-clocksApart)); valid && errors.Join(served[:]...) != nil {
					t.Fatalf("%s before the token's end: %v", st.ExpiresAt.Sub(st.Now), served)
				}
			}
			if !failed {
				t.Error("no renewal has failed: nothing is proven")
			}
			for _, w := range workers {
				var err error
				for ctx := f.ctx(); err == nil && ctx.Err() == nil; {
					_, err = w.Token(ctx, "acme")
				}
				kind(t, err, c.end, "")
			}
		})
	}
}

func TestKeptRefreshTokenIsNeverDeleted(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{
		Profile: provider.Profile{Replay: provider.ReplayHarmless}, NoRotation: true, OmitRefreshToken: true,
	})
	w := f.worker()
	f.connect(w, "acme", true)
	for range 3 {
		if err := w.Refresh(f.ctx(), "acme"); err != nil {
			t.Fatal(err)
		}
	}
	f.living(w, "acme")
}

func TestHerdOnAClusterPresentsARefreshTokenOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	cluster := redistest.StartCluster(t)
	workers := []*worker{f.workerOn(cluster.Client(t)), f.workerOn(cluster.Client(t)), f.workerOn(cluster.Client(t))}
	for _, tenant := range []string{"acme", "globex", "initech", "umbrella"} { // on different nodes
		f.connect(workers[0], tenant, true)
		var callers sync.WaitGroup
		for _, w := range workers {
			for range 20 {
				callers.Go(func() { f.token(w, tenant) })
			}
		}
		callers.Wait()
		if n := f.server.Ledger().Presentations(tenant).Exchanges(); n != 1 {
			t.Errorf("%s: %d exchanges, want 1", tenant, n)
		}
		f.lawful(workers[1], tenant)
	}
	_, err := workers[0].Token(f.ctx(), "nobody")
	kind(t, err, refresh.ErrNotConnected, "")
}
