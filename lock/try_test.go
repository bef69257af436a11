package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func TestOneOfManyContendersGetsTheLease(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	const contenders = 32
	leases, errs := make([]*Lease, contenders), make([]error, contenders)
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range contenders {
		l := New(Config{Name: fmt.Sprint("worker-", i), TTL: long}, rdb)
		all.Go(func() {
			<-start
			leases[i], errs[i] = l.Try(t.Context(), key)
		})
	}
	close(start)
	all.Wait()
	winner := -1
	for i, lease := range leases {
		if lease == nil {
			continue
		}
		defer release(t, lease)
		if winner >= 0 {
			t.Fatalf("two leases of one key: %d and %d", winner, i)
		}
		winner = i
	}
	if winner < 0 {
		t.Fatal("nobody got the lease")
	}
	for i, err := range errs {
		var held *HeldError
		if i != winner && (!errors.As(err, &held) || held.By != fmt.Sprint("worker-", winner)) {
			t.Errorf("contender %d: %v", i, err)
		}
	}
}

func TestHeldErrorSaysByWhomAndForHowLong(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	try(t, New(Config{Name: "host-7/4711/a", TTL: long}, rdb), key)
	held := mustBeHeld(t, New(Config{TTL: long}, rdb), key)
	if held.By != "host-7/4711/a" || held.Key != key {
		t.Errorf("held by %q, key %q", held.By, held.Key)
	}
	if held.For <= long-patience || held.For > long {
		t.Errorf("held for %v of %v", held.For, long)
	}
	if text := held.Error(); !strings.Contains(text, key) || !strings.Contains(text, `"host-7/4711/a"`) {
		t.Errorf("the text does not tell: %s", text)
	}
}

func TestTwoKeysAreTwoLeases(t *testing.T) {
	t.Parallel()
	l, key := New(Config{TTL: long}, redistest.Start(t).Client(t)), key(t)
	try(t, l, key+"/1")
	try(t, l, key+"/2")
}

func TestTheSameLockerDoesNotGetALeaseTwice(t *testing.T) {
	t.Parallel()
	l, key := New(Config{TTL: long}, redistest.Start(t).Client(t)), key(t)
	try(t, l, key)
	mustBeHeld(t, l, key)
}

// An operator may take a lock by hand, and the holder's name is whatever it says then.
func TestKeySetByHandHoldsTheLock(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	for _, value := range []string{"by hand, do not refresh", "", "/", strings.Repeat("x", nonceLen+1), "/" + strings.Repeat("x", nonceLen)} {
		for _, expiry := range []time.Duration{0, time.Hour} {
			key := key(t)
			if err := rdb.Set(t.Context(), key, value, expiry).Err(); err != nil {
				t.Fatal(err)
			}
			held := mustBeHeld(t, New(Config{TTL: 2 * long}, rdb), key)
			want := 2 * long // nobody says how long
			if expiry != 0 {
				want = expiry
			}
			if held.By != value || held.For <= want-patience || held.For > want {
				t.Errorf("value %q, expiry %v: held by %q for %v", value, expiry, held.By, held.For)
			}
			if got := rdb.Get(t.Context(), key).Val(); got != value {
				t.Errorf("value %q became %q", value, got)
			}
		}
	}
}

func TestKeyOfAnotherTypeIsARedisError(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	if err := rdb.HSet(t.Context(), key, "a", "b").Err(); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{TTL: long}, rdb).Try(t.Context(), key)
	if err == nil || errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "WRONGTYPE") || !strings.Contains(err.Error(), key) {
		t.Fatalf("error: %v", err)
	}
	if n := rdb.HLen(t.Context(), key).Val(); n != 1 {
		t.Fatalf("the hash has %d fields", n)
	}
}

func TestTryWithAnEndedContextAsksNothing(t *testing.T) {
	t.Parallel()
	why := errors.New("the caller left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	rdb, key := redistest.Start(t).Client(t), key(t)
	if _, err := New(Config{TTL: long}, rdb).Try(ctx, key); !errors.Is(err, why) {
		t.Fatalf("error: %v", err)
	}
	if n := rdb.Exists(t.Context(), key).Val(); n != 0 {
		t.Fatal("the key was set")
	}
}

func TestEndOfTheCallersContextDoesNotEndTheLease(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	lease, err := New(Config{TTL: long}, redistest.Start(t).Client(t)).Try(ctx, key(t))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := context.Cause(lease.Context()); err != nil {
		t.Errorf("the lease ended: %v", err)
	}
	release(t, lease)
}

func TestMiniredisServesToo(t *testing.T) {
	t.Parallel()
	rdb := redistest.Miniredis(t)
	first, second := New(Config{Name: "first", TTL: long}, rdb), New(Config{Name: "second", TTL: long}, rdb)
	lease := try(t, first, "lock")
	if held := mustBeHeld(t, second, "lock"); held.By != "first" || held.For <= 0 {
		t.Errorf("held by %q for %v", held.By, held.For)
	}
	release(t, lease)
	try(t, second, "lock")
}

func TestZeroConfigWorks(t *testing.T) {
	t.Parallel()
	host, _ := os.Hostname()
	l := New(Config{}, redistest.Start(t).Client(t))
	if l.TTL() != 10*time.Second || l.Name() != fmt.Sprintf("%s/%d", host, os.Getpid()) {
		t.Errorf("TTL %v, name %q", l.TTL(), l.Name())
	}
	if l := New(Config{TTL: time.Nanosecond}, redistest.Start(t).Client(t)); l.TTL() != 50*time.Millisecond {
		t.Errorf("TTL %v", l.TTL())
	}
}

func TestNewWithoutAClientPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	New(Config{})
}

// Of the only node its own error is told, not that the others have decided.
func TestTheErrorOfTheOnlyNodeIsItsOwn(t *testing.T) {
	t.Parallel()
	rdb, key := redistest.Start(t).Client(t), key(t)
	if err := rdb.LPush(t.Context(), key, "of another type").Err(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rdb.Del(context.Background(), key) })
	l := New(Config{TTL: long}, rdb)
	for range 500 {
		if _, err := l.Try(t.Context(), key); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
			t.Fatalf("got %v", err)
		}
	}
}
