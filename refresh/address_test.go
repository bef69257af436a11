package refresh_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// Tenants whose address cannot be made say nothing about the client: nobody was asked.
func TestTenantsWithoutAnAddressDoNotStopTheApp(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker(func(cfg *refresh.Config) {
		p, err := provider.PerTenant(func(g provider.Grant) (*oauth2.Config, error) {
			own := f.server.OAuth2Config()
			if strings.HasPrefix(g.Tenant, "lost") {
				own.Endpoint.TokenURL = "https://{region}.example.com"
			}
			return own, nil
		}, f.profile)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Provider = p
	})
	for i := range 5 {
		tenant := fmt.Sprint("lost", i)
		f.connect(w, tenant, true)
		if _, err := w.Token(f.ctx(), tenant); !errors.Is(err, refresh.ErrClientConfig) {
			t.Errorf("%s: %v", tenant, err)
		}
	}
	if s, err := w.cache.App("zoom").AppState(f.ctx()); err != nil || s.Open {
		t.Errorf("the circuit is open: %v, %v", s, err)
	}
	f.connect(w, "acme", true)
	f.token(w, "acme")
}
