package demo

import (
	"fmt"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// event is one line of what happened.
type event struct {
	at   time.Duration // since the start
	tone cli.Tone
	text string
}

// feed is everything that happened, newest last.
type feed struct {
	mu     sync.Mutex // guards what follows
	start  time.Time
	events []event
	first  int // number of events[0]
}

// feedLength bounds what is kept.
const feedLength = 200

func newFeed() *feed { return &feed{start: time.Now()} }

// begin starts the clock anew and returns the time.
func (f *feed) begin() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.start = time.Now()
	return f.start
}

func (f *feed) add(t cli.Tone, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, event{time.Since(f.start), t, fmt.Sprintf(format, args...)})
	if over := len(f.events) - feedLength; over > 0 {
		f.events, f.first = f.events[over:], f.first+over
	}
}

// since returns the events from number n on that are still there, and the number of
// the next one.
func (f *feed) since(n int) ([]event, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from := min(max(n-f.first, 0), len(f.events))
	return append([]event(nil), f.events[from:]...), f.first + len(f.events)
}
