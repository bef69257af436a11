package refresh_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestEachChangeReachesEachListeningProcessOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	var mu sync.Mutex
	called := []refresh.Event{}
	w := f.worker(func(cfg *refresh.Config) {
		cfg.OnEvent = func(e refresh.Event) {
			mu.Lock()
			defer mu.Unlock()
			called = append(called, e)
		}
	})
	other, monitor := f.worker(), f.worker() // which asks for no token
	ctx, cancel := context.WithCancel(t.Context())
	mine, theirs, monitored := w.Events(ctx), other.Events(ctx), monitor.Events(ctx)
	f.listening(w, 3)
	f.connect(w, "acme", false)
	f.token(w, "acme")
	f.token(other, "acme")
	if err := w.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	f.knows(other, "acme", 2)
	f.server.Revoke("acme")
	if err := other.Refresh(f.ctx(), "acme"); err == nil {
		t.Fatal("a revoked grant was refreshed")
	}
	f.hears(mine, refresh.EventConnected, "acme")
	a := f.hears(mine, refresh.EventRefreshed, "acme")
	b := f.hears(theirs, refresh.EventRefreshed, "acme")
	if a != b || a.Generation != 2 || a.ExpiresAt.Before(a.At) || a.At.IsZero() {
		t.Errorf("one change is\n%+v here and\n%+v there", a, b)
	}
	a, b = f.hears(mine, refresh.EventReauthorize, "acme"), f.hears(theirs, refresh.EventReauthorize, "acme")
	if a.ID != b.ID || a.Reason != "invalid_grant" {
		t.Errorf("one change is\n%+v here and\n%+v there", a, b)
	}
	f.hears(monitored, refresh.EventConnected, "acme")
	f.hears(monitored, refresh.EventRefreshed, "acme")
	if c := f.hears(monitored, refresh.EventReauthorize, "acme"); c != a {
		t.Errorf("one change is\n%+v here and\n%+v at a monitor", a, c)
	}
	if monitor.cache.Grant(key("acme")).Recall() != nil {
		t.Error("the monitor has the grant in memory")
	}
	cancel()
	for range mine { // is closed when ctx ends
	}
	if err := w.Close(f.ctx()); err != nil { // who listens is told all before
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, e := range called {
		seen[e.ID]++
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, "rt-") || strings.Contains(text, "at-") {
			t.Errorf("a token in %s", text)
		}
	}
	if len(seen) != 3 || len(called) != 3 {
		t.Errorf("%d events of 3 changes were told %d times: %v", len(seen), len(called), called)
	}
}

// The subscriber connection carries everybody's tokens: no listener may hold it up.
func TestASlowListenerHoldsUpNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	block := make(chan struct{})
	w := f.worker(func(cfg *refresh.Config) { cfg.OnEvent = func(refresh.Event) { <-block } })
	unread := w.Events(t.Context())
	f.connect(w, "acme", true)
	f.token(w, "acme")
	for range 5 {
		if err := w.Refresh(f.ctx(), "acme"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // the flights end in that, the listener does not
	defer cancel()
	if err := w.Close(ctx); err == nil || !strings.Contains(err.Error(), "OnEvent") {
		t.Errorf("Close says %v", err)
	}
	close(block)
	go func() {
		for range unread {
		}
	}()
	if err := w.Close(f.ctx()); err != nil {
		t.Error(err)
	}
	if _, ok := <-w.Events(t.Context()); ok {
		t.Error("a closed coordinator tells something")
	}
}

// listening waits until that many processes hear of the app's changes.
func (f *fleet) listening(w *worker, n int64) {
	f.t.Helper()
	channel := w.cache.App("zoom").ChangesChannel()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		got, err := w.rdb.PubSubNumSub(f.ctx(), channel).Result()
		if err == nil && got[channel] == n {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("%d processes listen, want %d: %v", got[channel], n, err)
		}
	}
}

// A process may have several, and close one of them.
func TestEachCoordinatorOfAnAppOnOneCacheHearsOfChanges(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	same := func(cfg *refresh.Config) { cfg.Cache = w.cache }
	two, three := f.worker(same), f.worker(same)
	a, b := w.Events(t.Context()), two.Events(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	three.Events(ctx)
	f.connect(w, "acme", false)
	f.hears(a, refresh.EventConnected, "acme")
	f.hears(b, refresh.EventConnected, "acme")
	cancel()
	if err := three.Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	f.server.SetClientSecrets("another")
	kind(t, w.Refresh(f.ctx(), "acme"), refresh.ErrClientConfig, "")
	for _, events := range []<-chan refresh.Event{a, b} {
		f.hears(events, refresh.EventCircuitOpen, "")
		f.hears(events, refresh.EventFailed, "acme")
	}
}
