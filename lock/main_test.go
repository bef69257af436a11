package lock

import (
	"context"
	"errors"
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

// long is a TTL of which nothing ends while a test runs: neither a lease nor the quarter of it that a round of
// requests may take. What a lease does by the clock is tested on a clock of its own, in keep_test.go.
const long = time.Hour

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

// lost waits until the lease's Context has ended.
func lost(t testing.TB, lease *Lease) {
	t.Helper()
	select {
	case <-lease.Context().Done():
	case <-time.After(patience):
		t.Fatal("the lease is still trusted")
	}
	if cause := context.Cause(lease.Context()); !errors.Is(cause, ErrLost) {
		t.Fatalf("Context ended with cause %v, not ErrLost", cause)
	}
}

// extends has a lease of a long TTL extended now, and reports whether it is trusted for longer than before.
func extends(lease *Lease) bool {
	trust := time.NewTimer(long)
	defer trust.Stop()
	before := lease.mutex.Until()
	lease.extend(trust)
	return lease.mutex.Until().After(before) && lease.Context().Err() == nil
}

// unanswered is a client that waits for an answer for longer than a test does: what ends earlier has not waited for it.
func unanswered(o *redis.Options) { o.ReadTimeout = 2 * patience }

// gone waits until a server has a key no more: a failed try's clean-up may go on when nobody waits for it.
func gone(t testing.TB, rdb redis.UniversalClient, key string) {
	t.Helper()
	for end := time.Now().Add(patience); rdb.Exists(t.Context(), key).Val() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the failed try left its key on the server that answered")
		}
	}
}
