package tokencache

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An event is what announce (common.lua) publishes:
//
//	tl1 <kind> <Redis now, unix ms>
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

var errEvent = errors.New("tokencache: not an event of this version")

func parseEvent(payload string) (event, error) {
	head, sealed, ok := strings.Cut(payload, "\n\n")
	if !ok {
		return event{}, errEvent
	}
	first, lines, _ := strings.Cut(head, "\n")
	part := strings.Split(first, " ")
	if len(part) != 3 || part[0] != "tl1" {
		return event{}, errEvent
	}
	now, err := strconv.ParseInt(part[2], 10, 64)
	if err != nil {
		return event{}, errEvent
	}
	e := event{kind: part[1], now: now, sealed: sealed}
	if e.kind == alive {
		ms, _ := strconv.ParseInt(strings.TrimPrefix(lines, "lease_ms "), 10, 32)
		e.lease = time.Duration(ms) * time.Millisecond
		return e, nil
	}
	if err := e.record.parse(lines); err != nil {
		return event{}, err
	}
	if e.kind == ask {
		return e, nil
	}
	return e, e.record.check()
}

func askEvent(epoch, generation, rev int64) string {
	return fmt.Sprintf("tl1 %s 0\nepoch %d\ngen %d\nrev %d\n\n", ask, epoch, generation, rev)
}

func aliveEvent(ttl time.Duration) string {
	return "tl1 " + alive + " 0\nlease_ms " + strconv.FormatInt(ttl.Milliseconds(), 10) + "\n\n"
}
