package demo

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
)

// tellEvery is how often a worker reports. What it has not told is lost when it is
// killed.
const tellEvery = 100 * time.Millisecond

// diary collects what a worker reports to its parent.
type diary struct {
	mu      sync.Mutex // guards what follows
	pending news
	waiting map[string]int
	changed bool
}

func newDiary() *diary {
	return &diary{pending: news{Errors: map[string]int{}}, waiting: map[string]int{}}
}

func (d *diary) waits(tenant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting[tenant]++
	d.changed = true
}

func (d *diary) finish(tenant string, waited time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting[tenant]--; d.waiting[tenant] == 0 {
		delete(d.waiting, tenant)
	}
	d.changed = true
	d.pending.Calls++
	d.pending.WaitMS = append(d.pending.WaitMS, millis(waited))
	switch {
	case errors.Is(err, errUnauthorized):
		d.pending.Surfaced++
	case err != nil:
		d.pending.Errors[inWords(err)]++
	}
}

// tell writes the news until stop, and the last of them after it.
func (d *diary) tell(out *json.Encoder, stop <-chan struct{}) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.flush(out)
		case <-stop:
			d.flush(out)
			return
		}
	}
}

func (d *diary) flush(out *json.Encoder) {
	d.mu.Lock()
	n, changed := d.pending, d.changed
	n.Waiting = maps.Clone(d.waiting)
	d.pending, d.changed = news{Errors: map[string]int{}}, false
	d.mu.Unlock()
	if changed {
		_ = out.Encode(n) // a parent that is gone ends this process anyway
	}
}

// inWords sorts errors by who acts next. It never quotes one.
func inWords(err error) string {
	switch {
	case errors.Is(err, refresh.ErrReauthorize), errors.Is(err, errRevoked):
		return "the tenant had to consent again"
	case errors.Is(err, refresh.ErrClientConfig):
		return "the provider refused the app"
	case errors.Is(err, context.DeadlineExceeded):
		return "waited too long"
	case errors.Is(err, errAPI):
		return "the API did not answer"
	default:
		return "provider or Redis unavailable"
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
