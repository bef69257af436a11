package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/inbox"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// hearing is a process that makes changes, and one that hears of them.
func hearing(t *testing.T) (maker, listener *Cache, p *Pin, base *Snapshot) {
	t.Helper()
	server := redistest.Own(t)
	maker, listener = newCache(t, server.Client(t), "tl"), newCache(t, server.Client(t), "tl")
	base = connect(t, maker, acme, 1)
	return maker, listener, hot(t, listener, acme), base
}

// gone makes a process forget all, as its end does.
func gone(t *testing.T, c *Cache) { t.Helper(); closeCache(t, c) }

func TestATombstoneThatWasOnlyHeardIsNotWrittenBack(t *testing.T) {
	t.Parallel()
	maker, listener, p, _ := hearing(t)
	before := remember(t, maker, acme)
	disconnect(t, maker, acme)
	until(t, p, "the end", func() bool { return listener.Grant(acme).Recall().State == grant.Disconnected })
	gone(t, maker)
	rewind(t, listener, acme, before)
	sealed := listener.rdb.Get(t.Context(), listener.Grant(acme).keys().Secret()).Val()
	wrote := func() bool {
		return listener.rdb.HGet(t.Context(), listener.Grant(acme).keys().Grant(), "state").Val() != string(grant.Active) ||
			listener.rdb.Get(t.Context(), listener.Grant(acme).keys().Secret()).Val() != sealed
	}
	start := time.Now()
	for { // believed for a while, then Redis' word counts
		s, err := listener.Grant(acme).Read(t.Context())
		if wrote() {
			t.Fatal("what was only heard was written over a pair")
		}
		if err != nil {
			t.Fatal(err)
		}
		if s.State == grant.Active {
			break
		}
		if time.Since(start) > patience {
			t.Fatal("what was only heard is believed for good")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(start); took < memory.BelievedFor-time.Second {
		t.Errorf("believed for %v only: the others had no time", took)
	}
	_ = listener.in.GiveBack(t.Context(), "")
	if _, err := listener.Grant(acme).Ask(t.Context(), 1, 0, 0); err != nil {
		t.Fatal(err)
	}
	if wrote() {
		t.Error("given back after all")
	}
}

// While it is believed the others are asked: the process that knows it for sure gives it back.
func TestTheProcessThatMadeAStateGivesItBack(t *testing.T) {
	t.Parallel()
	maker, listener, p, base := hearing(t)
	hot(t, maker, acme)
	before := remember(t, maker, acme)
	claimed := claim(t, maker, base, "maker")
	until(t, p, "the claim", func() bool { return listener.Grant(acme).Recall().Claim.Unresolved() })
	rewind(t, maker, acme, before)
	if s, err := listener.Grant(acme).Read(t.Context()); err != nil || s.Claim.ID != claimed.Claim.ID {
		t.Errorf("read %v %v", s, err)
	}
	until(t, p, "the claim in Redis", func() bool {
		return listener.rdb.HGet(t.Context(), listener.Grant(acme).keys().Grant(), "claim_id").Val() == claimed.Claim.ID
	})
}

// A claim that was heard keeps others from presenting for five seconds at most, and asking for it
// costs one question, not one a look.
func TestAClaimThatWasOnlyHeardIsBelievedForAWhile(t *testing.T) {
	t.Parallel()
	maker, listener, p, base := hearing(t)
	before := remember(t, maker, acme)
	claim(t, maker, base, "maker")
	until(t, p, "the claim", func() bool { return listener.Grant(acme).Recall().Claim.Unresolved() })
	gone(t, maker)
	rewind(t, listener, acme, before)
	start, reads, highest := time.Now(), 0, int64(0)
	var took time.Duration
	calls := redistest.Commands(t, listener.rdb, func() {
		for time.Since(start) < patience {
			s, err := listener.Grant(acme).Read(t.Context())
			reads++
			if err != nil {
				t.Fatal(err)
			}
			if s.Generation < highest {
				t.Fatalf("generation %d after %d", s.Generation, highest)
			}
			highest = s.Generation
			if !s.Claim.Unresolved() {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		took = time.Since(start)
	})
	if took < memory.BelievedFor-time.Second || took > 2*memory.BelievedFor {
		t.Errorf("believed for %v", took)
	}
	if calls["publish"] > 2 || calls["hmget"] > reads+2 || calls["evalsha"]+calls["eval"] > 0 {
		t.Errorf("%d reads cost %v", reads, calls)
	}
}

// A generation that was heard without a pair that opens, and that Redis does not know: a read is
// answered at once, by an error, and does not go round.
func TestAnIncompleteStateThatRedisDoesNotKnowIsNoLoop(t *testing.T) {
	t.Parallel()
	maker, listener, p, base := hearing(t)
	now := listener.clock.Told()
	ev := grant.Event{Kind: "commit", Now: now, Record: base.Record}
	ev.Record.Generation, ev.Record.Rev, ev.Record.RefreshFP, ev.Record.AccessFP = 2, 9, "x", "y"
	e := entryOf(t, listener, acme)
	listener.in.ApplyEvent(e, ev, mono.Now())
	if s := listener.Grant(acme).Recall(); s == nil || !s.Incomplete() || s.Generation != 2 {
		t.Fatalf("the scene is not set: %v", s)
	}
	gone(t, maker)
	var first error
	calls := redistest.Commands(t, listener.rdb, func() { _, first = listener.Grant(acme).Read(t.Context()) })
	if !errors.Is(first, inbox.ErrContradicted) {
		t.Errorf("read: %v", first)
	}
	if calls["hmget"] > 1 {
		t.Errorf("one Read looked %d times", calls["hmget"])
	}
	eventually(t, "Redis' word to count", patience, func() bool {
		s, err := listener.Grant(acme).Read(t.Context())
		if err == nil && s.Generation != 1 {
			t.Fatalf("generation %d", s.Generation)
		}
		time.Sleep(10 * time.Millisecond)
		return err == nil
	})
	_ = p
}

// Nor while one such state after the other is pushed.
func TestAReadEndsWhilePushesOvertakeIt(t *testing.T) {
	t.Parallel()
	maker, listener, _, base := hearing(t)
	gone(t, maker)
	e := entryOf(t, listener, acme)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	overtake := func() {
		s := listener.Grant(acme).Recall()
		ev := grant.Event{Kind: "commit", Now: listener.clock.Told(), Record: base.Record}
		ev.Record.Generation, ev.Record.RefreshFP = s.Generation+1, "x"
		listener.in.ApplyEvent(e, ev, mono.Now())
	}
	listener.rdb.AddHook(redisHook{overtake})
	go func() {
		defer close(done)
		_, _ = listener.Grant(acme).Read(ctx)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("a Read goes round for ever")
		cancel()
		<-done
	}
}

// redisHook does something while each transaction is on its way.
type redisHook struct{ do func() }

func (redisHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		h.do()
		return err
	}
}
