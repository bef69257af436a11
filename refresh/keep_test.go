package refresh

import (
	"context"
	"errors"
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
		var attempts []time.Time
		well, between, late := atomic.Bool{}, 0, 0
		k := keeping{what: "a pair", attempt: func(context.Context) error {
			attempts = append(attempts, time.Now())
			if well.Load() {
				return nil
			}
			return errors.New("OOM")
		}, between: func() { between++ }, late: func(context.Context) { late++ }}
		left := &atomic.Bool{}
		left.Store(true)
		c.kept.add(k.what)
		done := make(chan struct{})
		go func() { defer close(done); c.keepOn(k, make(chan error, 1), left) }()
		time.Sleep(10 * time.Minute)
		if n := len(attempts); n < 25 || n > 60 || between != n {
			t.Errorf("%d attempts in 10 minutes, %d times between", n, between)
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
		if len(attempts) != n+1 {
			t.Errorf("%d attempts at once when Close waits", len(attempts)-n)
		}
		time.Sleep(10 * time.Second)
		if got := len(attempts) - n; got < 20 || got > 45 {
			t.Errorf("%d attempts in 10 s while Close waits", got)
		}
		well.Store(true)
		time.Sleep(closingPause)
		<-done
		if late != 1 {
			t.Errorf("told %d times", late)
		}
	})
}
