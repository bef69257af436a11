package lock

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func TestAnExtensionGivesTheKeyItsTTLAgain(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	lease := try(t, New(Config{TTL: long}, rdb), key)
	if err := rdb.PExpire(t.Context(), key, long/2).Err(); err != nil {
		t.Fatal(err)
	}
	if !extends(lease) {
		t.Errorf("it is not trusted for longer: %v", context.Cause(lease.Context()))
	}
	if left := rdb.PTTL(t.Context(), key).Val(); left <= long/2 {
		t.Errorf("the key lives for %v", left)
	}
	mustBeHeld(t, New(Config{TTL: long}, rdb), key)
	release(t, lease)
}

func TestLeaseIsLostByTheNextExtensionOnceTheKeyIsGone(t *testing.T) {
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
			lease := try(t, New(Config{TTL: long}, rdb), key)
			if err := take(key); err != nil {
				t.Fatal(err)
			}
			if extends(lease) || !errors.Is(context.Cause(lease.Context()), ErrLost) {
				t.Errorf("not noticed: %v", context.Cause(lease.Context()))
			}
			if err := lease.Release(t.Context()); !errors.Is(err, ErrLost) {
				t.Errorf("Release says %v", err)
			}
		})
	}
}

// The timer, not Redis, ends the trust: the client waits for a reply for far longer.
func TestTrustEndsWithoutRedis(t *testing.T) {
	t.Parallel()
	const ttl = patience / 4
	t.Run("process stopped", func(t *testing.T) {
		t.Parallel()
		server := redistest.Own(t)
		lease := try(t, New(Config{TTL: ttl}, server.ClientWith(t, unanswered)), "lock")
		server.Pause(t)
		defer server.Resume(t)
		lost(t, lease)
	})
	t.Run("half-open connection", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		proxy := redistest.NewProxy(t, server.Addr())
		rdb := server.ClientWith(t, func(o *redis.Options) { unanswered(o); o.Addr = proxy.Addr() })
		lease := try(t, New(Config{TTL: ttl}, rdb), key(t))
		proxy.Freeze()
		defer proxy.Thaw()
		lost(t, lease)
	})
	t.Run("server killed", func(t *testing.T) {
		t.Parallel()
		server := redistest.Own(t)
		lease := try(t, New(Config{TTL: ttl}, server.Client(t)), "lock")
		server.Kill(t)
		lost(t, lease)
	})
}

// A key that outlives the trust, for whatever reason, does not revive it.
func TestLostLeaseStaysLost(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	lease := try(t, New(Config{TTL: long}, rdb), key)
	lease.cancel(ErrLost) // as the timer does
	if extends(lease) {
		t.Error("an extension has revived it")
	}
	if err := lease.Release(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("Release of a lease that had ended says %v, not ErrLost", err)
	}
	if n := rdb.Exists(t.Context(), key).Val(); n != 0 {
		t.Error("Release left its own key behind")
	}
	if !errors.Is(context.Cause(lease.Context()), ErrLost) {
		t.Error("the lease was revived")
	}
}
