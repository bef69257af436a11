// Package clock is what a process knows of Redis' clock, by which deadlines are stored.
package clock

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Span is so many ms; the longest duration there is where that cannot hold them.
func Span(ms int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond) / 2
	return time.Duration(min(max(ms, -most), most)) * time.Millisecond
}

// Clock remembers how far Redis' clock is ahead of ours, at most and at least: measured from before a
// request was sent, and from after its reply was read.
type Clock struct {
	mu     sync.Mutex   // of Observe
	offset atomic.Int64 // ns, at most
	least  atomic.Int64 // ns; more than offset for a moment while both change
	known  atomic.Bool
	heard  atomic.Int64 // mono.Time of the last reply that told the time

	// Many says that there is more than one: that they differ says nothing.
	Many bool
	// OnSet is told by how much it was set forward; may be nil.
	OnSet func(by mono.Time)

	setAt atomic.Int64 // mono.Time at which it was last noticed that it had been set; 0 for never
	back  atomic.Pointer[setBack]
}

// setBack is by how much Redis' clock is behind what it would say had it not been set back.
type setBack struct {
	by   int64 // ms
	from int64 // what it said then, at least: whatever was written since says as much
}

// ms are what Redis tells the time in.
const ms = int64(time.Millisecond)

// drift is by how much the two clocks may come apart between two replies, and by how much what Redis tells is
// rounded: a reply that differs by no more moves what was known, and does not take its place.
const drift = 10 * ms

// Observe learns from a reply in which Redis said `now`, and returns our clock's reading
// for that, or up to doubt before. Redis answered between sent and received. What was known before stays
// as far as it agrees with that: a slow reply says little, and nothing against a fast one.
func (c *Clock) Observe(sent, received mono.Time, now int64) (at, doubt mono.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.heard.Swap(int64(received))
	ns := now * ms
	least, most := ns-int64(received), ns-int64(sent)
	if c.known.Load() {
		was, atMost := c.least.Load(), c.offset.Load()
		apart := max(least-atMost, was-most, 0)
		if apart <= drift {
			least, most = max(least, was-apart), min(most, atMost+apart)
		} else if apart > grant.ClockTolerance*ms && !c.Many {
			c.wasSet(received, now-(int64(received)-before)/ms, max(least-atMost, 0)+min(most-atMost, 0)) // at some time since
		}
	}
	c.offset.Store(most)
	c.least.Store(least)
	c.known.Store(true)
	return mono.Time(ns - most), mono.Time(most - least)
}

// wasSet notes that Redis' clock was set forward by so many ns, or back, when it said so by now or later.
func (c *Clock) wasSet(at mono.Time, from, by int64) {
	// A reply from before can be looked at after one that came later.
	back := setBack{by: -by / int64(time.Millisecond), from: from - BelievedWithin.Milliseconds()}
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
	if c.OnSet != nil {
		c.OnSet(mono.Time(by))
	}
}

// Behind returns by how much more, in ms, a record has aged than Redis' clock says; `now` is what that says.
func (c *Clock) Behind(r *grant.Record, now int64) int64 {
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

// Ago returns how long ago this process noticed that somebody had set Redis' clock; false for never.
func (c *Clock) Ago() (ago time.Duration, ok bool) {
	at := mono.Time(c.setAt.Load())
	return mono.Now() - at, at != 0
}

// recent bounds how long Redis' clock is taken to go like ours: an operator may set it.
const recent = time.Minute

// Guess is Redis' now, never early, if Redis has told the time lately.
func (c *Clock) Guess(at mono.Time) (now int64, ok bool) {
	if !c.known.Load() || at-mono.Time(c.heard.Load()) > recent {
		return 0, false
	}
	return (int64(at) + c.offset.Load()) / int64(time.Millisecond), true
}

// justNow is for how long Redis' time need not be asked for again, and well how exactly it must be known for that.
const (
	justNow = time.Second
	well    = 100 * time.Millisecond
)

// ToldJustNow is guess if Redis has told the time within the last second, and not by slow replies alone. It tells
// whole ms.
func (c *Clock) ToldJustNow(at mono.Time) (now int64, ok bool) {
	if at-mono.Time(c.heard.Load()) > justNow || c.Doubt() > well {
		return 0, false
	}
	now, ok = c.Guess(at)
	return now + 1, ok
}

// Estimate is guess, however long ago Redis has told the time.
func (c *Clock) Estimate(at mono.Time) (now int64, ok bool) {
	return (int64(at) + c.offset.Load()) / int64(time.Millisecond), c.known.Load()
}

// Told is estimate for a message that this process publishes; 0 if Redis has never told the time.
func (c *Clock) Told() int64 {
	now, ok := c.Estimate(mono.Now())
	if !ok {
		return 0
	}
	return now
}

// Arrived is Redis' now for an event that was read off the socket at `at`. A
// process that was stopped, or a slow connection, reads it late: then the event's
// own now is too early, and a token would seem to live longer than it does.
func (c *Clock) Arrived(at mono.Time, now int64) int64 {
	if !c.known.Load() {
		return now
	}
	return max(now, (int64(at)+c.offset.Load())/int64(time.Millisecond))
}

// Doubt is by how much Redis' clock may be behind what Guess, Estimate and Arrived say.
func (c *Clock) Doubt() mono.Time { return mono.Time(max(0, c.offset.Load()-c.least.Load())) }

// Shift has Redis' clock taken for so much later than it is. For tests.
func (c *Clock) Shift(by time.Duration) {
	c.offset.Add(int64(by))
	c.least.Add(int64(by))
}

// Unheard has Redis' time told last so long ago. For tests.
func (c *Clock) Unheard(ago time.Duration) { c.heard.Store(int64(mono.Now() - ago)) }

// BelievedWithin is how old a message may be: far longer than it takes, far shorter than what a
// recorded one could do harm with.
const BelievedWithin = 10 * time.Second
