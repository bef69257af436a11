package lock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func TestExtensionKeepsTheLeasePastItsTTL(t *testing.T) {
	t.Parallel()
	server, key := redistest.Start(t), key(t)
	rdb := server.Client(t)
	extended := watch(rdb, "evalsha")
	lease := try(t, New(Config{TTL: 3 * time.Second}, rdb), key)
	for range 4 { // thirds of a TTL
		await(t, "an extension", extended)
	}
	if err := context.Cause(lease.Context()); err != nil {
		t.Fatalf("the lease ended: %v", err)
	}
	mustBeHeld(t, New(Config{}, server.Client(t)), key)
	release(t, lease)
}

func TestLeaseIsLostWithinAThirdOfItsTTLOnceTheKeyIsGone(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	taken := map[string]func(key string) error{
		"deleted":   func(key string) error { return rdb.Del(t.Context(), key).Err() },
		"another's": func(key string) error { return rdb.Set(t.Context(), key, "another", 0).Err() },
	}
	for name, take := range taken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := key(t)
			const ttl = 6 * time.Second
			lease := try(t, New(Config{TTL: ttl}, rdb), key)
			since := time.Now()
			if err := take(key); err != nil {
				t.Fatal(err)
			}
			if took := lost(t, lease, since); took > ttl/3+ttl/6 {
				t.Errorf("noticed after %v of a TTL of %v", took, ttl)
			}
			if err := lease.Release(t.Context()); !errors.Is(err, ErrLost) {
				t.Errorf("Release says %v", err)
			}
		})
	}
}

// The timer, not Redis, ends the trust: go-redis waits 3 s for a reply.
func TestTrustEndsWithoutRedis(t *testing.T) {
	t.Parallel()
	const ttl = 1500 * time.Millisecond
	t.Run("process stopped", func(t *testing.T) {
		t.Parallel()
		server := redistest.Own(t)
		lease := try(t, New(Config{TTL: ttl}, server.Client(t)), "lock")
		server.Pause(t)
		defer server.Resume(t)
		endsByItsTTL(t, lease, ttl)
	})
	t.Run("half-open connection", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		proxy := redistest.NewProxy(t, server.Addr())
		rdb := server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() })
		lease := try(t, New(Config{TTL: ttl}, rdb), key(t))
		proxy.Freeze()
		defer proxy.Thaw()
		endsByItsTTL(t, lease, ttl)
	})
	t.Run("server killed", func(t *testing.T) {
		t.Parallel()
		server := redistest.Own(t)
		lease := try(t, New(Config{TTL: ttl}, server.Client(t)), "lock")
		server.Kill(t)
		endsByItsTTL(t, lease, ttl)
	})
}

// endsByItsTTL: the last extension may have been answered just before the silence.
func endsByItsTTL(t *testing.T, lease *Lease, ttl time.Duration) {
	t.Helper()
	if took := lost(t, lease, time.Now()); took > ttl+ttl/2 {
		t.Errorf("trusted for %v without Redis; the TTL is %v", took, ttl)
	}
}

// A key that outlives the trust, for whatever reason, does not revive it.
func TestLostLeaseStaysLost(t *testing.T) {
	t.Parallel()
	server, key := redistest.Start(t), key(t)
	direct, proxy := server.Client(t), redistest.NewProxy(t, server.Addr())
	rdb := server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() })
	lease := try(t, New(Config{TTL: 600 * time.Millisecond}, rdb), key)
	proxy.Freeze()
	if err := direct.PExpire(t.Context(), key, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	lost(t, lease, time.Now())
	proxy.Thaw() // an extension that was held back may succeed now
	if err := lease.Release(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("Release of a lease that had ended says %v, not ErrLost", err)
	}
	if n := direct.Exists(t.Context(), key).Val(); n != 0 {
		t.Error("Release left its own key behind")
	}
	if !errors.Is(context.Cause(lease.Context()), ErrLost) {
		t.Error("the lease was revived")
	}
}
