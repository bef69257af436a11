package store

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Watcher is told what happens between this process and Redis. It must return at once.
type Watcher interface {
	// Redis has answered an operation about a grant or an app, or has not.
	Redis(op string, took time.Duration)
	// Pushed: a change has arrived so long after Redis made it, as far as this process knows Redis' clock: in
	// whole ms, and up to a round trip too long.
	Pushed(delay time.Duration)
	// Restored: this process has given back a grant's newest state, which Redis had lost.
	Restored(app string)
}

// watchers are those who are told. The zero value tells nobody, at the price of a look.
type watchers struct {
	mu  sync.Mutex // guards changes of all
	all atomic.Pointer[[]Watcher]
}

// Add has w told from now on, until stop is called. One that is there already is told once.
func (ws *watchers) Add(w Watcher) (stop func()) {
	ws.change(func(all []Watcher) []Watcher { return append(all, w) })
	return sync.OnceFunc(func() {
		ws.change(func(all []Watcher) []Watcher {
			i := slices.Index(all, w)
			return slices.Delete(all, i, i+1)
		})
	})
}

func (ws *watchers) change(f func([]Watcher) []Watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	all := f(slices.Clone(ws.now()))
	ws.all.Store(&all)
}

func (ws *watchers) now() []Watcher {
	if all := ws.all.Load(); all != nil {
		return *all
	}
	return nil
}

// tell calls f with each watcher, once, however often it was added.
func (ws *watchers) tell(f func(Watcher)) {
	all := ws.now()
	for i, w := range all {
		if slices.Index(all, w) == i {
			f(w)
		}
	}
}

// Took tells how long an operation took that was begun at sent.
func (ws *watchers) Took(op string, sent mono.Time) {
	if len(ws.now()) > 0 {
		took := mono.Now() - sent
		ws.tell(func(w Watcher) { w.Redis(op, took) })
	}
}

// Pushed tells how long a change has been on its way.
func (ws *watchers) Pushed(ms int64) {
	ws.tell(func(w Watcher) { w.Pushed(time.Duration(max(0, ms)) * time.Millisecond) })
}

// Restored tells that this process has given a grant of an app back to Redis.
func (ws *watchers) Restored(app string) { ws.tell(func(w Watcher) { w.Restored(app) }) }
