package refresh_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// stranger is a program that refreshes a grant without us.
func (f *fleet) stranger(tok *oauth2.Token) {
	f.t.Helper()
	old := *tok
	old.Expiry = time.Now().Add(-time.Hour)
	if _, err := f.server.OAuth2Config().TokenSource(context.Background(), &old).Token(); err != nil {
		f.t.Fatal(err)
	}
}

func TestAGrantThatAnotherProgramRefreshesTooIsRecognized(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, other := f.worker(), f.worker()
	dies := func(code string) *refresh.Error {
		t.Helper()
		return kind(t, w.Refresh(f.ctx(), "acme"), refresh.ErrReauthorize, code)
	}
	f.stranger(f.connect(w, "acme", false))
	dies("invalid_grant") // once can be the tenant's doing
	f.stranger(f.connect(w, "acme", false))
	err := dies("external_rotation")
	if !strings.Contains(err.Error(), "staging system") {
		t.Errorf("%v does not say what to look for", err)
	}
	if err := kind(t, other.Refresh(f.ctx(), "acme"), refresh.ErrReauthorize, "external_rotation"); !strings.Contains(err.Error(), "staging system") {
		t.Errorf("%v does not say what to look for", err)
	}
	st, _ := w.Status(f.ctx(), "acme")
	if st.Reason != "external_rotation" {
		t.Errorf("reason %q", st.Reason)
	}
	entries, _ := w.rdb.XRevRangeN(f.ctx(), f.prefix+":{zoom:acme}:journal", "+", "-", 1).Result()
	if len(entries) != 1 || entries[0].Values["why"] != "external_rotation" {
		t.Errorf("journal %v", entries)
	}
	// A pair that lives its life in peace ends the suspicion.
	f.connect(w, "acme", false)
	if err := w.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	f.server.Revoke("acme")
	dies("invalid_grant")
}

// The other way in which it shows: refreshing works, but one access token after the other dies
// in the middle of its life.
func TestAccessTokensThatDieEarlyAgainAndAgainAreRecognized(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	for i := range 3 {
		if st, _ := w.Status(f.ctx(), "acme"); st.Reason != "" {
			t.Errorf("%q after %d", st.Reason, i)
		}
		tok := f.token(f.worker(), "acme")
		// A quarter of an hour later and more, with most of its hour before it.
		now := f.redisNow(w)
		f.alter(w, "acme", "issued_at", now-(time.Duration(15+5*i)*time.Minute).Milliseconds())
		if err := f.worker().Reject(f.ctx(), "acme", tok.AccessToken); err != nil {
			t.Fatal(err)
		}
	}
	entries, _ := w.rdb.XRevRange(f.ctx(), f.prefix+":{zoom:acme}:journal", "+", "-").Result()
	said := 0
	for _, e := range entries {
		if e.Values["kind"] == "suspect" && e.Values["why"] == "external_rotation" {
			said++
		}
	}
	if st, err := w.Status(f.ctx(), "acme"); said != 1 || err != nil || st.State != tokencache.Active {
		t.Errorf("said %d times; %v, %v", said, st, err)
	}
}
