package apps

import (
	"slices"
	"sync"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Change is one state change of a grant, by the name that the script which made it has told: "connect",
// "commit", "fail", "reauthorize", "reauth_due", "suspect", "restore", "disconnect" as in the journal, and
// "takeover", "recovered", "stalled".
type Change struct {
	grant.Key
	Kind   string
	Record grant.Record // as it was then
	At     int64        // Redis' clock, unix ms
}

// StateChange is one change of an app's state: "suspected" (one tenant is refused as if the
// client were), "open" and "closed" of its circuit, "refused", "probe" and "unprobed" while it
// is open, "limited" (one tenant is to wait), "throttled", "ramp" after that, "accepted",
// "death" of a grant, "mass_death", "retry" and "revived" after that. What is about a host alone begins with "host_",
// and State.About is its name.
type StateChange struct {
	Kind  string
	State *State
}

// watchers are those who are told something, in no order.
type watchers[T any] struct {
	mu   sync.Mutex // guards list, which is never changed in place
	list []*func(T)
}

// add adds f; first runs before, if it is the only one.
func (w *watchers[T]) add(f func(T), first func()) (stop func(last func())) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) == 0 {
		first()
	}
	w.list = append(slices.Clip(w.list), &f)
	return func(last func()) {
		w.mu.Lock()
		defer w.mu.Unlock()
		n := len(w.list)
		w.list = slices.DeleteFunc(slices.Clone(w.list), func(g *func(T)) bool { return g == &f })
		if n == 1 && len(w.list) == 0 {
			last()
		}
	}
}

func (w *watchers[T]) notify(t T) {
	w.mu.Lock()
	list := w.list
	w.mu.Unlock()
	for _, f := range list {
		(*f)(t)
	}
}

func (w *watchers[T]) none() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.list) == 0
}
