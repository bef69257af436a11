//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// fleet is several processes' worth of workers on one real Redis, at one server.
type fleet struct {
	t      *testing.T
	server *server
	prefix string
	redis  *redistest.Server
}

func newFleet(t *testing.T, p program, l lives) *fleet {
	t.Helper()
	return &fleet{t: t, server: p.listen(t, l), prefix: redistest.Prefix(t), redis: redistest.Start(t)}
}

func (f *fleet) worker(cfg *oauth2.Config) *refresh.Coordinator {
	f.t.Helper()
	var rdb redis.UniversalClient = f.redis.Client(f.t)
	cache, err := tokencache.New(rdb, tokencache.Config{Prefix: f.prefix, AEAD: tokencache.Plaintext})
	if err != nil {
		f.t.Fatal(err)
	}
	p, err := provider.OAuth2(cfg, f.server.profile)
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := refresh.New(refresh.Config{App: "app", Cache: cache, Provider: p})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			f.t.Errorf("close: %v", err)
		}
	})
	return c
}

func (f *fleet) workers(n int) (all []*refresh.Coordinator) {
	for range n {
		all = append(all, f.worker(f.server.config()))
	}
	return all
}

func (f *fleet) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	f.t.Cleanup(cancel)
	return ctx
}

// connect lets a tenant consent. Its access token counts as expired if so wished.
func (f *fleet) connect(w *refresh.Coordinator, tenant string, expired bool) *oauth2.Token {
	f.t.Helper()
	tok := f.server.consent(f.t, tenant)
	if expired {
		tok.Expiry = time.Now().Add(-time.Second)
	}
	if err := w.Connect(f.ctx(), tenant, tok); err != nil {
		f.t.Fatal(err)
	}
	return tok
}

// forAll runs a test against each program, at the same time.
func forAll(t *testing.T, test func(t *testing.T, p program)) {
	t.Parallel()
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) { t.Parallel(); test(t, p) })
	}
}

var long = lives{time.Hour, 24 * time.Hour}

func TestAStormIsOneRefresh(t *testing.T) {
	forAll(t, func(t *testing.T, p program) {
		f := newFleet(t, p, long)
		workers := f.workers(4)
		for round := range 5 {
			tenant := fmt.Sprint("acme", round)
			first := f.connect(workers[0], tenant, true)
			before := f.server.refreshes.Load()
			var mu sync.Mutex
			seen := map[string]int{}
			var callers sync.WaitGroup
			for i := range 80 {
				callers.Go(func() {
					tok, err := workers[i%len(workers)].Token(f.ctx(), tenant)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					seen[tok.AccessToken]++
				})
			}
			callers.Wait()
			if n := f.server.refreshes.Load() - before; n != 1 || len(seen) != 1 || seen[first.AccessToken] != 0 {
				t.Errorf("round %d: %d refreshes, %d different tokens", round, n, len(seen))
			}
			for tok := range seen {
				if !f.server.alive(tok) {
					t.Error("the server does not know the token")
				}
			}
		}
	})
}

func TestAGrantLivesThroughManyRotations(t *testing.T) {
	forAll(t, func(t *testing.T, p program) {
		f := newFleet(t, p, long)
		workers := f.workers(3)
		f.connect(workers[0], "acme", false)
		for range 30 {
			if err := workers[rand.IntN(len(workers))].Refresh(f.ctx(), "acme"); err != nil {
				t.Fatal(err)
			}
		}
		// A worker that has not heard of the last one yet is served that.
		if n := f.server.refreshes.Load(); n > 30 || n < 10 {
			t.Errorf("%d refreshes", n)
		}
		tok, err := f.worker(f.server.config()).Token(f.ctx(), "acme") // one that reads, and waits for no push
		if err != nil || !f.server.alive(tok.AccessToken) {
			t.Errorf("the last token: %v", err)
		}
	})
}

// What the profile says of a second presentation is what the server does.
func TestAnOldRefreshTokenDoesWhatTheProfileSays(t *testing.T) {
	forAll(t, func(t *testing.T, p program) {
		f := newFleet(t, p, long)
		first := f.server.consent(t, "acme")
		second, code := f.server.redeem(t, first.RefreshToken)
		if code != "" || second.RefreshToken == "" || second.RefreshToken == first.RefreshToken {
			t.Fatalf("no rotation: %q", code)
		}
		if f.server.alive(first.AccessToken) && p.profile.KillsAccessToken == provider.Yes {
			t.Error("the access token before lives on")
		}
		if _, code = f.server.redeem(t, first.RefreshToken); code == "" {
			t.Fatal("the old refresh token works")
		}
		if code != "invalid_grant" {
			t.Errorf("an old refresh token is %q", code)
		}
		_, code = f.server.redeem(t, second.RefreshToken)
		family := code != ""
		if family != (p.profile.Replay == provider.ReplayRevokesFamily) {
			t.Errorf("the profile says %s, the successor of a replayed token is refused with %q", p.profile.Replay, code)
		}
		if family && f.server.alive(second.AccessToken) {
			t.Error("the successor's access token lives on")
		}
	})
}

