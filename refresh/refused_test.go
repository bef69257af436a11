package refresh_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// call calls the API as an application does: again when the error says so, for as long as ctx goes.
func (f *fleet) call(w *worker, tenant string) error {
	f.t.Helper()
	ctx := f.ctx()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.server.APIURL(), nil)
		if err != nil {
			f.t.Fatal(err)
		}
		resp, err := w.Client(tenant).Do(req)
		var e *refresh.Error
		switch {
		case err == nil:
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				f.t.Errorf("the API answers %s", resp.Status)
			}
			return nil
		case !errors.As(err, &e) || !errors.Is(err, refresh.ErrUnavailable) || e.RetryAfter > 10*time.Second:
			return err
		}
		select {
		case <-time.After(e.RetryAfter):
		case <-ctx.Done():
			return err
		}
	}
}

// A refresh ahead of time kills the old access token, and its answer is lost. That the token has an
// hour to go protects nothing then.
func TestARefusedAccessTokenWhosePairIsLostIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]refreshtest.Point{"spent": refreshtest.AfterCommit, "unspent": refreshtest.BeforeCommit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w, other := f.worker(short), f.worker(short)
			f.connect(w, "acme", false)
			f.token(other, "acme")
			f.server.Script(refreshtest.Step{At: at, Fault: refreshtest.Drop})
			if err := w.Refresh(f.ctx(), "acme"); err == nil {
				t.Fatal("the answer was not lost")
			}
			f.server.ExpireAccessTokens("acme")
			start := time.Now()
			err := f.call(other, "acme")
			if at == refreshtest.AfterCommit {
				kind(t, err, refresh.ErrReauthorize, "lost_response")
				for _, w := range []*worker{w, other} {
					f.told(w, "acme", "the death", func(s *engine.Snapshot) bool { return s.State == tokencache.Reauthorize })
					_, err := w.Token(f.ctx(), "acme")
					kind(t, err, refresh.ErrReauthorize, "lost_response")
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				f.lawful(other, "acme")
			}
			t.Logf("known after %s", time.Since(start).Round(time.Millisecond))
		})
	}
}

// As long as no API has refused it, it may be the last that the tenant has.
func TestAnAccessTokenThatNobodyRefusedIsProtectedFromARecovery(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker(short)
	f.connect(w, "acme", false)
	f.server.Script(refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Drop})
	err := w.Refresh(f.ctx(), "acme")
	time.Sleep(kind(t, err, refresh.ErrUnavailable, "").RetryAfter)
	if e := kind(t, w.Refresh(f.ctx(), "acme"), refresh.ErrUnavailable, "unresolved_claim"); e.RetryAfter < 50*time.Minute {
		t.Errorf("%v", e)
	}
	if n := len(f.server.Ledger()); n != 1 {
		t.Errorf("%d exchanges", n)
	}
}
