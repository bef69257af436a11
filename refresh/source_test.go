package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestTokenSourceReturnsWhatTokenReturns(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	source := w.TokenSource(f.ctx(), "acme")
	for range 2 {
		tok, err := source.Token()
		if err != nil {
			t.Fatal(err)
		}
		if !f.server.AccessAlive(tok.AccessToken) || tok.RefreshToken != "" {
			t.Error("not the grant's access token alone")
		}
		if err := w.Refresh(f.ctx(), "acme"); err != nil { // the source pins nothing
			t.Fatal(err)
		}
	}
	_, err := w.TokenSource(f.ctx(), "nobody").Token()
	kind(t, err, refresh.ErrNotConnected, "")
}

func TestTokenSourceStopsWaitingWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	defer gate.Release()
	ctx, cancel := context.WithCancelCause(f.ctx())
	shutdown := errors.New("the SDK's client is shut down")
	failed := make(chan error, 1)
	go func() {
		_, err := w.TokenSource(ctx, "acme").Token()
		failed <- err
	}()
	gate.Await(t)
	cancel(shutdown)
	if err := <-failed; !errors.Is(err, shutdown) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestTokenSourcePrintsNothingOfItsContext(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	type private struct{}
	source := f.worker().TokenSource(context.WithValue(f.ctx(), private{}, "canary"), "acme")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, source); text != "refresh.TokenSource("+key("acme").String()+")" || strings.Contains(text, "canary") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}
