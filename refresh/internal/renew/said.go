package renew

import (
	"context"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
)

// stillLive reports whether the link to Redis lives a moment after something has failed. Where it does not,
// nothing is said of the failure: the link's end has a line of its own, and whoever notices it may be the later one.
func stillLive(ctx context.Context, fl *flight.Flights) bool {
	work.Pause(ctx, policy.LookAgain, nil)
	return ctx.Err() == nil && fl.App.Link().Live
}

// lasting is something that fails again and again: it is said when it has failed for a moment while the link
// to Redis lived, and when it is over.
type lasting struct {
	since time.Time // of the first failure in a row
	said  bool
}

func (t *lasting) note(fl *flight.Flights, err error, what string) {
	now := time.Now()
	if err != nil {
		if t.failed(now, fl.App.Link().Live) {
			fl.Log.Warn().Err(err).Msg(what)
		}
		return
	}
	if t.said {
		fl.Log.Info().Dur("after_ms", now.Sub(t.since)).Msg("no more: " + what)
	}
	*t = lasting{}
}

// failed reports whether a failure is to be said now.
func (t *lasting) failed(now time.Time, live bool) bool {
	switch {
	case t.said:
	case !live:
		t.since = time.Time{}
	case t.since.IsZero():
		t.since = now
	case now.Sub(t.since) >= policy.LookAgain: // two in a row may come at once
		t.said = true
		return true
	}
	return false
}

// unrenewed are renewals that failed since Redis did.
type unrenewed struct {
	mu   sync.Mutex // guards what follows
	last time.Time
	n    int
}

// note says so at most once a minute.
func (u *unrenewed) note(ctx context.Context, fl *flight.Flights, err error) {
	u.mu.Lock()
	u.n++
	quiet := time.Since(u.last) < time.Minute
	u.mu.Unlock()
	if quiet || !stillLive(ctx, fl) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.last) < time.Minute { // another has said it meanwhile
		return
	}
	fl.Log.Warn().Err(err).Int("renewals", u.n).Msg("grants that are due could not be renewed: trying again")
	u.last, u.n = time.Now(), 0
}
