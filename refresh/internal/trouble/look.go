package trouble

import (
	"context"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// KnownFit reports whether Redis has said that it can do what is needed, and has refused nothing since.
func (j *Judge) KnownFit() bool { return j.fitness.fit.Load() && !j.fitness.refused.Load() }

// Look asks Redis how it is, once a second at most: whether it can do what is needed, unless that is known,
// else whether it answers. unfit says that an operator must mend it, away that it does not answer.
func (j *Judge) Look(ctx context.Context) (unfit, away error) {
	l := &j.look
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() && time.Since(l.at) < fitEvery {
		return l.unfit, l.away
	}
	ask := j.App.Ping
	if !j.KnownFit() {
		ask = func(ctx context.Context) error { return j.App.Grant("any").Fit(ctx, true) }
	}
	err := ask(ctx)
	l.at, l.unfit, l.away = time.Now(), engine.Unfit(err), nil
	switch {
	case l.unfit != nil:
		j.noteUnfit(l.unfit)
	case err != nil:
		l.away = err
	default:
		j.fitness.fit.Store(true)
		j.fitness.refused.Store(false)
		j.fitness.said.Store(nil)
	}
	return l.unfit, l.away
}

// Unopened names the keys that sealed pairs which this process could not open.
func (j *Judge) Unopened() (keys []string) {
	j.unopened.mu.Lock()
	defer j.unopened.mu.Unlock()
	for key := range j.unopened.keys {
		keys = append(keys, key)
	}
	return keys
}
