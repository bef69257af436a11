package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// call lets callers call the API through the tenant's client. Anything but 200 is an error.
func (w *worker) call(ctx context.Context, o order) report {
	client := w.Client(o.Tenant)
	return many(ctx, o.Callers, func(ctx context.Context) (*oauth2.Token, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.URL, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("HTTP %d surfaced", resp.StatusCode)
		}
		return nil, nil
	})
}

// reject lets callers report a refused token and ask for a newer one.
func (w *worker) reject(ctx context.Context, o order) report {
	return many(ctx, o.Callers, func(ctx context.Context) (*oauth2.Token, error) {
		if err := w.Reject(ctx, o.Tenant, o.Token); err != nil {
			return nil, err
		}
		return w.Token(ctx, o.Tenant)
	})
}

// warmed is a fleet of workers that have the tenant's fresh token in memory.
func (f *fleet) warmed(n int, tenant string) []*process {
	f.t.Helper()
	workers := f.workers(n)
	f.consent(tenant, time.Hour)
	for _, w := range workers {
		w.do(order{Op: "warm", Tenant: tenant})
	}
	return workers
}

// call has n callers call the API, shared out among the workers.
func (f *fleet) call(workers []*process, tenant, url string, n int) []*sent {
	var all []*sent
	for i, w := range workers {
		share := n / len(workers)
		if i < n%len(workers) {
			share++
		}
		all = append(all, w.send(order{Op: "call", Tenant: tenant, URL: url, Callers: share}))
	}
	return all
}

func TestAThousandStragglersCauseOneRefresh(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{})
	workers := f.warmed(8, "acme")
	var refused string
	for _, raw := range f.server.Issued() {
		if f.server.AccessAlive(raw) {
			refused = raw
		}
	}
	f.server.ExpireAccessTokens("acme")
	var asked []*sent
	for range 5 { // within three seconds: before, during and long after the refresh
		for _, w := range workers {
			asked = append(asked, w.send(order{Op: "reject", Tenant: "acme", Token: refused, Callers: 25}))
		}
		time.Sleep(500 * time.Millisecond)
	}
	f.served(gather(asked), 1000)
	f.presented("acme", 1)
	if n := f.journaled("acme", "reject"); n != 1 {
		t.Errorf("%d refusals were noted, want 1", n)
	}
	f.living("acme")
}

func TestCallsDuringARefreshThatKillsTheOldTokenSurfaceNo401(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{})
	workers := f.warmed(8, "acme")
	gate := f.server.Hold(refreshtest.AfterCommit)
	refreshed := workers[0].send(order{Op: "refresh", Tenant: "acme", Callers: 1})
	gate.Await(t) // the old token is dead, and nobody has the new one
	asked := f.call(workers, "acme", f.server.APIURL(), 500)
	f.eventually("all calls to be refused", func() bool { return f.server.Stats().Unauthorized >= 500 })
	gate.Release()
	r := gather(asked)
	if r.served() != 500 || len(r.Errors) > 0 {
		t.Errorf("%d of 500 calls succeeded; %v %v", r.served(), r.Errors, r.Texts)
	}
	refreshed.report()
	f.presented("acme", 1) // 500 reports of the old token and a forced refresh are one exchange
	f.living("acme")
}

func TestTheOldTokenIsServedUntilTheNewOneIsThereWhereARefreshDoesNotKillIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{Profile: provider.Profile{KillsAccessToken: provider.No}})
	workers := f.warmed(8, "acme")
	gate := f.server.Hold(refreshtest.AfterCommit)
	refreshed := workers[0].send(order{Op: "refresh", Tenant: "acme", Callers: 1})
	gate.Await(t)
	r := gather(f.call(workers, "acme", f.server.APIURL(), 500)) // nobody waits for the gate
	gate.Release()
	refreshed.report()
	if stats := f.server.Stats(); r.served() != 500 || stats.Unauthorized > 0 {
		t.Errorf("%d of 500 calls succeeded, %d were refused; %v %v", r.served(), stats.Unauthorized, r.Errors, r.Texts)
	}
	f.presented("acme", 1)
}

// An API that refuses every token costs two exchanges, then the grant is suspect; what
// another API accepts is served all the while.
func TestAnAPIThatRefusesEverythingDoesNotBurnTheGrant(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{})
	workers := f.warmed(4, "acme")
	var calls atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer api.Close()
	suspect := 0
	for range 10 {
		r := gather(f.call(workers, "acme", api.URL, 100))
		suspect += r.Errors["unavailable/suspect"]
		if n := suspect; n > 0 && (r.RetryMin <= 0 || r.RetryMax > 76*time.Second) {
			t.Errorf("suspect: retry in %s to %s, want about a minute", r.RetryMin, r.RetryMax)
		}
	}
	if suspect == 0 || calls.Load() < 1000 {
		t.Errorf("%d calls ended with suspect, the API saw %d calls", suspect, calls.Load())
	}
	f.presented("acme", 2)
	if n := f.journaled("acme", "suspect"); n != 1 {
		t.Errorf("%d state changes to suspect, want 1", n)
	}
	r := gather(f.call(workers, "acme", f.server.APIURL(), 100))
	if r.served() != 100 {
		t.Errorf("%d of 100 calls of another API succeeded: %v", r.served(), r.Texts)
	}
	f.living("acme")
}
