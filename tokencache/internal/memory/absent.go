package memory

import (
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Webhooks of customers that are long gone go on for months. What is known of a tenant without a
// grant is that: while this process is subscribed to its events nothing can come into being there
// unheard.

const (
	// maxAbsent bounds how many tenants without a grant are remembered as such.
	maxAbsent = 512
	// absentFor is how long that is believed.
	absentFor = time.Minute
)

// strangers are the tenants without a grant that are remembered, each pinned, oldest first.
type strangers struct {
	mu   sync.Mutex // guards pins
	pins []*Pin
}

// NoteAbsent notes that Redis was found to have no such grant, by a request that was sent in a session.
func (m *Memory) NoteAbsent(k grant.Key, session uint64) {
	e, ok := m.hot.load(k)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.absent, e.absentAt = session, mono.Now()
}

// KnownAbsent reports whether a tenant is known to have no grant, without a look at Redis.
func (m *Memory) KnownAbsent(k grant.Key) bool {
	e, ok := m.hot.load(k)
	if !ok || e.snap.Load() != nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.absent != 0 && e.absent == m.hub.Session() && mono.Now()-e.absentAt < absentFor
}

// KeepAbsent is Unpin for a tenant without a grant: it stays subscribed for a while, so that the
// next who ask need not ask Redis. The pin is memory's from then on.
func (p *Pin) KeepAbsent() {
	if p.e.snap.Load() != nil || !p.m.KnownAbsent(p.e.Key) {
		p.Unpin()
		return
	}
	s := &p.m.strangers
	s.mu.Lock()
	s.pins = append(s.pins, p)
	var out *Pin
	if len(s.pins) > maxAbsent {
		out, s.pins = s.pins[0], s.pins[1:]
	}
	s.mu.Unlock()
	if out != nil {
		out.Unpin()
	}
}

// forget unpins an app's strangers.
func (s *strangers) forget(app string) {
	s.mu.Lock()
	var out, keep []*Pin
	for _, p := range s.pins {
		if p.e.Key.App == app {
			out = append(out, p)
		} else {
			keep = append(keep, p)
		}
	}
	s.pins = keep
	s.mu.Unlock()
	for _, p := range out {
		p.Unpin()
	}
}
