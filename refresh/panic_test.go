package refresh_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// fragile is an AEAD that panics while it is told to.
type fragile struct {
	tokencache.AEAD
	panics atomic.Bool
}

func (a *fragile) Decrypt(text, ad []byte) ([]byte, error) {
	if a.panics.Load() {
		panic("an AEAD's")
	}
	return a.AEAD.Decrypt(text, ad)
}

// An HTTP server recovers what its handler panics with. The next call for the tenant is one like any other.
func TestACallerThatPanicsLeavesNoFlightBehind(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	aead := &fragile{AEAD: tokencache.Plaintext}
	w := f.worker(func(cfg *refresh.Config) {
		cache, err := tokencache.New(cfg.Cache.Redis(), tokencache.Config{Prefix: f.prefix, AEAD: aead, HotGrants: 1})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Cache = cache
	})
	stage := f.worker()
	for _, tenant := range []string{"hot", "cold"} {
		f.connect(stage, tenant, false)
	}
	for w.cache.Grant(key("hot")).Peek() == nil { // memory is full
		f.token(w, "hot")
	}
	panicked := false
	aead.panics.Store(true)
	func() {
		defer func() { panicked = recover() != nil }()
		_, _ = w.Token(context.Background(), "cold")
	}()
	aead.panics.Store(false)
	ctx, cancel := context.WithTimeout(f.ctx(), 20*time.Second)
	defer cancel()
	if _, err := w.Token(ctx, "cold"); err != nil {
		t.Error(err)
	}
	if !panicked {
		t.Error("the call has not panicked: nothing is proven")
	}
}

// brittle is an AEAD that panics when it seals, while it is told to.
type brittle struct {
	tokencache.AEAD
	panics atomic.Bool
}

func (a *brittle) Encrypt(text, ad []byte) ([]byte, error) {
	if a.panics.Load() {
		panic("an AEAD's")
	}
	return a.AEAD.Encrypt(text, ad)
}

// An HTTP server recovers what its handler panics with. A lease that was left behind would be extended for as
// long as the process lives, and nobody could mint for the tenant.
func TestAFirstMintThatPanicsLeavesNoLeaseBehind(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.ZoomServerToServer()})
	f.lease = 5 * time.Second
	aead := &brittle{AEAD: tokencache.Plaintext}
	w := f.worker(f.minter(1), func(cfg *refresh.Config) {
		cache, err := tokencache.New(cfg.Cache.Redis(), tokencache.Config{Prefix: f.prefix, AEAD: aead})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Cache = cache
	})
	panicked := false
	aead.panics.Store(true)
	func() {
		defer func() { panicked = recover() != nil }()
		_ = w.Connect(f.ctx(), "acme", nil)
	}()
	aead.panics.Store(false)
	if !panicked {
		t.Fatal("the call has not panicked: nothing is proven")
	}
	if err := f.worker(f.minter(1)).Connect(f.ctx(), "acme", nil); err != nil {
		t.Error(err)
	}
}
