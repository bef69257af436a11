package refresh_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// lastOf is the last entry of a kind in a grant's journal.
func (f *fleet) lastOf(w *worker, tenant, kind string) journal.Entry {
	f.t.Helper()
	trace, err := w.cache.App("zoom").Trace(f.ctx(), tenant)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := len(trace.Entries) - 1; i >= 0; i-- {
		if trace.Entries[i].Kind == kind {
			return trace.Entries[i]
		}
	}
	f.t.Fatalf("no %s in the journal: %+v", kind, trace.Entries)
	return journal.Entry{}
}

func TestTheJournalSaysWhyATokenWasPresented(t *testing.T) {
	t.Parallel()
	for why, present := range map[string]func(f *fleet, w *worker){
		journal.Asked: func(f *fleet, w *worker) {
			f.connect(w, "acme", true)
			f.token(w, "acme")
		},
		journal.Forced: func(f *fleet, w *worker) {
			f.connect(w, "acme", false)
			if err := w.Refresh(f.ctx(), "acme"); err != nil {
				t.Error(err)
			}
		},
		journal.ByAPI: func(f *fleet, w *worker) {
			tok := f.connect(w, "acme", false)
			if err := w.Reject(f.ctx(), "acme", tok.AccessToken); err != nil {
				t.Error(err)
			}
		},
		journal.Due: func(f *fleet, w *worker) {
			f.connect(w, "acme", false)
			f.inUse(w, "acme")
			f.run(f.worker())
		},
		journal.Idle: func(f *fleet, w *worker) {
			f.connect(w, "acme", false)
			now := f.redisNow(w)
			f.alter(w, "acme", "issued_at", now-1_000_000, "rt_expires_at", now+10_000)
			f.run(f.worker())
		},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w := f.worker()
			present(f, w)
			f.eventually("the commit", func() bool { st, err := w.Status(f.ctx(), "acme"); return err == nil && st.Generation == 2 })
			if got := f.lastOf(w, "acme", journal.Claim); got.Why != why || got.Answer != "" {
				t.Errorf("the claim says %q: %+v", why, got)
			}
			if got := f.lastOf(w, "acme", journal.Commit); got.Took <= 0 || got.Took > 30*time.Second || got.Why != "" {
				t.Errorf("the commit says %+v", got)
			}
		})
	}
}

func TestTheJournalSaysWhatTheProviderAnswered(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{LatencyBefore: 20 * time.Millisecond})
	w := f.worker()
	f.connect(w, "acme", true)
	step := refuse("odd_code", 400)
	step.Header = http.Header{"X-Request-Id": {"7d1f-62b0"}}
	f.server.Script(step)
	_, err := w.Token(f.ctx(), "acme")
	time.Sleep(kind(t, err, refresh.ErrUnavailable, "odd_code").RetryAfter)
	got := f.lastOf(w, "acme", journal.Fail)
	if got.Answer != "refused/odd_code/400" || got.Took < 20*time.Millisecond || got.RequestID != "7d1f-62b0" {
		t.Errorf("the failure says %+v", got)
	}
	f.server.Script(refreshtest.Step{Edit: func(answer map[string]any) { answer["scope"] = "meeting:read" }})
	f.token(w, "acme")
	if got := f.lastOf(w, "acme", journal.Commit); got.Why != "" { // nobody knows what it was before
		t.Errorf("the first scope is %q", got.Why)
	}
	for _, c := range []struct{ scope, why string }{
		{"meeting:read,user:read", ""}, {"user:read meeting:read", ""}, {"user:read", journal.Narrower}, {"user:read", ""},
	} {
		f.server.Script(refreshtest.Step{Edit: func(answer map[string]any) { answer["scope"] = c.scope }})
		if err := w.Refresh(f.ctx(), "acme"); err != nil {
			t.Fatal(err)
		}
		if got := f.lastOf(w, "acme", journal.Commit); got.Why != c.why {
			t.Errorf("%s is %q", c.scope, got.Why)
		}
	}
	f.server.Revoke("acme")
	kind(t, w.Refresh(f.ctx(), "acme"), refresh.ErrReauthorize, "invalid_grant")
	if got := f.lastOf(w, "acme", journal.Reauthorize); got.Why != "invalid_grant" || got.Answer != "reauthorize/invalid_grant/400" || got.Took <= 0 {
		t.Errorf("the death says %+v", got)
	}
}

// leaky is an Exchanger of one's own that takes tokens for request ids.
type leaky struct {
	provider.Exchanger
	id func(g provider.Grant, p provider.Pair) string
}

func (l leaky) Exchange(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	p, err := l.Exchanger.Exchange(ctx, g)
	p.RequestID = l.id(g, p)
	return p, err
}

func TestATokenIsNoRequestID(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]func(g provider.Grant, p provider.Pair) string{
		"the one presented":  func(g provider.Grant, _ provider.Pair) string { return g.RefreshToken },
		"the new one":        func(_ provider.Grant, p provider.Pair) string { return "id " + p.AccessToken },
		"the new one, cut":   func(_ provider.Grant, p provider.Pair) string { return p.RefreshToken[:12] },
		"something too long": func(provider.Grant, provider.Pair) string { return string(make([]byte, 65)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w := f.worker(func(c *refresh.Config) { c.Provider.Exchanger = leaky{c.Provider.Exchanger, id} })
			f.connect(w, "acme", true)
			f.token(w, "acme")
			if got := f.lastOf(w, "acme", journal.Commit).RequestID; got != "" {
				t.Errorf("the journal has %q", got)
			}
		})
	}
}
