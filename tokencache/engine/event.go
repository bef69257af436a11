package engine

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
type event struct {
	kind   string
	now    int64
	record Record
	sealed string
	lease  time.Duration // with "alive": how long the lease lives unless extended
}

// Two events are no state change.
const (
	alive = "alive" // the holder still has the lease
	ask   = "ask"   // Redis has no record: does anybody remember the grant?
)

// maxLease bounds what a message may say of a lease: it is a matter of seconds.
const maxLease = time.Minute

var errEvent = errors.New("tokencache: not an event of this version")

func parseEvent(payload string) (event, error) {
	head, sealed, ok := strings.Cut(payload, "\n\n")
	if !ok {
		return event{}, errEvent
	}
	first, lines, _ := strings.Cut(head, "\n")
	kind, when, _ := strings.Cut(first, " ")
	now, err := sane(when, maxCounter)
	if err != nil || len(sealed) > maxSealed {
		return event{}, errEvent
	}
	e := event{kind: kind, now: now, sealed: sealed}
	if e.kind == alive {
		ms, err := sane(strings.TrimPrefix(lines, "lease_ms "), maxLease.Milliseconds())
		if err != nil {
			return event{}, errEvent
		}
		e.lease = time.Duration(ms) * time.Millisecond
		return e, nil
	}
	if err := e.record.parse(lines); err != nil {
		return event{}, err
	}
	if e.kind == ask {
		return e, nil
	}
	return e, e.record.check(e.now)
}

// askEvent names the cache that asks: it hears itself, too.
func askEvent(now, epoch, generation, rev int64, by string) string {
	return fmt.Sprintf("%s %d\nepoch %d\ngen %d\nrev %d\nby %s\n\n", ask, now, epoch, generation, rev, by)
}

func aliveEvent(now int64, ttl time.Duration) string {
	return fmt.Sprintf("%s %d\nlease_ms %d\n\n", alive, now, ttl.Milliseconds())
}
