package tokencache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// entry is a hot grant: its newest snapshot in this process, and who waits for a
// newer one.
type entry struct {
	key     Key
	channel string
	snap    atomic.Pointer[Snapshot]
	used    atomic.Int64 // mono seconds of the last Peek, for eviction
	pins    atomic.Int32 // changed under mu only
	slot    int          // in the ring, guarded by its lock

	mu       sync.Mutex // guards what follows, and the order in which snap advances
	evicted  bool
	changed  chan struct{} // closed on every news
	leaseFor mono          // somebody holds the lease until then, as far as was heard
}

// Peek returns what memory holds of a grant if that is coherent: read or pushed while
// subscribed to the grant's events on a connection that is alive. Else nil. It takes
// no lock and does not allocate.
func (c *Cache) Peek(k Key) *Snapshot {
	e, ok := c.hot.Load(k)
	if !ok {
		return nil
	}
	s := e.snap.Load()
	if s == nil || s.session == 0 || s.session != c.hub.session.Load() {
		return nil
	}
	if now := int64(monotonic() / time.Second); e.used.Load() != now {
		e.used.Store(now) // once a second: readers on many cores must not fight for the line
	}
	return s
}

// Remembered returns what memory holds, coherent or not; nil for nothing.
func (c *Cache) Remembered(k Key) *Snapshot {
	if e, ok := c.hot.Load(k); ok {
		return e.snap.Load()
	}
	return nil
}

// Pin keeps a grant in memory and subscribed until Unpin.
func (c *Cache) Pin(k Key) *Pin {
	for {
		e, loaded := c.hot.LoadOrCompute(k, func() (*entry, bool) {
			return &entry{key: k, channel: c.keys(k).events, changed: make(chan struct{})}, false
		})
		e.mu.Lock()
		if e.evicted { // between the look-up and here
			e.mu.Unlock()
			continue
		}
		e.pins.Add(1)
		if !loaded {
			// Under e.mu, so that an eviction cannot overtake it.
			c.hub.add(e.channel)
			c.ring.add(e)
		}
		e.mu.Unlock()
		e.used.Store(int64(monotonic() / time.Second))
		if !loaded && c.hot.Size() > c.limit {
			if idle := c.ring.idlest(); idle != nil {
				c.evict(idle)
			}
		}
		return &Pin{c: c, e: e}
	}
}

// Pin is a hold on a hot grant.
type Pin struct {
	c *Cache
	e *entry
}

// Unpin ends the hold. A grant that has no record, or is over the limit, is forgotten.
func (p *Pin) Unpin() {
	p.e.mu.Lock()
	p.e.pins.Add(-1)
	p.e.mu.Unlock()
	if p.e.snap.Load() == nil || p.c.hot.Size() > p.c.limit {
		p.c.evict(p.e)
	}
}

// Changed returns a channel that is closed on the next news: a newer snapshot, a sign
// of life of the holder, or a new subscription (read again then). Take it before
// looking, or news between the two are lost.
func (p *Pin) Changed() <-chan struct{} {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	return p.e.changed
}

// Confirmed waits until this process is subscribed to the grant's events. What is
// read afterwards misses nothing.
func (p *Pin) Confirmed(ctx context.Context) error {
	_, err := p.c.hub.confirmed(ctx, p.e.channel)
	return err
}

// LeaseHeld is for how long somebody else is known to hold the lease.
func (p *Pin) LeaseHeld() time.Duration {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	return max(0, p.e.leaseFor-monotonic())
}

// SetLeaseHeld notes that somebody holds the lease for d from now, unless extended.
func (p *Pin) SetLeaseHeld(d time.Duration) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.e.leaseFor = monotonic() + d
}

// news wakes everybody who waits. Called with mu held.
func (e *entry) news() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// adopt takes s into memory unless memory is newer, and returns what memory holds
// then. A grant that is not hot is not remembered.
func (c *Cache) adopt(s *Snapshot) *Snapshot {
	e, ok := c.hot.Load(s.Key)
	if !ok {
		return s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.snap.Load()
	if s.supersedes(old) {
		e.snap.Store(s)
		e.news()
		return s
	}
	if s.compare(&old.Record) == 0 && (s.session > old.session || old.incomplete()) {
		// The same state, read again on a newer connection: coherent once more.
		e.snap.Store(s)
		return s
	}
	return old
}

func (c *Cache) evict(e *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pins.Load() > 0 || e.evicted {
		return
	}
	e.evicted = true
	c.hot.Delete(e.key)
	c.hub.remove(e.channel)
	c.ring.remove(e)
}
