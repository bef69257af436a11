package trouble

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/tokencache"
)

// fitEvery is how often it is asked at most while it is not known.
const fitEvery = time.Second

// fitness is whether Redis can do what is needed. It is asked once, before the first work: else a right
// that is missing would be found when the first token expires.
type fitness struct {
	fit, thoroughly atomic.Bool
	refused         atomic.Bool // something that is needed, and nothing has shown since that it is allowed

	mu    sync.Mutex // guards what follows
	asked time.Time
	err   error

	said atomic.Pointer[string] // in the log, since Redis was last fit
}

// ask asks by f, unless it is known. news says that the error is an answer, and must be said.
func (f *fitness) ask(thorough bool, ask func() error) (news bool, _ error) {
	known := &f.fit
	if thorough {
		known = &f.thoroughly
	}
	if known.Load() {
		return false, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known.Load() || !f.asked.IsZero() && time.Since(f.asked) < fitEvery {
		return false, f.err
	}
	err := ask()
	f.asked, f.err = time.Now(), nil
	switch {
	case err == nil:
		f.fit.Store(true)
		known.Store(true)
	case errors.Is(err, tokencache.ErrUnfit):
		f.err = err
		return true, err
	}
	return false, nil
}

// say says once what must be mended, until Redis is fit again.
func (f *fitness) say(log zerolog.Logger, process string, err error) {
	text, before := err.Error(), f.said.Load()
	if (before == nil || *before != text) && f.said.CompareAndSwap(before, &text) {
		log.Error().Err(err).Str("process", process).Msg("Redis, or what leads to it, must be mended: until then nothing is refreshed")
	}
}

// look is what Redis last said when it was asked how it is.
type look struct {
	mu          sync.Mutex // guards what follows
	at          time.Time
	unfit, away error
}
