package flight

import (
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Ride is one caller's part in flights, for the observer.
type Ride struct {
	Start time.Time

	flight *flight // the last one
}

// landed is the last flight's end, if the caller has waited for that.
func (r *Ride) landed() (_ end, ok bool) {
	if r.flight == nil {
		return end{}, false
	}
	select {
	case <-r.flight.done:
		return r.flight.end, true
	default:
		return end{}, false
	}
}

// From returns where s came from.
func (r *Ride) From(s *engine.Snapshot) string {
	e, ok := r.landed()
	switch {
	case ok && r.flight.snap == s && e.busy:
		return observe.FromRefresh
	case ok && (r.flight.snap == s || r.flight.first == s):
		return observe.FromRedis
	}
	select {
	case <-r.flight.looked:
		if r.flight.first == s {
			return observe.FromRedis
		}
	default:
	}
	return observe.FromMemory
}

// Wait is the caller's wait for a refresh, which ended with a snapshot or an error; false if there was no need to
// wait for one.
func (r *Ride) Wait(s *engine.Snapshot, err error) (observe.Wait, bool) {
	e, ok := r.landed()
	w := observe.Wait{Start: r.Start, Exchange: e.exchange, Failed: err != nil}
	switch {
	case work.HasLeft(err):
		w.How = observe.Left
		return w, true
	case !ok || !e.busy || err == nil && r.flight.snap != s:
		return w, false
	case e.exchange != nil:
		w.How = observe.Led
	case e.heard:
		w.How = observe.Pushed
	default:
		w.How = observe.Backstop
	}
	if s != nil {
		w.CommitID = s.CommitID
	}
	return w, true
}
