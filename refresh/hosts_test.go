package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// hosted is a worker whose tenants have hosts of their own: that of a tenant called "sick0-acme" is called
// sick0, and says the step to everybody. All others are the fleet's.
func (f *fleet) hosted(n int, step refreshtest.Step) (w *worker, connect func(tenant string)) {
	f.t.Helper()
	of := map[string]*refreshtest.Server{}
	step.Times = -1
	for i := range n {
		s := refreshtest.Start(f.t, refreshtest.Config{})
		s.Script(step)
		of[fmt.Sprint("sick", i)] = s
	}
	server := func(tenant string) *refreshtest.Server {
		name, _, _ := strings.Cut(tenant, "-")
		if s := of[name]; s != nil {
			return s
		}
		return f.server
	}
	w = f.worker(func(cfg *refresh.Config) {
		p, err := provider.PerTenant(func(g provider.Grant) (*oauth2.Config, error) {
			return server(g.Tenant).OAuth2Config(), nil
		}, f.profile)
		if err != nil {
			f.t.Fatal(err)
		}
		cfg.Provider = p
	})
	return w, func(tenant string) {
		f.t.Helper()
		tok := server(tenant).Grant(tenant)
		tok.Expiry = time.Now().Add(-time.Second)
		if err := w.Connect(f.ctx(), tenant, tok); err != nil {
			f.t.Fatal(err)
		}
	}
}

func TestTheAnswerOfOneHostStopsNoTenantOfAnother(t *testing.T) {
	for name, c := range map[string]struct {
		step    refreshtest.Step
		kind    error
		stopped func(context.Context, *worker) bool
	}{
		"refused": {
			refreshtest.Step{Status: 401, Body: `{"error":"invalid_client"}`}, refresh.ErrClientConfig,
			func(ctx context.Context, w *worker) bool {
				s, err := w.cache.App("zoom").AppState(ctx)
				return err == nil && s.Open
			},
		},
		"throttled": {
			refreshtest.Step{Status: 429, Header: http.Header{"Retry-After": {"30"}}}, refresh.ErrUnavailable,
			func(ctx context.Context, w *worker) bool {
				s, err := w.cache.App("zoom").AppState(ctx)
				return err == nil && s.ThrottledUntil > s.Now()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w, connect := f.hosted(2, c.step)
			f.accepted(w)
			for i := range 6 {
				tenant := fmt.Sprint("sick0-", i)
				connect(tenant)
				if _, err := w.Token(f.ctx(), tenant); !errors.Is(err, c.kind) {
					t.Errorf("%s: %v", tenant, err)
				}
			}
			if c.stopped(f.ctx(), w) {
				t.Error("one host has stopped the app")
			}
			connect("healthy")
			f.token(w, "healthy")
			// That acceptance may be noted after what comes now, and ends it: so two hosts go on saying it.
			for i := 0; !c.stopped(f.ctx(), w); i++ {
				if i == 20 {
					t.Fatal("two hosts have not stopped the app")
				}
				for host := range 2 {
					tenant := fmt.Sprintf("sick%d-late%d", host, i)
					connect(tenant)
					if _, err := w.Token(f.ctx(), tenant); err == nil {
						t.Errorf("%s has a token", tenant)
					}
				}
			}
		})
	}
}
