package refresh_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// cut gives a worker a Redis connection that can be cut.
func (f *fleet) cuttable(alter ...func(*refresh.Config)) (*worker, *redistest.Proxy) {
	proxy := redistest.NewProxy(f.t, f.redis.Addr())
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: -1, DialTimeout: time.Second})
	f.t.Cleanup(func() { rdb.Close() })
	return f.workerOn(rdb, alter...), proxy
}

// patient is a cuttable worker whose client waits a minute for an answer: what returns
// earlier does not wait for a silent Redis.
func (f *fleet) patient() (*worker, *redistest.Proxy) {
	proxy := redistest.NewProxy(f.t, f.redis.Addr())
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: -1, ReadTimeout: time.Minute})
	f.t.Cleanup(func() { rdb.Close() })
	return f.workerOn(rdb), proxy
}

func TestWithoutRedisAValidTokenIsServedAndNothingIsPresented(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.cuttable()
	valid := f.connect(w, "valid", false)
	f.connect(w, "expired", true)
	f.token(w, "valid") // remembered, and subscribed
	proxy.Refuse()
	proxy.Cut()
	if got := f.token(w, "valid"); got.AccessToken != valid.AccessToken {
		t.Error("not the remembered token")
	}
	_, err := w.Token(f.ctx(), "expired")
	kind(t, err, refresh.ErrUnavailable, "")
	if n := f.server.Ledger().Exchanges(); n != 0 {
		t.Errorf("%d exchanges without a claim", n)
	}
	proxy.Accept()
	awaitToken(t, f, w, "expired")
	f.lawful(w, "expired")
}

func TestPairIsServedFromMemoryWhileRedisIsAwayAndCommittedWhenItIsBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.cuttable()
	f.connect(w, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	var caller sync.WaitGroup
	caller.Go(func() {
		if tok := f.token(w, "acme"); !f.server.AccessAlive(tok.AccessToken) {
			t.Error("not the new token")
		}
	})
	gate.Await(t)
	proxy.Refuse()
	proxy.Cut()
	gate.Release()
	caller.Wait()
	if tok := f.token(w, "acme"); !f.server.AccessAlive(tok.AccessToken) {
		t.Error("not the new token, from memory")
	}
	proxy.Accept()
	// Close drains: afterwards the pair is in Redis.
	if err := w.Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	f.lawful(f.worker(), "acme")
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
}

func TestCallerThatLeavesDoesNotCancelTheExchange(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	ctx, cancel := context.WithCancelCause(context.Background())
	left := make(chan error)
	go func() {
		_, err := w.Token(ctx, "acme")
		left <- err
	}()
	gate.Await(t)
	hangUp := errors.New("hung up")
	cancel(hangUp)
	if err := <-left; !errors.Is(err, hangUp) {
		t.Errorf("got %v, want the cause", err)
	}
	gate.Release()
	f.token(w, "acme")
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
	f.lawful(w, "acme")
}

func TestCloseDrainsTheExchangeAndEndsTheWaiters(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	holder, waiter := f.worker(), f.worker()
	f.connect(holder, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	var callers sync.WaitGroup
	callers.Go(func() { f.token(holder, "acme") })
	gate.Await(t)
	callers.Go(func() {
		_, err := waiter.Token(f.ctx(), "acme")
		kind(t, err, refresh.ErrUnavailable, "")
	})
	for waiter.cache.Grant(key("acme")).Recall() == nil { // its flight has begun
		time.Sleep(time.Millisecond)
	}
	if err := waiter.Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := holder.Close(impatient); err == nil {
		t.Error("Close did not say that an exchange is still under way")
	}
	gate.Release()
	if err := holder.Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	callers.Wait()
	_, err := holder.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrUnavailable, "")
	f.lawful(f.worker(), "acme")
}

func TestFlushedRedisIsRestoredFromAWarmWorker(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	w := f.worker()
	f.connect(w, "acme", false)
	for w.cache.Grant(key("acme")).Peek() == nil {
		f.token(w, "acme")
	}
	f.redis.Client(t).FlushAll(f.ctx())
	if err := w.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	f.lawful(w, "acme")
}

func TestFlushedRedisIsRestoredForAWorkerThatRemembersNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	warm := f.worker()
	tok := f.connect(warm, "acme", false)
	f.hot(warm, "acme")
	f.afterALoss("the remembered token is not served", func(cold *worker) bool {
		got, err := cold.Token(f.ctx(), "acme")
		return err == nil && got.AccessToken == tok.AccessToken
	})
	if err := f.worker().Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	f.lawful(warm, "acme")
}

// afterALoss lets Redis lose all, and a process that has just begun ask about it. Those that remember have 300 ms to
// give it back; a machine that is too busy for that has two more tries.
func (f *fleet) afterALoss(wrong string, right func(cold *worker) bool) {
	f.t.Helper()
	for range 3 {
		cold := f.worker()
		f.redis.Client(f.t).FlushAll(f.ctx())
		if right(cold) {
			return
		}
	}
	f.t.Error(wrong)
}
