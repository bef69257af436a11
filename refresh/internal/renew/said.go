package renew

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// lasting is something that fails again and again: it is said when it begins, and when it is over.
type lasting struct{ since time.Time }

func (t *lasting) note(log *zerolog.Logger, err error, what string) {
	switch {
	case err != nil && t.since.IsZero():
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
func (u *unrenewed) note(log *zerolog.Logger, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n++; time.Since(u.last) < time.Minute {
		return
	}
	log.Warn().Err(err).Int("renewals", u.n).Msg("grants that are due could not be renewed: trying again")
	u.last, u.n = time.Now(), 0
}
