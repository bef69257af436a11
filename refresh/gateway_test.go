package refresh_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// A gateway gives up on the server behind it, which has redeemed the token meanwhile.
func TestA503ThatNamesATimeIsNotPresentedAgainBeforeTheHardDeadline(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, other := f.worker(), f.worker()
	f.connect(w, "acme", true)
	f.server.Script(refreshtest.Step{At: refreshtest.AfterCommit, Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1"}}})
	_, err := w.Token(f.ctx(), "acme")
	e := kind(t, err, refresh.ErrUnavailable, "")
	if st, err := w.Status(f.ctx(), "acme"); err != nil || st.ClaimBy == "" {
		t.Errorf("the claim was resolved: %v", err)
	}
	if e.RetryAfter < 5*time.Second {
		t.Errorf("retry after %s", e.RetryAfter)
	}
	for range 4 { // longer than the gateway has asked for
		time.Sleep(500 * time.Millisecond)
		if _, err := other.Token(f.ctx(), "acme"); err == nil {
			t.Fatal("a token from nowhere")
		}
	}
	if n := len(f.server.Ledger()); n != 1 {
		t.Errorf("%d presentations", n)
	}
}
