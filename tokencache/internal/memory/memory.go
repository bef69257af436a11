// Package memory is what this process remembers of grants, and when that may be trusted. It knows no Redis: what
// comes of a reply or a push is a [Draft], which package inbox makes and [Memory.Adopt] takes or leaves.
//
// Memory is coherent while a grant is subscribed to its events in the live session of the hub: then nothing that
// changes it goes unheard. A state that only a push told of is served, and never given back to Redis.
package memory

import (
	"iter"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
)

// Memory is the hot grants. It is safe for concurrent use.
type Memory struct {
	hub       *hub.Hub
	hot       *hotMap
	seen      doorkeeper
	ring      ring
	limit     int
	strangers strangers
	cold      coldUse
}

// New is for so many grants, each of which is subscribed to its channel of the hub.
func New(limit int, h *hub.Hub, channel func(grant.Key) string) *Memory {
	return &Memory{hub: h, hot: newHotMap(h, channel), seen: newDoorkeeper(limit), limit: limit}
}

// Grants returns the hot grants of an app.
func (m *Memory) Grants(app string) *Grants { return m.hot.app(app) }

// Entry returns a hot grant; false if it is none.
func (m *Memory) Entry(k grant.Key) (*Entry, bool) { return m.hot.load(k) }

// Peek returns what memory holds of a grant if that is coherent: read or pushed while
// subscribed to the grant's events on a connection that is alive. Else nil. It takes
// no lock and does not allocate.
func (m *Memory) Peek(k grant.Key) *Snapshot {
	e, ok := m.hot.load(k)
	if !ok {
		return nil
	}
	s, tick := e.coherent(m.hub)
	if s != nil {
		mark(&e.used, tick)
	}
	return s
}

// Recall returns what memory holds, coherent or not; nil for nothing.
func (m *Memory) Recall(k grant.Key) *Snapshot {
	if e, ok := m.hot.load(k); ok {
		return e.snap.Load()
	}
	return nil
}

// Home is a grant's place in memory, and the session in which it is subscribed; nil and 0 for neither.
func (m *Memory) Home(k grant.Key) (*Entry, uint64) {
	e, ok := m.hot.load(k)
	if !ok {
		return nil, 0
	}
	return e, m.hub.SessionOf(e.Channel)
}

// HasRoom reports whether memory has a place for one more grant, or has this one.
func (m *Memory) HasRoom(k grant.Key) bool {
	_, hot := m.hot.load(k)
	return hot || m.hot.size() < m.limit
}

// Wants reports whether a grant that is asked for is worth a full read: it is hot, or may become so.
func (m *Memory) Wants(k grant.Key) bool { return m.HasRoom(k) || m.seen.lately(k) }

// admits says whether a grant that was asked for may take a place in memory.
func (m *Memory) admits(k grant.Key) bool { return m.hot.size() < m.limit || m.seen.again(k) }

// Adopt takes s into memory unless memory is newer, and returns what memory holds
// then. A grant that is not hot is not remembered.
func (m *Memory) Adopt(s *Snapshot) *Snapshot {
	if e, ok := m.hot.load(s.Key); ok {
		return e.adopt(s)
	}
	return s
}

// Evict forgets a grant that nobody has pinned.
func (m *Memory) Evict(e *Entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pins.Load() > 0 || e.evicted {
		return
	}
	e.evicted = true
	e.markStale() // a Handle may still look at it
	if e.listed {
		m.hub.Remove(e.Channel) // before somebody else can add it again
		m.ring.remove(e)
	}
	m.hot.delete(e.Key)
}

// Drop forgets a grant though it is pinned, as the end of the process would.
func (m *Memory) Drop(e *Entry) {
	e.pins.Store(0)
	m.Evict(e)
}

// Forget drops an app's grants, but those that are pinned.
func (m *Memory) Forget(app string) {
	m.strangers.forget(app)
	for _, e := range m.hot.app(app).tenants.All() {
		m.Evict(e)
	}
}

// All are the hot grants, in no order.
func (m *Memory) All() iter.Seq[*Entry] { return m.hot.all() }

// Size returns how many grants are hot.
func (m *Memory) Size() int { return m.hot.size() }

// Invalidate makes all of it incoherent until it is read again: messages were missed.
func (m *Memory) Invalidate() {
	for e := range m.hot.all() {
		e.Invalidate()
	}
}
