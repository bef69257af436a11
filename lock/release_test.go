package lock

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func TestReleaseGivesTheLeaseToTheNext(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	for range 5 {
		lease := try(t, New(Config{TTL: long}, rdb), key)
		release(t, lease)
		if cause := context.Cause(lease.Context()); !errors.Is(cause, context.Canceled) {
			t.Fatalf("after Release the cause is %v", cause)
		}
	}
	if n := rdb.Exists(t.Context(), key).Val(); n != 0 {
		t.Fatal("the key is left behind")
	}
}

func TestReleaseTwiceIsReleaseOnce(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	lease := try(t, New(Config{TTL: long}, rdb), key)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := lease.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	next := try(t, New(Config{TTL: long}, rdb), key)
	release(t, lease)
	if n := rdb.Exists(t.Context(), key).Val(); n != 1 || context.Cause(next.Context()) != nil {
		t.Fatal("the repeated Release took the next holder's lease")
	}
}

func TestReleaseWorksOnAnEndedContext(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	lease := try(t, New(Config{TTL: long}, rdb), key)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := lease.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if n := rdb.Exists(t.Context(), key).Val(); n != 0 {
		t.Fatal("the lock is still there")
	}
}

func TestReleaseNeverDeletesAnothersLock(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	lease := try(t, New(Config{TTL: long}, rdb), key)
	if err := rdb.Del(t.Context(), key).Err(); err != nil {
		t.Fatal(err)
	}
	next := try(t, New(Config{Name: "next", TTL: long}, rdb), key)
	for range 2 {
		if err := lease.Release(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("Release says %v, not ErrLost", err)
		}
	}
	if held := mustBeHeld(t, New(Config{TTL: long}, rdb), key); held.By != "next" {
		t.Errorf("held by %q", held.By)
	}
	release(t, next)
}

func TestReleaseAgainstASilentRedisIsBounded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr())
	rdb := server.ClientWith(t, func(o *redis.Options) { unanswered(o); o.Addr = proxy.Addr() })
	lease := try(t, New(Config{TTL: patience / 2}, rdb), key(t)) // bound: a third of that
	proxy.Freeze()
	defer proxy.Thaw()
	start := time.Now()
	err := lease.Release(t.Context())
	if took := time.Since(start); took > patience {
		t.Errorf("took %v", took)
	}
	if err == nil || errors.Is(err, ErrLost) {
		t.Errorf("error: %v", err)
	}
	if lease.Context().Err() == nil {
		t.Error("Context goes on after Release")
	}
}
