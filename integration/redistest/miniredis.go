package redistest

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Miniredis returns a client of a miniredis in this process, so that one suite
// can run on it and on real Redis. Its TTLs run with the wall clock, in steps of
// 50 ms; left alone they stand still. Its TIME is the wall clock anyway.
func Miniredis(t testing.TB) *redis.Client {
	t.Helper()
	mini := miniredis.NewMiniRedis()
	if err := mini.StartAddr(loopback + ":0"); err != nil {
		t.Fatalf("redistest: start miniredis: %v", err)
	}
	t.Cleanup(mini.Close)
	runClock(t, mini)
	rdb := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// runClock fast-forwards by the time that really went by: a ticker on a busy
// machine drops ticks.
func runClock(t testing.TB, mini *miniredis.Miniredis) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticks := time.NewTicker(50 * time.Millisecond)
		defer ticks.Stop()
		for last := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-ticks.C:
				now := time.Now()
				mini.FastForward(now.Sub(last))
				last = now
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
}
