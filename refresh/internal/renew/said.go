package renew

import (
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
)

// lasting is something that fails again and again: it is said when it has failed twice in a row, and when it is
// over. While Redis is away nothing is said of it: that has a line of its own, which may come a moment after
// the first failure.
type lasting struct {
	since time.Time
	again bool // it failed the last time
}

func (t *lasting) note(fl *flight.Flights, err error, what string) {
	log := &fl.Log
	defer func() { t.again = err != nil }()
	switch {
	case err != nil && t.again && t.since.IsZero() && fl.App.Link().Live:
		t.since = time.Now()
		log.Warn().Err(err).Msg(what)
	case err == nil && !t.since.IsZero():
		log.Info().Dur("after_ms", time.Since(t.since)).Msg("no more: " + what)
		t.since = time.Time{}
	}
}

// unrenewed are renewals that failed since Redis did.
type unrenewed struct {
	mu   sync.Mutex // guards what follows
	last time.Time
	n    int
}

// note says so at most once a minute.
func (u *unrenewed) note(fl *flight.Flights, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n++; time.Since(u.last) < time.Minute || !fl.App.Link().Live {
		return
	}
	fl.Log.Warn().Err(err).Int("renewals", u.n).Msg("grants that are due could not be renewed: trying again")
	u.last, u.n = time.Now(), 0
}
