package refresh_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// Whoever looked again at a grant whose spare does not open would present the refused token again.
func TestASpareThatDoesNotOpenIsNone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker(short)
	f.connect(w, "acme", true)
	f.server.Revoke("acme")
	epoch := w.rdb.HGet(f.ctx(), f.prefix+":{zoom:acme}:grant", "epoch").Val()
	spare := f.prefix + ":{zoom:acme}:spare"
	if err := w.rdb.Set(f.ctx(), spare, epoch+"\nsealed with another key", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := w.Token(f.ctx(), "acme")
		kind(t, err, refresh.ErrReauthorize, "invalid_grant")
	}
	if w.rdb.Exists(f.ctx(), spare).Val() != 1 {
		t.Error("the spare was deleted: whoever has its key could open it")
	}
}

// Redis' clock was set back by an hour since somebody wrote when to try again.
func TestAWaitFromBeforeTheClockWasSetBackIsOver(t *testing.T) {
	t.Parallel()
	hour := time.Hour.Milliseconds()
	for name, fields := range map[string]func(now int64) []any{
		"restored": func(now int64) []any { return []any{"retry_at", now + hour} },
		"failed": func(now int64) []any {
			return []any{"retry_at", now + hour, "error", "busy//503", "error_at", now + hour - 1000, "fails", 1}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w := f.worker()
			f.connect(w, "acme", true)
			f.mark(w, "acme", fields(f.redisNow(w))...)
			f.token(f.worker(), "acme")
			f.lawful(w, "acme")
		})
	}
}

// Its holder could not claim: what it had of the app is free at once, not when a claim would be over.
func TestAProbeWithoutAnExchangeStopsNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.config.ClaimTimeout = 10 * time.Minute
	w := f.worker()
	f.accepted(w)
	f.connect(w, "busy", true)
	f.connect(w, "acme", true)
	pin := w.cache.Grant(key("busy")).Pin()
	defer pin.Unpin()
	if err := pin.Confirm(f.ctx()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.cache.Grant(key("busy")).Read(f.ctx()); err != nil {
		t.Fatal(err)
	}
	// Memory does not know it yet: a push is on its way.
	now := f.redisNow(w)
	f.mark(w, "busy", "retry_at", strconv.FormatInt(now+time.Minute.Milliseconds(), 10), "error", "busy//503", "error_at", now, "fails", 1, "rev", 100)
	f.opened(w, 1, 0)
	_, err := w.Token(f.ctx(), "busy")
	kind(t, err, refresh.ErrUnavailable, "")
	f.token(w, "acme")
	if n := len(f.server.Ledger()); n != 2 { // with the acceptance
		t.Errorf("%d exchanges", n)
	}
}

// late is a client's hook that hands one reply on too late.
type late struct {
	redis.Hook
	what func(args []any) bool
	once atomic.Bool
}

func (l *late) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *late) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *late) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && l.what(cmd.Args()) && l.once.CompareAndSwap(false, true) {
			time.Sleep(1500 * time.Millisecond)
		}
		return err
	}
}

// Redis gives the right to probe, and says so too late: the exchange is made as if nobody could be asked.
func TestAProbeThatRedisGrantsTooLateStopsNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.config.ClaimTimeout = 71234 * time.Millisecond
	w, other := f.worker(), f.worker()
	f.accepted(w)
	f.connect(w, "bad", true)
	f.connect(w, "acme", true)
	l := &late{what: func(args []any) bool { // the script with the app's key, and how long a probe may take
		return slices.Contains(args, any(w.cache.App("zoom").AppKey())) && slices.ContainsFunc(args, func(a any) bool { return fmt.Sprint(a) == "71234" })
	}}
	w.rdb.AddHook(l)
	f.opened(other, 1, 0)
	step := refuse("invalid_client", 401)
	step.Tenant = "bad"
	f.server.Script(step)
	_, err := w.Token(f.ctx(), "bad")
	kind(t, err, refresh.ErrClientConfig, "")
	if !l.once.Load() {
		t.Error("it came in time: nothing is proven")
	}
	awaitToken(t, f, other, "acme")
}
