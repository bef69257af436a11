package store

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// Each of those who read at the same time gets its own, and its own error.
func TestSharedRidesBringEachItsOwn(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Start(t).Client(t), redistest.Prefix(t)
	r, ctx := rides{Redis: rdb}, t.Context()
	rdb.Set(ctx, prefix+":one", "first", 0)
	rdb.Set(ctx, prefix+":two", "second", 0)
	rdb.LPush(ctx, prefix+":list", "x")
	var all sync.WaitGroup
	for caller := range 48 {
		all.Go(func() {
			for range 100 {
				switch caller % 4 {
				case 0:
					if b, err := r.secret(ctx, prefix+":one"); string(b) != "first" || err != nil {
						t.Errorf("%q, %v", b, err)
					}
				case 1:
					if b, err := r.secret(ctx, prefix+":two"); string(b) != "second" || err != nil {
						t.Errorf("%q, %v", b, err)
					}
				case 2:
					if b, err := r.secret(ctx, prefix+":none"); len(b) != 0 || err != nil {
						t.Errorf("%q, %v", b, err)
					}
				case 3:
					if _, err := r.secret(ctx, prefix+":list"); !redis.HasErrorPrefix(err, "WRONGTYPE") {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if r.flying != 0 || len(r.waiting) != 0 {
		t.Errorf("%d under way, %d wait", r.flying, len(r.waiting))
	}
}

// Callers who come while Redis is slow share one round trip, and it is made again when the connection ends.
func TestCallersShareARideWhileRedisIsSlow(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr())
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ReadTimeout: 30 * time.Second})
	t.Cleanup(func() { _ = rdb.Close() })
	r := rides{Redis: rdb}
	rdb.Set(t.Context(), "key", "value", 0)
	for name, end := range map[string]func(){"answered": proxy.Thaw, "cut": func() { proxy.Cut(); proxy.Thaw() }} {
		t.Run(name, func(t *testing.T) {
			proxy.Freeze()
			var all sync.WaitGroup
			failed := make(chan error, 100)
			for range 100 {
				all.Go(func() {
					if b, err := r.secret(t.Context(), "key"); string(b) != "value" || err != nil {
						failed <- fmt.Errorf("%q, %w", b, err)
					}
				})
			}
			for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
				r.mu.Lock()
				n := len(r.waiting)
				r.mu.Unlock()
				if n == 100-maxRides {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%d wait", n)
				}
			}
			end()
			all.Wait()
			if n := len(failed); n > 0 {
				t.Errorf("%d failed: %v", n, <-failed)
			}
		})
	}
}

// panics is a hook that panics where several secrets are read at once.
type panics struct{ hold chan struct{} }

func (panics) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p panics) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "getrange" {
			<-p.hold
		}
		return next(ctx, cmd)
	}
}

func (panics) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) > 0 && cmds[0].Name() == "getrange" {
			panic("a hook's")
		}
		return next(ctx, cmds)
	}
}

// The one that reads for all may panic; somebody recovers that, and the others wait for nothing.
func TestARideThatPanicsLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	h := panics{make(chan struct{})}
	rdb.AddHook(h)
	r := rides{Redis: rdb}
	const all = maxRides + 4
	done := make(chan any, all)
	for range all {
		go func() {
			defer func() { done <- recover() }()
			_, _ = r.secret(context.Background(), "key")
		}()
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		n := len(r.waiting)
		r.mu.Unlock()
		if n == all-maxRides {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d wait", n)
		}
	}
	close(h.hold)
	for i := range all {
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d came back", i, all)
		}
	}
}
