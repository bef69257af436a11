package refresh_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// minter is a server-to-server app whose account is the tenant, with n keys.
func (f *fleet) minter(keys int) func(*refresh.Config) {
	f.t.Helper()
	client := f.server.OAuth2Config()
	p, err := provider.Rotating(keys, func(slot int) (provider.Provider, error) {
		return provider.ClientCredentials(&clientcredentials.Config{
			ClientID: client.ClientID, ClientSecret: client.ClientSecret, TokenURL: client.Endpoint.TokenURL,
			EndpointParams: url.Values{
				"grant_type": {"account_credentials"}, "account_id": {"{tenant}"}, "token_index": {fmt.Sprint(slot)},
			},
			AuthStyle: oauth2.AuthStyleInHeader,
		}, f.profile)
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return func(cfg *refresh.Config) { cfg.Provider = p }
}

// signer is an app that signs its assertions (RFC 7523), and its public key.
func signer(t *testing.T) (public *rsa.PublicKey, app func(f *fleet) func(*refresh.Config)) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &private.PublicKey, func(f *fleet) func(*refresh.Config) {
		p, err := provider.JWTBearer(&jwt.Config{
			Email: "app", Subject: "{tenant}", TokenURL: f.server.TokenURL(),
			PrivateKey: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}),
		}, f.profile)
		if err != nil {
			t.Fatal(err)
		}
		return func(cfg *refresh.Config) { cfg.Provider = p }
	}
}

func TestAGrantWithoutRefreshTokenIsMintedByOneProcess(t *testing.T) {
	t.Parallel()
	public, signs := signer(t)
	for name, app := range map[string]func(*fleet) func(*refresh.Config){
		"account credentials": func(f *fleet) func(*refresh.Config) { return f.minter(1) },
		"JWT bearer":          signs,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, refreshtest.Config{Profile: provider.ZoomServerToServer(), PublicKey: public})
			f.mintedByOne(app(f))
		})
	}
}

func (f *fleet) mintedByOne(app func(*refresh.Config)) {
	f.t.Helper()
	var workers []*worker
	for range 4 {
		workers = append(workers, f.worker(app))
	}
	_, err := workers[0].Token(f.ctx(), "acme")
	if !errors.Is(err, refresh.ErrNotConnected) {
		f.t.Errorf("before the first mint: %v", err)
	}
	var calls sync.WaitGroup
	for _, w := range workers { // as workers do that start together
		calls.Go(func() {
			if err := w.Connect(f.ctx(), "acme", nil); err != nil {
				f.t.Error(err)
			}
		})
	}
	calls.Wait()
	if n := len(f.server.Ledger()); n != 1 {
		f.t.Errorf("%d mints for one grant", n)
	}
	first := f.token(workers[0], "acme")
	for range 3 {
		f.alter(workers[0], "acme", "expires_at", 1, "refresh_at", 1)
		for i := range workers {
			for range 25 {
				calls.Go(func() { _ = workers[i].Refresh(f.ctx(), "acme") })
			}
		}
		calls.Wait()
	}
	tok := f.token(workers[3], "acme")
	if tok.AccessToken == first.AccessToken || !f.server.AccessAlive(tok.AccessToken) || tok.RefreshToken != "" {
		f.t.Error("not a newer token that lives")
	}
	if st, err := workers[0].Status(f.ctx(), "acme"); err != nil || st.RefreshTokenFingerprint != "" || st.State != tokencache.Active {
		f.t.Errorf("%v, %v", st, err)
	}
}

// Nothing is spent by a mint: whatever goes wrong, the grant comes back by itself.
func TestAGrantWithoutRefreshTokenIsNeverDead(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.ZoomServerToServer()})
	w := f.worker(f.minter(1))
	if err := w.Connect(f.ctx(), "acme", nil); err != nil {
		t.Fatal(err)
	}
	f.server.Revoke("acme")
	kind(t, w.Refresh(f.ctx(), "acme"), refresh.ErrReauthorize, "invalid_grant")
	st, err := w.Status(f.ctx(), "acme")
	if err != nil || st.State != tokencache.Active || st.RetryAt.IsZero() {
		t.Errorf("%v, %v", st, err)
	}
	f.server.Grant("acme")
	f.server.Script(refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Drop})
	for end := time.Now().Add(30 * time.Second); ; {
		err := w.Refresh(f.ctx(), "acme")
		if err == nil {
			break
		}
		var e *refresh.Error
		if !errors.As(err, &e) || e.RetryAfter <= 0 || e.RetryAfter > 5*time.Second || time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(e.RetryAfter)
	}
	if tok := f.token(w, "acme"); !f.server.AccessAlive(tok.AccessToken) {
		t.Error("the token does not live")
	}
}

