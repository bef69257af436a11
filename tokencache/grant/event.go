package grant

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// An event is what announce (publish.lua) publishes, below the line that proves its sender:
//
//	<kind> <Redis now, unix ms>
//	<record field> <value>
//	…
//	<empty line><sealed pair, if it is new>
type Event struct {
	Kind   string
	Now    int64
	Record Record
	Sealed string
	Lease  time.Duration // with "alive": how long the lease lives unless extended
}

// Two events are no state change.
const (
	KindAlive = "alive" // the holder still has the lease
	KindAsk   = "ask"   // Redis has no record: does anybody remember the grant?
)

// MaxLease bounds what a message may say of a lease: it is a matter of seconds.
const MaxLease = time.Minute

var errEvent = errors.New("tokencache: not an event of this version")

// ParseEvent reads a message below the line that proves its sender.
func ParseEvent(payload string) (Event, error) {
	head, sealed, ok := strings.Cut(payload, "\n\n")
	if !ok {
		return Event{}, errEvent
	}
	first, lines, _ := strings.Cut(head, "\n")
	kind, when, _ := strings.Cut(first, " ")
	now, err := ParseNumber(when, MaxCounter)
	if err != nil || len(sealed) > MaxSealed {
		return Event{}, errEvent
	}
	e := Event{Kind: kind, Now: now, Sealed: sealed}
	if e.Kind == KindAlive {
		ms, err := ParseNumber(strings.TrimPrefix(lines, "lease_ms "), MaxLease.Milliseconds())
		if err != nil {
			return Event{}, errEvent
		}
		e.Lease = time.Duration(ms) * time.Millisecond
		return e, nil
	}
	if err := e.Record.Parse(lines); err != nil {
		return Event{}, err
	}
	if e.Kind == KindAsk {
		return e, nil
	}
	return e, e.Record.Check(e.Now)
}

// AskEvent names the cache that asks: it hears itself, too.
func AskEvent(now, epoch, generation, rev int64, by string) string {
	return fmt.Sprintf("%s %d\nepoch %d\ngen %d\nrev %d\nby %s\n\n", KindAsk, now, epoch, generation, rev, by)
}

// AliveEvent says that the holder has the lease for ttl from now, unless it extends it.
func AliveEvent(now int64, ttl time.Duration) string {
	return fmt.Sprintf("%s %d\nlease_ms %d\n\n", KindAlive, now, ttl.Milliseconds())
}
