package tokencache

import (
	"math"
	"sync/atomic"
	"time"
)

// Deadlines are stored as Redis time, and no worker's wall clock decides anything.
// A process turns "stored minus Redis' now" into a deadline on its own clock when a reply or an
// event arrives.

// span is so many ms; the longest duration there is where that cannot hold them.
func span(ms int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond) / 2
	return time.Duration(min(max(ms, -most), most)) * time.Millisecond
}

// clock remembers how far Redis' clock is ahead of ours, at most: measured from before a
// request was sent.
type clock struct {
	offset atomic.Int64 // ns
	known  atomic.Bool
	heard  atomic.Int64 // mono of the last reply that told the time
}

// observe learns from a reply in which Redis said `now`, and returns our clock's reading
// for that, or a little before. Redis answered between sent and received; what was known
// before stays if it agrees with that, since it came from a faster reply.
func (c *clock) observe(sent, received mono, now int64) mono {
	c.heard.Store(int64(received))
	ns := now * int64(time.Millisecond)
	least, most := ns-int64(received), ns-int64(sent)
	offset := c.offset.Load()
	if !c.known.Load() || offset < least || offset > most {
		offset = most
		c.offset.Store(offset)
		c.known.Store(true)
	}
	return mono(ns - offset)
}

// recent bounds how long Redis' clock is taken to go like ours: an operator may set it.
const recent = time.Minute

// guess is Redis' now, never early, if Redis has told the time lately.
func (c *clock) guess(at mono) (now int64, ok bool) {
	if !c.known.Load() || at-mono(c.heard.Load()) > recent {
		return 0, false
	}
	return (int64(at) + c.offset.Load()) / int64(time.Millisecond), true
}

// estimate is guess, however long ago Redis has told the time.
func (c *clock) estimate(at mono) (now int64, ok bool) {
	return (int64(at) + c.offset.Load()) / int64(time.Millisecond), c.known.Load()
}

// told is estimate for a message that this process publishes; 0 if Redis has never told the time.
func (c *clock) told() int64 {
	now, ok := c.estimate(monotonic())
	if !ok {
		return 0
	}
	return now
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
