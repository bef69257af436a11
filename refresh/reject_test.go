package refresh_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

func TestStragglersWithTheRefusedTokenCauseOneRefresh(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	workers := []*worker{f.worker(), f.worker(), f.worker()}
	refused := f.connect(workers[0], "acme", false).AccessToken
	f.server.ExpireAccessTokens("acme")
	var stragglers sync.WaitGroup
	report := func(n int) {
		for _, w := range workers {
			for range n {
				stragglers.Go(func() {
					if err := w.Reject(f.ctx(), "acme", refused); err != nil {
						t.Error(err)
					} else if tok := f.token(w, "acme"); tok.AccessToken == refused || !f.server.AccessAlive(tok.AccessToken) {
						t.Error("not a newer token")
					}
				})
			}
		}
	}
	gate := f.server.Hold(refreshtest.AfterCommit)
	report(100)
	gate.Await(t)
	report(100)
	gate.Release()
	stragglers.Wait()
	report(100) // long after: the old token is still reported
	stragglers.Wait()
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
	f.lawful(workers[0], "acme")
}

// refuse reports the current token as refused.
func (w *worker) refuse(f *fleet, tenant string) error {
	f.t.Helper()
	return w.Reject(f.ctx(), tenant, f.token(w, tenant).AccessToken)
}

func TestFreshTokenThatIsRefusedForcesOneMoreRefreshAndIsSuspectThen(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	workers := []*worker{f.worker(), f.worker()}
	f.connect(workers[0], "acme", false)
	for i := range 2 {
		if err := workers[i].refuse(f, "acme"); err != nil {
			t.Fatal(err)
		}
		f.knows(workers[1-i], "acme", int64(i+2))
	}
	serving := f.token(workers[0], "acme").AccessToken
	for _, w := range slices.Concat(workers, workers, []*worker{f.worker()}) {
		e := kind(t, w.refuse(f, "acme"), refresh.ErrUnavailable, "suspect")
		if e.Status != 401 || e.RetryAfter < 50*time.Second || e.RetryAfter > 76*time.Second {
			t.Errorf("status %d, retry after %s, want 401 and a minute", e.Status, e.RetryAfter)
		}
		if tok := f.token(w, "acme"); tok.AccessToken != serving {
			t.Error("another token, or none, is served while the grant is suspect")
		}
	}
	if n := f.server.Ledger().Exchanges(); n != 2 {
		t.Errorf("%d exchanges, want 2", n)
	}
	f.journal(t, "acme", "suspect", 1)
	st, err := workers[0].Status(f.ctx(), "acme")
	if err != nil || st.Reason != "suspect" || st.State != tokencache.Active || st.Rejects != 2 {
		t.Errorf("%+v, %v", st, err)
	}

	// The time has come: one more.
	key := f.prefix + ":{zoom:acme}:grant"
	if err := workers[0].rdb.HSet(f.ctx(), key, "reject_at", 1, "rev", 1000).Err(); err != nil {
		t.Fatal(err)
	}
	late := f.worker()
	if err := late.refuse(f, "acme"); err != nil {
		t.Fatal(err)
	}
	if n := f.server.Ledger().Exchanges(); n != 3 {
		t.Errorf("%d exchanges, want 3", n)
	}
	f.lawful(late, "acme")
}

// journal asserts how often the grant's journal has an event of that kind.
func (f *fleet) journal(t *testing.T, tenant, kind string, want int) {
	t.Helper()
	entries, err := f.redis.Client(t).XRange(f.ctx(), f.prefix+":{zoom:"+tenant+"}:journal", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if e.Values["kind"] == kind {
			n++
		}
	}
	if n != want {
		t.Errorf("%d × %s in the journal, want %d", n, kind, want)
	}
}

func TestRefusedTokenOfADeadGrantIsTheTenants(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	refused := f.connect(w, "acme", false).AccessToken
	f.server.Revoke("acme")
	for range 3 {
		kind(t, w.Reject(f.ctx(), "acme", refused), refresh.ErrReauthorize, "invalid_grant")
	}
	// As far as its expiry goes the token is valid. An API and the provider say that it is not.
	for _, w := range []*worker{w, f.worker()} {
		_, err := w.Token(f.ctx(), "acme")
		kind(t, err, refresh.ErrReauthorize, "invalid_grant")
	}
	if n := f.server.Ledger().Exchanges(); n != 2 {
		t.Errorf("%d exchanges, want 2", n)
	}
}

func TestRefusalIsNoLicenceToPresentBeforeRetryAt(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	step := refuse("slow_down", 429)
	step.Header.Set("Retry-After", "60")
	f.server.Script(step)
	for range 3 {
		kind(t, w.refuse(f, "acme"), refresh.ErrUnavailable, "slow_down")
	}
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
	f.journal(t, "acme", "reject", 1)
}

func TestRejectWithoutAGrantSaysSo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	kind(t, w.Reject(f.ctx(), "nobody", "at"), refresh.ErrNotConnected, "")
	tok := f.connect(w, "acme", false)
	if err := w.Disconnect(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	kind(t, w.Reject(f.ctx(), "acme", tok.AccessToken), refresh.ErrNotConnected, "disconnected")
}
