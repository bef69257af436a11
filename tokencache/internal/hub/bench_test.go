package hub

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// What a heartbeat takes, there and back: a process does it every two seconds.
func BenchmarkHeartbeat(b *testing.B) {
	rdb := redistest.Start(b).Client(b)
	publish := func(ctx context.Context, channel, nonce string) (int64, error) {
		return rdb.Publish(ctx, channel, nonce).Result()
	}
	h := New(Config{Redis: rdb, Heartbeats: redistest.Prefix(b) + ":heartbeat:", Deliver: func(string, string) {}, Publish: publish})
	h.Add("channel")
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	if _, err := h.Confirm(ctx, "channel"); err != nil {
		b.Fatal(err)
	}
	defer func() {
		h.Remove("channel")
		if err := h.Wait(ctx); err != nil {
			b.Error(err)
		}
	}()
	beat := h.current.Load()
	for b.Loop() {
		nonce := beat.next()
		if _, err := publish(ctx, beat.channel, nonce); err != nil {
			b.Fatal(err)
		}
		for beat.lacks(nonce) {
			runtime.Gosched()
		}
	}
}
