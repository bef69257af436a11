package refresh_test

import (
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestAShortLivedTokenIsAskedForEachTime(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	short := w.TokenSource(f.ctx(), "acme", refresh.ShortLived)
	reused := oauth2.ReuseTokenSource(nil, short)
	before, err := reused.Token()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	after, err := reused.Token()
	answered := time.Now()
	if err != nil || after.AccessToken == before.AccessToken || !f.server.AccessAlive(after.AccessToken) {
		t.Errorf("it goes on with the old token: %v", err)
	}
	if e := after.Expiry; e.Before(asked.Add(time.Second)) || e.After(answered.Add(time.Second)) {
		t.Errorf("it ends %s after it was asked for", e.Sub(asked))
	}
	if shared := f.token(w, "acme"); time.Until(shared.Expiry) < time.Minute {
		t.Errorf("the shared token was changed: it ends in %s", time.Until(shared.Expiry))
	}
	if _, err := w.TokenSource(f.ctx(), "nobody", refresh.ShortLived).Token(); err == nil {
		t.Error("a token of nobody's")
	}
}
