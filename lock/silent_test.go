package lock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// A caller who leaves while Redis is silent leaves at once; what Redis does later
// with the request must not hold the lock.
//
//  1. SET is under way, Redis is silent.
//  2. The caller's ctx ends; Try returns.
//  3. Redis executes SET and answers.
//  4. The lease that nobody wants is given back.
func TestLeaseThatArrivesLateIsGivenBack(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t, redistest.Set("notify-keyspace-events", "K$g"))
	proxy := redistest.NewProxy(t, server.Addr())
	rdb := server.ClientWith(t, func(o *redis.Options) { unanswered(o); o.Addr = proxy.Addr() })
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	happened := server.Client(t).Subscribe(t.Context(), "__keyspace@0__:lock")
	defer happened.Close()
	if _, err := happened.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}

	proxy.Freeze()
	why := errors.New("the caller left")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	start := time.Now()
	_, err := New(Config{TTL: long}, rdb).Try(ctx, "lock")
	if took := time.Since(start); !errors.Is(err, why) || took > patience {
		t.Fatalf("Try left after %v with %v", took, err)
	}
	proxy.Thaw()
	for _, want := range []string{"set", "del"} {
		event, err := happened.ReceiveTimeout(t.Context(), patience)
		if m, ok := event.(*redis.Message); err != nil || !ok || m.Payload != want && m.Payload != "expire" {
			t.Fatalf("want %q, got %v %v", want, event, err)
		} else if m.Payload == "expire" { // SET with PX says both
			if m, err = happened.ReceiveMessage(t.Context()); err != nil || m.Payload != want {
				t.Fatalf("want %q, got %v %v", want, m, err)
			}
		}
	}
}

// go-redis sends a SET again whose reply was lost, and finds its own value.
func TestLostReplyOfTheSetStillGivesTheLease(t *testing.T) {
	t.Parallel()
	server, key := redistest.Start(t), key(t)
	proxy := redistest.NewProxy(t, server.Addr())
	rdb := server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() })
	eaten := proxy.EatReply(key)
	lease := try(t, New(Config{Name: "me", TTL: long}, rdb), key)
	eaten.Await(t)
	if held := mustBeHeld(t, New(Config{TTL: long}, server.Client(t)), key); held.By != "me" {
		t.Errorf("held by %q", held.By)
	}
	release(t, lease)
	try(t, New(Config{TTL: long}, rdb), key)
}

func TestLostReplyWithoutRetriesLeavesNoLockBehind(t *testing.T) {
	t.Parallel()
	server, key := redistest.Start(t), key(t)
	proxy := redistest.NewProxy(t, server.Addr())
	rdb := server.ClientWith(t, func(o *redis.Options) { o.Addr, o.MaxRetries = proxy.Addr(), -1 })
	eaten := proxy.EatReply(key)
	_, err := New(Config{TTL: long}, rdb).Try(t.Context(), key)
	eaten.Await(t)
	if err == nil || errors.Is(err, ErrHeld) {
		t.Fatalf("error: %v", err)
	}
	try(t, New(Config{TTL: long}, server.Client(t)), key)
}

// The reply to a lost contender's SET says who has the lock; the repeat does too.
func TestLostReplyOfAFailedTryIsStillHeld(t *testing.T) {
	t.Parallel()
	server, key := redistest.Start(t), key(t)
	proxy := redistest.NewProxy(t, server.Addr())
	rdb := server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() })
	lease := try(t, New(Config{Name: "holder", TTL: long}, server.Client(t)), key)
	eaten := proxy.EatReply(key)
	if held := mustBeHeld(t, New(Config{Name: "waiter", TTL: long}, rdb), key); held.By != "holder" {
		t.Errorf("held by %q", held.By)
	}
	eaten.Await(t)
	release(t, lease)
}

func TestLostReplyOfAnExtensionKeepsTheLease(t *testing.T) {
	t.Parallel()
	server, key := redistest.Start(t), key(t)
	proxy := redistest.NewProxy(t, server.Addr())
	rdb := server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() })
	lease := try(t, New(Config{TTL: long}, rdb), key)
	eaten := proxy.EatReply(key)
	if !extends(lease) {
		t.Errorf("it is not trusted for longer: %v", context.Cause(lease.Context()))
	}
	eaten.Await(t)
	release(t, lease)
}

func TestUnreachableRedisIsNotHeld(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	server.Kill(t)
	_, err := New(Config{TTL: long}, rdb).Try(t.Context(), "lock")
	if err == nil || errors.Is(err, ErrHeld) {
		t.Fatalf("error: %v", err)
	}
}
