package tokencache

import (
	"sync/atomic"
	"time"
)

// Deadlines are stored as Redis time, and no worker's wall clock decides anything.
// A process turns "stored minus Redis' now" into a deadline on its own monotonic
// clock when a reply or an event arrives.

// mono is a reading of this process's monotonic clock.
type mono = time.Duration

var processStart = time.Now()

func monotonic() mono { return time.Since(processStart) }

// clock remembers how far Redis' clock is ahead of ours, at most: measured from
// before the last request was sent.
type clock struct {
	offset atomic.Int64 // ns
	known  atomic.Bool
}

func (c *clock) observe(sent mono, now int64) {
	c.offset.Store(now*int64(time.Millisecond) - int64(sent))
	c.known.Store(true)
}

// arrived is Redis' now for an event that was read off the socket at `at`. A
// process that was stopped, or a slow connection, reads it late: then the event's
// own now is too early, and a token would seem to live longer than it does.
func (c *clock) arrived(at mono, now int64) int64 {
	if !c.known.Load() {
		return now
	}
	return max(now, (int64(at)+c.offset.Load())/int64(time.Millisecond))
}