// Another program has used the refresh token: the tenant must consent again, and that helps.
func TestAReplayedGrantMustConsentAgain(t *testing.T) {
	forAll(t, func(t *testing.T, p program) {
		f := newFleet(t, p, long)
		w := f.worker(f.server.config())
		tok := f.connect(w, "acme", true)
		if _, code := f.server.redeem(t, tok.RefreshToken); code != "" {
			t.Fatal(code)
		}
		if _, err := w.Token(f.ctx(), "acme"); !errors.Is(err, refresh.ErrReauthorize) {
			t.Errorf("%v", err)
		}
		f.connect(w, "acme", true)
		if _, err := w.Token(f.ctx(), "acme"); err != nil {
			t.Error(err)
		}
	})
}

func TestARevokedGrantIsDeadAtTheServer(t *testing.T) {
	forAll(t, func(t *testing.T, p program) {
		if p.profile.RevokeURL == "" {
			if p.name != "go-oauth2" { // it has no such endpoint
				t.Errorf("%s has no RevokeURL", p.name)
			}
			return
		}
		f := newFleet(t, p, long)
		w := f.worker(f.server.config())
		f.connect(w, "acme", true)
		tok, err := w.Token(f.ctx(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Disconnect(f.ctx(), "acme", refresh.Revoke); err != nil {
			t.Fatal(err)
		}
		if f.server.alive(tok.AccessToken) {
			t.Error("its access token lives on")
		}
		// One that the server revokes itself is the tenant's to renew.
		other := f.connect(w, "beta", true)
		if status, _ := f.server.post(t, "/revoke", url.Values{"token": {other.RefreshToken}, "token_type_hint": {"refresh_token"}}); status != 200 {
			t.Errorf("revocation: %d", status)
		}
		if _, err := w.Token(f.ctx(), "beta"); !errors.Is(err, refresh.ErrReauthorize) {
			t.Errorf("a revoked one: %v", err)
		}
	})
}

// A wrong secret is the operator's, and spends nothing.
func TestAWrongSecretIsTheOperatorsAndSpendsNothing(t *testing.T) {
	forAll(t, func(t *testing.T, p program) {
		f := newFleet(t, p, long)
		wrong := f.server.config()
		wrong.ClientSecret = "not-" + secret
		w := f.worker(wrong)
		for _, tenant := range []string{"acme", "beta"} {
			f.connect(w, tenant, true)
		}
		for _, tenant := range []string{"acme", "beta"} {
			_, err := w.Token(f.ctx(), tenant)
			if p.laxSecret && err != nil {
				t.Errorf("%s looks at the secret: %v", p.name, err)
			}
			if !p.laxSecret && !errors.Is(err, refresh.ErrClientConfig) {
				t.Errorf("%s: %v", tenant, err)
			}
		}
		// The right one goes on with the same tokens, as soon as the circuit lets it.
		right := f.worker(f.server.config())
		for _, tenant := range []string{"acme", "beta"} {
			for ctx := f.ctx(); ; {
				_, err := right.Token(ctx, tenant)
				if err == nil {
					break
				}
				var e *refresh.Error
				if !errors.As(err, &e) || errors.Is(err, refresh.ErrReauthorize) || ctx.Err() != nil {
					t.Errorf("%s: %v", tenant, err)
					break
				}
				select {
				case <-time.After(min(e.RetryAfter, time.Second)):
				case <-ctx.Done():
				}
			}
		}
	})
}

func TestTokensThatEndAreRenewedAndRefreshTokensThatEndAreTheTenants(t *testing.T) {
	forAll(t, func(t *testing.T, p program) {
		if !p.settable {
			return
		}
		f := newFleet(t, p, lives{2 * time.Second, time.Hour})
		w := f.worker(f.server.config())
		first := f.connect(w, "acme", false)
		var tok *oauth2.Token
		for ctx := f.ctx(); tok == nil || tok.AccessToken == first.AccessToken; {
			var err error
			if tok, err = w.Token(ctx, "acme"); err != nil {
				t.Fatal(err)
			}
			if !f.server.alive(tok.AccessToken) && time.Now().Before(first.Expiry.Add(-200*time.Millisecond)) {
				t.Fatal("a dead token was served")
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !f.server.alive(tok.AccessToken) || time.Until(tok.Expiry) > 2*time.Second {
			t.Errorf("the renewed token ends at %s", tok.Expiry)
		}

		f = newFleet(t, p, lives{time.Hour, time.Second})
		w = f.worker(f.server.config())
		f.connect(w, "acme", true)
		time.Sleep(2500 * time.Millisecond) // the server's clock has whole seconds
		if _, err := w.Token(f.ctx(), "acme"); !errors.Is(err, refresh.ErrReauthorize) {
			t.Errorf("%v", err)
		}
	})
}
