package inspect_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// watched is a Watch that is read by name.
type watched struct {
	t    *testing.T
	next func() (grant.Key, error, bool)
}

func watch(t *testing.T, seq iter.Seq2[grant.Key, error]) watched {
	next, stop := iter.Pull2(seq)
	t.Cleanup(stop)
	return watched{t, next}
}

func (w watched) wants(k grant.Key) {
	w.t.Helper()
	if got, err, ok := w.next(); got != k || err != nil || !ok {
		w.t.Fatalf("%q, %v, %t; want %q", got, err, ok, k)
	}
}

// As a user who cannot read a token, and by patterns as well as by names.
func TestWatchTellsOfEachChange(t *testing.T) {
	t.Parallel()
	s := redistest.Own(t)
	allow(t, s.Client(t))
	rdb := s.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "tlreader", "reader" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f, in := newFleet(t, s.Client(t), ""), newInspector(t, rdb, "")
	all, one := watch(t, in.Watch(ctx, "")), watch(t, in.Watch(ctx, "zoom"))
	all.wants(grant.Key{})
	one.wants(grant.Key{})

	f.connect(grant.Key{App: "hub spot", Tenant: "ä/b:c"}, 1)
	all.wants(grant.Key{App: "hub spot", Tenant: "ä/b:c"})
	f.claim(f.connect(zoom("acme"), 2), "w1") // the claim is a mere step
	if err := f.cache.Grant(zoom("acme")).Disconnect(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.cache.App("zoom").As("w1").Throttle(ctx, engine.NewID(), "throttled//429", "a", time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, w := range []watched{all, one} {
		w.wants(zoom("acme"))
		w.wants(zoom("acme"))
		w.wants(grant.Key{App: "zoom"})
	}
	// What names no grant of that app is nobody's change.
	for _, payload := range []string{"", "tl2 x", "tl2 x\ntl:{slack:acme}:events\ncommit 1", "tl2 x\ntl:{zoom:}:events\n", "tl2 x\nrubbish"} {
		if err := s.Client(t).Publish(ctx, "tl:events:zoom", payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	f.connect(zoom("next"), 3)
	one.wants(zoom("next"))
}

func TestWatchSaysWhenItListensAgain(t *testing.T) {
	t.Parallel()
	s := redistest.Own(t)
	proxy := redistest.NewProxy(t, s.Addr())
	f := newFleet(t, s.Client(t), "")
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	in := newInspector(t, rdb, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := watch(t, in.Watch(ctx, ""))
	w.wants(grant.Key{})
	proxy.Cut()
	if _, err, ok := w.next(); err == nil || !ok {
		t.Fatalf("a lost connection: %v, %t", err, ok)
	}
	w.wants(grant.Key{})
	f.connect(zoom("acme"), 1)
	w.wants(zoom("acme"))
	cancel()
	if _, err, ok := w.next(); ok && !errors.Is(err, context.Canceled) {
		t.Errorf("after ctx ended: %v", err)
	}
}

func TestWatchSaysWhatItMayNot(t *testing.T) {
	t.Parallel()
	s := redistest.Own(t)
	if err := s.Client(t).ACLSetUser(t.Context(), "deaf", "on", ">deaf", "~*", "resetchannels", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	in := newInspector(t, s.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "deaf", "deaf" }), "")
	for k, err := range in.Watch(t.Context(), "zoom") {
		if k != (grant.Key{}) || !redis.HasErrorPrefix(err, "NOPERM") && !errors.Is(err, grant.ErrUnfit) {
			t.Errorf("%q, %v", k, err)
		}
		break
	}
}

// A connection on which nothing comes any more looks like one on which nothing happens.
func TestWatchNoticesAConnectionThatHasGoneSilent(t *testing.T) {
	t.Parallel()
	s := redistest.Own(t)
	proxy := redistest.NewProxy(t, s.Addr())
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: -1, ReadTimeout: time.Second, DialTimeout: time.Second})
	t.Cleanup(func() { _ = rdb.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := watch(t, newInspector(t, rdb, "").Watch(ctx, "zoom"))
	w.wants(grant.Key{})
	proxy.Freeze()
	if _, err, ok := w.next(); err == nil || !ok {
		t.Fatalf("a silent connection: %v, %t", err, ok)
	}
	proxy.Thaw()
	for {
		k, err, ok := w.next()
		if !ok || k != (grant.Key{}) {
			t.Fatalf("%q, %v, %t", k, err, ok)
		}
		if err == nil {
			return
		}
	}
}
