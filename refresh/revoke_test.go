package refresh_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// disconnected asserts that the grant is one that a tenant has ended.
func (f *fleet) disconnected(w *worker, tenant string) {
	f.t.Helper()
	if st, err := w.Status(f.ctx(), tenant); err != nil || st.State != tokencache.Disconnected {
		f.t.Errorf("state %v, %v", st.State, err)
	}
}

func TestDisconnectRevokesAtTheProviderIfAsked(t *testing.T) {
	t.Parallel()
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		f := newFleet(t, refreshtest.Config{Profile: provider.Profile{AuthStyle: style}})
		f.profile.RevokeURL = f.server.RevokeURL()
		w := f.worker()
		for _, tenant := range []string{"kept", "revoked"} {
			f.connect(w, tenant, true)
			f.token(w, tenant)
		}
		kept, _ := f.server.Living("kept")
		gone, _ := f.server.Living("revoked")
		if err := w.Disconnect(f.ctx(), "kept"); err != nil || !f.server.Alive(kept) {
			t.Errorf("without Revoke: alive %v, %v", f.server.Alive(kept), err)
		}
		for range 2 { // a repeat has nothing to revoke, and says so by nothing
			if err := w.Disconnect(f.ctx(), "revoked", refresh.Revoke); err != nil || f.server.Alive(gone) {
				t.Errorf("with Revoke: alive %v, %v", f.server.Alive(gone), err)
			}
		}
		f.disconnected(w, "revoked")
		if err := w.Disconnect(f.ctx(), "nobody", refresh.Revoke); err != nil {
			t.Errorf("nobody: %v", err)
		}
	}
}

// A process that has never seen the grant revokes it as well.
func TestDisconnectRevokesWhatAnotherProcessHasRefreshed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.RevokeURL = f.server.RevokeURL()
	w, other := f.worker(), f.worker()
	f.connect(w, "acme", true)
	f.token(w, "acme")
	living, _ := f.server.Living("acme")
	if err := other.Disconnect(f.ctx(), "acme", refresh.Revoke); err != nil || f.server.Alive(living) {
		t.Errorf("alive %v, %v", f.server.Alive(living), err)
	}
}

func TestDisconnectSaysWhenItCouldNotRevoke(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	for _, c := range []struct {
		name  string
		url   func(t *testing.T) string
		kind  error
		asked int32
		ok    bool
	}{
		{"no address", func(*testing.T) string { return "" }, refresh.ErrClientConfig, 0, false},
		{"a provider that is away", answers(&asked, 503, ""), refresh.ErrUnavailable, 3, false},
		{"a provider that refuses the client", answers(&asked, 401, `{"error":"invalid_client"}`), refresh.ErrClientConfig, 1, false},
		{"a provider that refuses", answers(&asked, 400, `{"error":"unsupported_token_type"}`), refresh.ErrUnavailable, 1, false},
		{"a token that is dead already", answers(&asked, 400, `{"error":"invalid_token"}`), nil, 1, true},
	} {
		asked.Store(0)
		f := newFleet(t, refreshtest.Config{TokenPrefix: "canary-"})
		f.profile.RevokeURL = c.url(t)
		w := f.worker()
		f.connect(w, "acme", false)
		err := w.Disconnect(f.ctx(), "acme", refresh.Revoke)
		if c.ok {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if kind(t, err, c.kind, "not_revoked"); strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: leaks: %v", c.name, err)
		}
		if asked.Load() != c.asked {
			t.Errorf("%s: asked %d times, want %d", c.name, asked.Load(), c.asked)
		}
		f.disconnected(w, "acme")
	}
}

// failsOnce lets the first command fail that names a word.
type failsOnce struct {
	word string
	done *atomic.Bool
}

var errOnce = errors.New("a connection that broke")

func (h failsOnce) hits(cmd redis.Cmder) bool {
	return strings.Contains(cmd.String(), h.word) && h.done.CompareAndSwap(false, true)
}

func (h failsOnce) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h failsOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if h.hits(cmd) {
				cmd.SetErr(errOnce)
				return errOnce
			}
		}
		return next(ctx, cmds)
	}
}

func (h failsOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.hits(cmd) {
			cmd.SetErr(errOnce)
			return errOnce
		}
		return next(ctx, cmd)
	}
}

// The token could not be read, the grant could be ended: whoever asked for both must hear that the token may live.
func TestDisconnectSaysWhenItCouldNotReadWhatToRevoke(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.RevokeURL = f.server.RevokeURL()
	f.connect(f.worker(), "acme", false)
	living, _ := f.server.Living("acme")
	rdb := f.redis.Client(t)
	w := f.workerOn(rdb)
	rdb.AddHook(failsOnce{"{zoom:acme}:", new(atomic.Bool)})
	err := w.Disconnect(f.ctx(), "acme", refresh.Revoke)
	f.disconnected(w, "acme")
	if f.server.Alive(living) {
		kind(t, err, refresh.ErrUnavailable, "not_revoked")
	}
}

func answers(asked *atomic.Int32, status int, body string) func(*testing.T) string {
	return func(t *testing.T) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
}

// The exchange was under way when the tenant was disconnected: its pair is revoked as the one before was. Whether
// that one's end is the end of its successors is up to the provider.
func TestAPairThatArrivesAfterDisconnectIsRevokedIfAskedFor(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{true, false} {
		f := newFleet(t, refreshtest.Config{})
		var mu sync.Mutex
		var revoked []string
		endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			revoked = append(revoked, r.FormValue("token"))
		}))
		defer endpoint.Close()
		f.profile.RevokeURL = endpoint.URL
		holder, other := f.worker(), f.worker()
		first := f.connect(holder, "acme", true).RefreshToken
		gate := f.server.Hold(refreshtest.AfterCommit)
		ended := make(chan error, 1)
		go func() {
			_, err := holder.Token(f.ctx(), "acme")
			ended <- err
		}()
		gate.Await(t)
		late, _ := f.server.Living("acme") // is on its way
		want := []string(nil)
		var opts []refresh.DisconnectOption
		if asked {
			opts, want = append(opts, refresh.Revoke), []string{first, late}
		}
		if err := other.Disconnect(f.ctx(), "acme", opts...); err != nil {
			t.Fatal(err)
		}
		gate.Release()
		if err := <-ended; !errors.Is(err, refresh.ErrNotConnected) {
			t.Errorf("%v", err)
		}
		if err := holder.Close(f.ctx()); err != nil { // it waits for what is under way
			t.Fatal(err)
		}
		mu.Lock()
		if !slices.Equal(revoked, want) {
			t.Errorf("asked to revoke: %v; %d revocations, want %d", asked, len(revoked), len(want))
		}
		mu.Unlock()
		f.disconnected(other, "acme")
	}
}
