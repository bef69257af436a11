package refresh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func TestWhatRedisDoesNotTakeIsTriedForGoodAndAtOnceWhenCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waiting, end := context.WithCancelCause(t.Context())
		c := &Coordinator{cfg: Config{ClaimTimeout: time.Hour, CommitPatience: time.Minute}, waiting: waiting, log: zerolog.Nop()}
		var mu sync.Mutex // guards made
		var made []time.Time
		tried := func() []time.Time { mu.Lock(); defer mu.Unlock(); return slices.Clone(made) }
		var well atomic.Bool
		var between, late atomic.Int64
		k := keeping{what: "a pair", attempt: func(context.Context) error {
			mu.Lock()
			made = append(made, time.Now())
			mu.Unlock()
			if well.Load() {
				return nil
			}
			return errors.New("OOM")
		}, between: func() { between.Add(1) }, late: func(context.Context) { late.Add(1) }}
		left := &atomic.Bool{}
		left.Store(true)
		c.kept.add(k.what)
		done := make(chan struct{})
		go func() { defer close(done); c.keepOn(k, make(chan error, 1), left) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		attempts := tried()
		if n := len(attempts); n < 25 || n > 60 || between.Load() != int64(n) {
			t.Errorf("%d attempts in 10 minutes, %d times between", n, between.Load())
		}
		for i := 1; i < len(attempts); i++ {
			if d := attempts[i].Sub(attempts[i-1]); d > keepPause {
				t.Errorf("no attempt for %v", d)
			}
		}
		if err := c.kept.left(); err == nil {
			t.Error("nothing is said to be left")
		}
		n := len(attempts)
		end(errClosed)
		synctest.Wait()
		if got := len(tried()) - n; got != 1 {
			t.Errorf("%d attempts at once when Close waits", got)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := len(tried()) - n; got < 20 || got > 45 {
			t.Errorf("%d attempts in 10 s while Close waits", got)
		}
		well.Store(true)
		time.Sleep(closingPause)
		<-done
		if late.Load() != 1 {
			t.Errorf("told %d times", late.Load())
		}
	})
}
