package keep

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

	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
)

func TestAPairThatRedisDoesNotTakeIsTriedForGoodAndAtOnceWhenCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper := &Keeper{Work: work.NewGroup(), ClaimTimeout: time.Hour, Patience: time.Minute, Log: zerolog.Nop()}
		var mu sync.Mutex // guards made
		var made []time.Time
		tried := func() []time.Time { mu.Lock(); defer mu.Unlock(); return slices.Clone(made) }
		var well atomic.Bool
		var between, late atomic.Int64
		k := Keeping{What: "a pair", Attempt: func(context.Context) error {
			mu.Lock()
			made = append(made, time.Now())
			mu.Unlock()
			if well.Load() {
				return nil
			}
			return errors.New("OOM")
		}, Between: func() { between.Add(1) }, Late: func(context.Context) { late.Add(1) }}
		left := &atomic.Bool{}
		left.Store(true)
		keeper.kept.add(k.What)
		done := make(chan struct{})
		go func() { defer close(done); keeper.keepOn(k, make(chan error, 1), left) }()
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
		if err := keeper.kept.left(); err == nil {
			t.Error("nothing is said to be left")
		}
		n := len(attempts)
		keeper.Work.Close()
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
