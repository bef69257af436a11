package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

func TestMain(m *testing.M) {
	zerolog.TimeFieldFormat = zerolog.TimeFormatUnixMicro
	goleak.VerifyTestMain(m)
}

// fleet is one app on one Redis with one strict provider, and workers of it: each has a
// cache, a connection pool and a coordinator of its own, like a process.
type fleet struct {
	t       testing.TB
	redis   *redistest.Server
	server  *refreshtest.Server
	prefix  string
	profile provider.Profile
	config  refresh.Config // what workers differ in from the default
	lease   time.Duration
}

func newFleet(t testing.TB, cfg refreshtest.Config) *fleet {
	t.Helper()
	return &fleet{
		t: t, redis: redistest.Start(t), server: refreshtest.Start(t, cfg),
		prefix: redistest.Prefix(t), profile: cfg.Profile, lease: 10 * time.Second,
	}
}

type worker struct {
	*refresh.Coordinator
	cache *tokencache.Cache
	rdb   redis.UniversalClient
}

// worker starts one more worker. It is closed at the end of the test.
func (f *fleet) worker(alter ...func(*refresh.Config)) *worker {
	f.t.Helper()
	return f.workerOn(f.redis.Client(f.t), alter...)
}

func (f *fleet) workerOn(rdb redis.UniversalClient, alter ...func(*refresh.Config)) *worker {
	f.t.Helper()
	cache, err := tokencache.New(rdb, tokencache.Config{Prefix: f.prefix, AEAD: tokencache.Plaintext})
	if err != nil {
		f.t.Fatal(err)
	}
	p, err := provider.OAuth2(f.server.OAuth2Config(), f.profile)
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := f.config
	cfg.App, cfg.Cache, cfg.Provider = "zoom", cache, p
	cfg.Locker = lock.New(lock.Config{TTL: f.lease}, rdb)
	if testing.Verbose() {
		cfg.Log = zerolog.New(zerolog.NewTestWriter(f.t)).With().Timestamp().Logger()
	}
	for _, a := range alter {
		a(&cfg)
	}
	c, err := refresh.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			f.t.Errorf("close: %v", err)
		}
	})
	return &worker{Coordinator: c, cache: cfg.Cache, rdb: rdb}
}

// connect lets a tenant consent; its access token has already expired if so wished.
func (f *fleet) connect(w *worker, tenant string, expired bool) *oauth2.Token {
	f.t.Helper()
	tok := f.server.Grant(tenant)
	if expired {
		f.server.ExpireAccessTokens(tenant)
		tok.Expiry = time.Now().Add(-time.Second)
	}
	if err := w.Connect(f.ctx(), tenant, tok); err != nil {
		f.t.Fatal(err)
	}
	return tok
}

// ctx bounds one step of a test.
func (f *fleet) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	f.t.Cleanup(cancel)
	return ctx
}

// token calls Token and fails the test on an error.
func (f *fleet) token(w *worker, tenant string) *oauth2.Token {
	f.t.Helper()
	tok, err := w.Token(f.ctx(), tenant)
	if err != nil {
		f.t.Fatalf("Token(%s): %v", tenant, err)
	}
	return tok
}

// tokenAfterAll is Token for a caller that comes again, if it was sent away since a busy machine took longer over
// the exchange than it may take: its answer is taken all the same.
func (f *fleet) tokenAfterAll(w *worker, tenant string) (*oauth2.Token, error) {
	ctx := f.ctx()
	tok, err := w.Token(ctx, tenant)
	var e *refresh.Error
	if !errors.As(err, &e) || e.Code != "slow_exchange" {
		return tok, err
	}
	for errors.Is(err, refresh.ErrUnavailable) && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
		tok, err = w.Token(ctx, tenant)
	}
	return tok, err
}

// lawful asserts what must hold after every story: nobody presented a spent refresh
// token against the rules, and the stored pair is the one that lives at the provider.
func (f *fleet) lawful(w *worker, tenant string) {
	f.t.Helper()
	if v := f.server.Ledger().Violations(f.profile); len(v) > 0 {
		f.t.Errorf("spent refresh tokens were presented again:\n%s", v)
	}
	f.living(w, tenant)
}

// living asserts that the stored pair is the one that lives at the provider, or soon is: an exchange that
// nobody waits for may be under way.
func (f *fleet) living(w *worker, tenant string) {
	f.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		want, ok := f.server.Living(tenant)
		st, err := w.Status(f.ctx(), tenant)
		if err != nil || !ok {
			f.t.Fatalf("living=%v status: %v", ok, err)
		}
		if st.State == tokencache.Active && st.RefreshTokenFingerprint == refreshtest.Fingerprint(want) {
			return
		}
		if time.Now().After(end) {
			f.t.Errorf("stored pair %s (%s) is not the living one %s", st.RefreshTokenFingerprint, st.State, refreshtest.Fingerprint(want))
			return
		}
	}
}

// kind asserts an error's kind and code, and returns it.
func kind(t testing.TB, err, kind error, code string) *refresh.Error {
	t.Helper()
	var e *refresh.Error
	if !errors.As(err, &e) || !errors.Is(err, kind) || (code != "" && e.Code != code) {
		t.Fatalf("got %v, want kind %q code %q", err, kind, code)
	}
	return e
}

func key(tenant string) tokencache.Key { return tokencache.Key{App: "zoom", Tenant: tenant} }

// knows waits until a worker has been pushed a generation, or remembers nothing.
func (f *fleet) knows(w *worker, tenant string, generation int64) {
	f.t.Helper()
	f.told(w, tenant, fmt.Sprint("generation ", generation), func(s *engine.Snapshot) bool { return s.Generation >= generation })
}

// told waits until a worker has been pushed a state like that, or remembers nothing. A worker that has
// lost its subscription, as on a busy machine, reads.
func (f *fleet) told(w *worker, tenant, what string, is func(*engine.Snapshot) bool) {
	f.t.Helper()
	g := w.cache.Grant(key(tenant))
	pin := g.Pin()
	defer pin.Unpin()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	ctx := f.ctx()
	for {
		news := pin.Changed()
		if s := g.Recall(); s == nil || is(s) {
			return
		}
		select {
		case <-news:
		case <-look.C:
			if g.Peek() == nil {
				_, _ = g.Read(ctx)
			}
		case <-ctx.Done():
			f.t.Fatalf("%s of %s was never pushed", what, tenant)
		}
	}
}
