package lock

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // servers are killed here, and go-redis says so at length
	goleak.VerifyTestMain(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// patience is far above what any of these tests takes on a busy machine.
const patience = 20 * time.Second

func key(t testing.TB) string { return redistest.Prefix(t) + ":lock" }

func try(t testing.TB, l *Locker, key string) *Lease {
	t.Helper()
	lease, err := l.Try(t.Context(), key)
	if err != nil {
		t.Fatalf("no lease: %v", err)
	}
	t.Cleanup(func() { _ = lease.Release(context.Background()) })
	return lease
}

func release(t testing.TB, lease *Lease) {
	t.Helper()
	if err := lease.Release(t.Context()); err != nil {
		t.Fatalf("release: %v", err)
	}
}

func mustBeHeld(t testing.TB, l *Locker, key string) *HeldError {
	t.Helper()
	lease, err := l.Try(t.Context(), key)
	var held *HeldError
	if !errors.As(err, &held) || !errors.Is(err, ErrHeld) {
		if lease != nil {
			_ = lease.Release(t.Context())
		}
		t.Fatalf("want a *HeldError, got lease %v, error %v", lease != nil, err)
	}
	return held
}

// lost waits until the lease's Context has ended, and returns how long that took.
func lost(t testing.TB, lease *Lease, since time.Time) time.Duration {
	t.Helper()
	select {
	case <-lease.Context().Done():
	case <-time.After(patience):
		t.Fatal("the lease is still trusted")
	}
	took := time.Since(since)
	if cause := context.Cause(lease.Context()); !errors.Is(cause, ErrLost) {
		t.Fatalf("Context ended with cause %v, not ErrLost", cause)
	}
	return took
}

// seen is a go-redis hook that tells of each command that was answered.
type seen struct {
	name string
	ch   chan struct{}
}

// watch returns a channel that gets a value for each successful command of a name.
func watch(rdb *redis.Client, name string) <-chan struct{} {
	s := seen{name, make(chan struct{}, 1000)}
	rdb.AddHook(s)
	return s.ch
}

func (s seen) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s seen) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && strings.EqualFold(cmd.Name(), s.name) {
			s.ch <- struct{}{}
		}
		return err
	}
}

func (s seen) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func await(t testing.TB, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
}
