// Package apps is each app as a whole: the state that the fleet shares of it (its circuit, its pauses, what Redis has
// lost of it), and who in this process is told of its changes and of its grants'.
package apps

import (
	"iter"
	"math"
	"strings"

	"github.com/puzpuzpuz/xsync/v4"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Apps are the apps that this process works for. It is safe for concurrent use.
type Apps struct {
	db    *store.Store
	names store.Names
	hub   *hub.Hub
	clock *clock.Clock
	log   zerolog.Logger
	by    *xsync.Map[string, *Place]

	watchers *xsync.Map[string, *watchers[Change]] // by app

	// OnLoss is called when it is news that Redis has lost an app's data. It must not block.
	OnLoss func(*Place)
}

// New returns Apps that know none yet.
func New(db *store.Store, h *hub.Hub, c *clock.Clock, log zerolog.Logger) *Apps {
	return &Apps{
		db: db, names: db.Names, hub: h, clock: c, log: log, OnLoss: func(*Place) {},
		by: xsync.NewMap[string, *Place](), watchers: xsync.NewMap[string, *watchers[Change]](),
	}
}

// Place returns an app's place in memory, and listens to its channel from then on.
func (c *Apps) Place(name string) *Place {
	a, known := c.by.LoadOrCompute(name, func() (*Place, bool) {
		return &Place{all: c, name: name, channel: c.names.App(name).State(), changed: make(chan struct{})}, false
	})
	if !known {
		c.hub.Add(a.channel)
	}
	return a
}

// Known returns an app's place in memory; false if it has none.
func (c *Apps) Known(name string) (*Place, bool) { return c.by.Load(name) }

// Forget drops an app's place, unless somebody is told of its changes.
func (c *Apps) Forget(name string) {
	if a, ok := c.by.Load(name); ok && a.told.none() {
		c.by.Delete(name)
		c.hub.Remove(a.channel)
	}
}

// Size returns how many apps have a place.
func (c *Apps) Size() int { return c.by.Size() }

// All are the apps' places, in no order.
func (c *Apps) All() iter.Seq[*Place] {
	return func(yield func(*Place) bool) {
		for _, a := range c.by.All() {
			if !yield(a) {
				return
			}
		}
	}
}

// Invalidate makes all of it incoherent until it is read again: messages were missed.
func (c *Apps) Invalidate() {
	for a := range c.All() {
		a.Invalidate()
	}
}

// ReceiveState takes what was published on an app's channel; empty for a new subscription. It
// reports whether the channel is an app's.
func (c *Apps) ReceiveState(channel, payload string, at mono.Time) bool {
	name, ok := c.names.IsApp(channel)
	if !ok {
		return false
	}
	a, ok := c.by.Load(grant.Unescape(name))
	if !ok {
		return true
	}
	head, lines, _ := strings.Cut(payload, "\n")
	kind, when, _ := strings.Cut(head, " ")
	now, err := grant.ParseNumber(when, math.MaxInt64)
	if payload == "" || kind == "free" || err != nil { // empty: newly subscribed
		a.mu.Lock()
		defer a.mu.Unlock()
		a.news()
		return true
	}
	s := &State{App: a.name, asOf: now, now: c.clock.Arrived(at, now), at: at, session: c.hub.SessionOf(channel)}
	s.parse(lines)
	a.take(s, 0)
	a.told.notify(StateChange{kind, s})
	return true
}