func TestAGrantWithoutRefreshTokenIsRenewedInUseAndLeftAloneIdle(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.ZoomServerToServer()})
	w := f.worker(f.minter(1))
	events := w.Events(t.Context())
	for _, tenant := range []string{"used", "idle"} {
		if err := w.Connect(f.ctx(), tenant, nil); err != nil {
			t.Fatal(err)
		}
		f.token(w, tenant)
	}
	before := len(f.server.Ledger())
	f.alter(w, "idle", "refresh_at", 1)
	f.inUse(w, "used")
	f.run(f.worker(f.minter(1)))
	f.hears(events, refresh.EventRefreshed, "used")
	if n := len(f.server.Ledger()) - before; n != 1 {
		t.Errorf("%d mints, only one grant is in use", n)
	}
}

// Twenty rotations under load. While the new key is minted, callers go on with the old one: with
// two slots it lives, with one the mint has killed it.
func TestTwoKeysLetTheOldOneDrain(t *testing.T) {
	t.Parallel()
	for keys, fails := range map[int]bool{2: false, 1: true} {
		t.Run(fmt.Sprint(keys, " keys"), func(t *testing.T) {
			f := newFleet(t, refreshtest.Config{Profile: provider.ZoomServerToServer()})
			w := f.worker(f.minter(keys))
			if err := w.Connect(f.ctx(), "acme", nil); err != nil {
				t.Fatal(err)
			}
			load := f.load(4, f.worker(f.minter(keys)), f.worker(f.minter(keys)))
			for range 20 {
				gate := f.server.Hold(refreshtest.AfterCommit)
				refreshed := make(chan error, 1)
				go func() { refreshed <- w.Refresh(f.ctx(), "acme") }()
				gate.Await(t)
				load.round(t) // the new key is minted, and nobody has it
				gate.Release()
				if err := <-refreshed; err != nil {
					t.Fatal(err)
				}
				load.round(t) // calls with the old key end
			}
			calls, failed := load.stop()
			if (failed > 0) != fails {
				t.Errorf("%d of %d calls failed", failed, calls)
			}
			t.Logf("%d of %d calls failed", failed, calls)
			if n := len(f.server.Ledger()); n != 21 {
				t.Errorf("%d mints for 20 rotations", n)
			}
		})
	}
}

// load is callers that use the API without pause, and count what it refuses.
type load struct {
	callers  []*atomic.Int64 // finished calls of each
	failed   atomic.Int64
	quit     chan struct{}
	finished sync.WaitGroup
}

func (f *fleet) load(each int, workers ...*worker) *load {
	f.t.Helper()
	l := &load{quit: make(chan struct{})}
	for _, w := range workers {
		f.token(w, "acme")
		for range each {
			n := new(atomic.Int64)
			l.callers = append(l.callers, n)
			l.finished.Go(func() {
				for {
					select {
					case <-l.quit:
						return
					default:
					}
					if !f.calls(w) {
						l.failed.Add(1)
					}
					n.Add(1)
				}
			})
		}
	}
	return l
}

// calls makes one call of the API, without the help of Client.
func (f *fleet) calls(w *worker) bool {
	tok, err := w.Token(f.ctx(), "acme")
	if err != nil {
		f.t.Error(err)
		return false
	}
	req, err := http.NewRequestWithContext(f.ctx(), http.MethodGet, f.server.APIURL(), nil)
	if err != nil {
		f.t.Error(err)
		return false
	}
	tok.SetAuthHeader(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Error(err)
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// round waits until every caller has begun and finished a call.
func (l *load) round(t *testing.T) {
	t.Helper()
	for _, n := range l.callers {
		for from, end := n.Load(), time.Now().Add(30*time.Second); n.Load() < from+2; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("a caller hangs")
			}
		}
	}
}

func (l *load) stop() (calls, failed int64) {
	close(l.quit)
	l.finished.Wait()
	http.DefaultClient.CloseIdleConnections()
	for _, n := range l.callers {
		calls += n.Load()
	}
	return calls, l.failed.Load()
}

// Each new tenant is a mint, and mints are the app's requests like all others.
func TestFirstMintsKeepToTheBudgetAndToTheCircuit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.ZoomServerToServer(), LatencyBefore: 5 * time.Millisecond})
	f.profile.Budget = provider.Budget{Concurrency: 2}
	f.lease = 20 * time.Second // trying it has a quarter of that, and here 30 do so at once
	workers := []*worker{f.worker(f.minter(1)), f.worker(f.minter(1))}
	enroll := func(name string, n int) (errs []error) {
		var mu sync.Mutex
		var calls sync.WaitGroup
		for i := range n {
			calls.Go(func() {
				err := workers[i%2].Connect(f.ctx(), fmt.Sprint(name, i), nil)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
		calls.Wait()
		return errs
	}
	for _, err := range enroll("tenant", 30) {
		if err != nil {
			t.Error(err)
		}
	}
	if l := f.server.Ledger(); len(l) != 30 || l.InFlight() > 2 {
		t.Errorf("%d mints, %d at once", len(l), l.InFlight())
	}
	// The circuit is open, and it is time for a probe: one.
	f.opened(workers[0], 12, 0)
	f.server.SetClientSecrets("another")
	for _, err := range enroll("late", 30) {
		kind(t, err, refresh.ErrClientConfig, "")
	}
	if n := len(f.server.Ledger()) - 30; n != 1 {
		t.Errorf("%d probes at once", n)
	}
}
