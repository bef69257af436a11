package engine

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Deadlines are stored as Redis time, and no worker's wall clock decides anything.
// A process turns "stored minus Redis' now" into a deadline on its own clock when a reply or an
// event arrives.

// span is so many ms; the longest duration there is where that cannot hold them.
func span(ms int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond) / 2
	return time.Duration(min(max(ms, -most), most)) * time.Millisecond
}

// Redis' clock can be set: by an operator, by NTP after a virtual machine has moved, by a master with
// another clock that takes its predecessor's place. Then what is stored lies in the past or in the future
// by as much as it was set:
//
//   - A deadline that this process has turned into one on its own clock stays what it was: the end of a
//     pair's life and of a claim are not turned twice.
//   - Who notices that the clock was set takes no claim over for a claim's time: see [Cache.ClockSet].
//   - A record that was written in the future says by how much, at least, the clock was set back since; one
//     from before the clock was set back, as this process has noticed it, is as much older than it
//     seems. A pair does not live longer for it.
//   - A wait that is longer than such waits are is over: see [Record.WaitsUntil], and far in app.lua.
//
// On a Cluster each node has a clock of its own, so that nothing can be noticed but what records say.

// clock remembers how far Redis' clock is ahead of ours, at most: measured from before a
// request was sent.
type clock struct {
	offset atomic.Int64 // ns
	known  atomic.Bool
	heard  atomic.Int64 // mono.Time of the last reply that told the time

	many  bool               // there is more than one: that they differ says nothing
	onSet func(by mono.Time) // is told by how much it was set forward; may be nil
	setAt atomic.Int64       // mono.Time at which it was last noticed that it had been set; 0 for never
	back  atomic.Pointer[setBack]
}

// setBack is by how much Redis' clock is behind what it would say had it not been set back.
type setBack struct {
	by   int64 // ms
	from int64 // what it said then, at least: whatever was written since says as much
}

// observe learns from a reply in which Redis said `now`, and returns our clock's reading
// for that, or a little before. Redis answered between sent and received; what was known
// before stays if it agrees with that, since it came from a faster reply.
func (c *clock) observe(sent, received mono.Time, now int64) mono.Time {
	before := c.heard.Swap(int64(received))
	ns := now * int64(time.Millisecond)
	least, most := ns-int64(received), ns-int64(sent)
	offset := c.offset.Load()
	if !c.known.Load() || offset < least || offset > most {
		if by := max(least-offset, 0) + min(most-offset, 0); c.known.Load() && !c.many && abs(by) > grant.ClockTolerance*int64(time.Millisecond) {
			c.wasSet(received, now-(int64(received)-before)/int64(time.Millisecond), by) // at some time since
		}
		offset = most
		c.offset.Store(offset)
		c.known.Store(true)
	}
	return mono.Time(ns - offset)
}

func abs(n int64) int64 { return max(n, -n) }

// wasSet notes that Redis' clock was set forward by so many ns, or back, when it said so by now or later.
func (c *clock) wasSet(at mono.Time, from, by int64) {
	// A reply from before can be looked at after one that came later.
	back := setBack{by: -by / int64(time.Millisecond), from: from - believedWithin.Milliseconds()}
	if before := c.back.Load(); before != nil {
		back.by += before.by
		if by > 0 {
			back.from = before.from
		}
	}
	if back.by > grant.ClockTolerance {
		c.back.Store(&back)
	} else {
		c.back.Store(nil)
	}
	c.setAt.Store(int64(max(at, 1)))
	if c.onSet != nil {
		c.onSet(mono.Time(by))
	}
}

// behind is by how much more, in ms, a record has aged than Redis' clock says; `now` is what that says.
func (c *clock) behind(r *grant.Record, now int64) int64 {
	written := r.WrittenAt()
	behind := int64(0)
	if written > now+grant.ClockTolerance {
		behind = written - now
	}
	// What was written since says at least what the clock said then.
	if b := c.back.Load(); b != nil && (written < b.from-grant.ClockTolerance || written > now+grant.ClockTolerance) {
		behind = max(behind, b.by)
	}
	return behind
}

// ClockSet is how long ago this process noticed that somebody had set Redis' clock; false for never.
// What Redis says of claims that were made before is not to be acted upon for as long as a claim stands.
func (c *Cache) ClockSet() (ago time.Duration, ok bool) {
	at := mono.Time(c.clock.setAt.Load())
	return mono.Now() - at, at != 0
}

// recent bounds how long Redis' clock is taken to go like ours: an operator may set it.
const recent = time.Minute

// guess is Redis' now, never early, if Redis has told the time lately.
func (c *clock) guess(at mono.Time) (now int64, ok bool) {
	if !c.known.Load() || at-mono.Time(c.heard.Load()) > recent {
		return 0, false
	}
	return (int64(at) + c.offset.Load()) / int64(time.Millisecond), true
}

// justNow is for how long Redis' time need not be asked for again.
const justNow = time.Second

// toldJustNow is guess if Redis has told the time within the last second. It tells whole ms.
func (c *clock) toldJustNow(at mono.Time) (now int64, ok bool) {
	if at-mono.Time(c.heard.Load()) > justNow {
		return 0, false
	}
	now, ok = c.guess(at)
	return now + 1, ok
}

// estimate is guess, however long ago Redis has told the time.
func (c *clock) estimate(at mono.Time) (now int64, ok bool) {
	return (int64(at) + c.offset.Load()) / int64(time.Millisecond), c.known.Load()
}

// told is estimate for a message that this process publishes; 0 if Redis has never told the time.
func (c *clock) told() int64 {
	now, ok := c.estimate(mono.Now())
	if !ok {
		return 0
	}
	return now
}

// arrived is Redis' now for an event that was read off the socket at `at`. A
// process that was stopped, or a slow connection, reads it late: then the event's
// own now is too early, and a token would seem to live longer than it does.
func (c *clock) arrived(at mono.Time, now int64) int64 {
	if !c.known.Load() {
		return now
	}
	return max(now, (int64(at)+c.offset.Load())/int64(time.Millisecond))
}
