package lock

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// clockwork is a Redis that answers at once, on the clock of a test.
type clockwork struct {
	scripts atomic.Int64
	gone    atomic.Bool // it has the key no more
	silent  atomic.Bool // it answers no more
}

func (c *clockwork) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *clockwork) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (c *clockwork) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		if c.silent.Load() {
			time.Sleep(long)
			return errors.New("no answer")
		}
		if cmd.Name() == "set" {
			cmd.SetErr(redis.Nil) // nobody had it
			return redis.Nil
		}
		c.scripts.Add(1)
		has := int64(1)
		if c.gone.Load() {
			has = 0
		}
		cmd.(*redis.Cmd).SetVal(has)
		return nil
	}
}

// byTheClock runs a test of a lease with a TTL of 9 s, which has just been extended for the second time.
func byTheClock(t *testing.T, law func(t *testing.T, c *clockwork, lease *Lease)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}), &clockwork{}
		defer rdb.Close()
		rdb.AddHook(c)
		lease := try(t, New(Config{TTL: 9 * time.Second}, rdb), "lock")
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := c.scripts.Load(); n != 2 {
			t.Errorf("extended %d times", n)
		}
		law(t, c, lease)
		_ = lease.Release(t.Context())
		time.Sleep(2 * long) // until all requests have ended
	})
}

func TestALeaseIsExtendedEveryThirdOfItsTTL(t *testing.T) {
	byTheClock(t, func(t *testing.T, c *clockwork, lease *Lease) {
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := c.scripts.Load(); n != 1202 {
			t.Errorf("extended %d times", n)
		}
		if err := context.Cause(lease.Context()); err != nil {
			t.Errorf("the lease ended: %v", err)
		}
		release(t, lease)
	})
}

func TestLeaseIsLostWithinAThirdOfItsTTLOnceTheKeyIsGone(t *testing.T) {
	byTheClock(t, func(t *testing.T, c *clockwork, lease *Lease) {
		since := time.Now()
		c.gone.Store(true)
		lost(t, lease)
		if took := time.Since(since); took != 3*time.Second {
			t.Errorf("noticed after %v", took)
		}
	})
}

// Redsync takes a hundredth and 2 ms off for clocks that run at another speed.
func TestALeaseIsTrustedForItsTTLAfterTheLastAnswer(t *testing.T) {
	byTheClock(t, func(t *testing.T, c *clockwork, lease *Lease) {
		since := time.Now()
		c.silent.Store(true)
		lost(t, lease)
		if took := time.Since(since); took > 9*time.Second || took < 8900*time.Millisecond {
			t.Errorf("trusted for %v", took)
		}
	})
}
