package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// entry is a hot grant: its newest snapshot in this process, and who waits for a
// newer one.
type entry struct {
	snap  atomic.Pointer[Snapshot] // first: with asked all that a reader touches
	asked atomic.Int64             // tick at which a caller last had the token

	used    atomic.Int64 // tick of the last look at it otherwise; both for eviction
	touched atomic.Int64 // when Redis was last told that it is asked for
	key     grant.Key
	channel string
	pins    atomic.Int32 // changed under mu only
	slot    int          // in the ring, guarded by its lock

	mu         sync.Mutex // guards what follows, and the order in which snap advances
	listed     bool       // in hub and ring
	absent     uint64     // session in which Redis was found to have no such grant; 0 none
	absentAt   mono.Time
	evicted    bool
	changed    chan struct{} // closed on every news
	leaseFor   mono.Time     // somebody holds the lease until then, as far as was heard
	leaseNews  uint64        // how often holders have told how long
	leaseSaid  int64         // Redis' clock when the last of them did
	answering  bool          // what is remembered is being given back to Redis
	answeredAt mono.Time     // when it was last
	atIt       *func()       // says that this process's exchange is still under way; nil for none

	contradicted    mono.Time // since when Redis knows nothing of the state of that revision, which was heard of
	contradictedRev int64
}

// Peek returns what memory holds of a grant if that is coherent: read or pushed while
// subscribed to the grant's events on a connection that is alive. Else nil. It takes
// no lock and does not allocate.
func (g Grant) Peek() *Snapshot {
	e, ok := g.c.hot.load(g.key)
	if !ok {
		return nil
	}
	s, tick := e.coherent(g.c.hub)
	if s != nil {
		mark(&e.used, tick)
	}
	return s
}

// mark notes a tick, once: readers on many cores must not fight for the line.
func mark(last *atomic.Int64, tick mono.Time) {
	if last.Load() != int64(tick) {
		last.Store(int64(tick))
	}
}

// coherent is the entry's snapshot if it is coherent, and the hub's latest tick.
func (e *entry) coherent(h *hub.Hub) (*Snapshot, mono.Time) {
	s := e.snap.Load()
	if s == nil || s.session != h.Session() { // never equal for session 0, or while there is no connection
		return nil, 0
	}
	return s, h.Tick()
}

// fresh is the token of a coherent snapshot that is neither due nor expired. Reading the
// clock would cost more than all the rest.
func (e *entry) fresh(h *hub.Hub) *oauth2.Token {
	s, tick := e.coherent(h)
	if s == nil || tick >= s.calm && !s.Fresh() {
		return nil
	}
	mark(&e.asked, tick)
	return *s.token
}

// Recall returns what memory holds, coherent or not; nil for nothing.
func (g Grant) Recall() *Snapshot {
	if e, ok := g.c.hot.load(g.key); ok {
		return e.snap.Load()
	}
	return nil
}

// Pin keeps a grant in memory and subscribed until Unpin.
func (g Grant) Pin() *Pin {
	for {
		e := g.c.hot.loadOrAdd(g.c, g.key)
		e.mu.Lock()
		if e.evicted { // between the look-up and here
			e.mu.Unlock()
			continue
		}
		e.pins.Add(1)
		if !e.listed {
			// Under e.mu, so that an eviction cannot overtake it; by the caller that comes first,
			// since others see the entry before its maker has the lock.
			e.listed = true
			g.c.hub.Add(e.channel)
			g.c.ring.add(e)
		}
		e.mu.Unlock()
		e.used.Store(int64(mono.Now()))
		return &Pin{c: g.c, e: e}
	}
}

// Remember takes a snapshot that was just read into memory, for the next readers, and
// subscribes to its grant. With memory full, a grant has to be asked for twice.
func (g Grant) Remember(s *Snapshot) {
	if _, hot := g.c.hot.load(g.key); hot || !g.admits() {
		return
	}
	pin := g.Pin()
	defer pin.Unpin()
	g.c.adopt(s)
}

// HasRoom reports whether memory has a place for one more grant, or has this one.
func (g Grant) HasRoom() bool {
	_, hot := g.c.hot.load(g.key)
	return hot || g.c.hot.size() < g.c.limit
}

// admits says whether a grant that was asked for may take a place in memory.
func (g Grant) admits() bool { return g.c.hot.size() < g.c.limit || g.c.hot.seen.again(g.key) }

// Pin is a hold on a hot grant.
type Pin struct {
	c *Cache
	e *entry
}

// Format prints the grant's name, whatever the verb: what is inside changes all the time.
func (p Pin) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "tokencache.Pin(%s)", p.e.key) }

// Unpin ends the hold. A grant that has no record is forgotten; one that is over the limit
// takes the place of one that is used less. That is not done before, or a caller that asks for
// grants that do not exist would push out those that do.
func (p *Pin) Unpin() {
	p.e.mu.Lock()
	p.e.pins.Add(-1)
	p.e.mu.Unlock()
	idle := p.e
	if p.e.snap.Load() != nil {
		if p.c.hot.size() <= p.c.limit {
			return
		}
		idle = p.c.ring.idlest()
	}
	if idle != nil {
		p.c.evict(idle)
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
	_, err := p.c.hub.Confirmed(ctx, p.e.channel)
	return err
}

// AtIt has say called when another process is about to take over this process's exchange of the
// grant, and asks, until done. It must not block.
func (p *Pin) AtIt(say func()) (done func()) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.e.atIt = &say
	return func() {
		p.e.mu.Lock()
		defer p.e.mu.Unlock()
		if p.e.atIt == &say {
			p.e.atIt = nil
		}
	}
}

// LeaseHeld is for how long somebody else is known to hold the lease.
func (p *Pin) LeaseHeld() time.Duration {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	return max(0, p.e.leaseFor-mono.Now())
}

// LeaseNews counts what holders have told of the lease. Take it before trying the lease.
func (p *Pin) LeaseNews() uint64 {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	return p.e.leaseNews
}

// SetLeaseHeld notes that somebody was found to hold the lease for d from now, unless
// extended. What a holder has told since the count was taken is newer:
//
//  1. The lease is tried, and is held; PTTL says for how long.
//  2. The holder releases it, and says so.
//  3. That arrives first. Who noted the PTTL now would wait for a lease that is free.
func (p *Pin) SetLeaseHeld(d time.Duration, told uint64) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	if p.e.leaseNews == told {
		p.e.leaseFor = mono.Now() + d
	}
}

// news wakes everybody who waits. Called with mu held.
func (e *entry) news() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// invalidate makes memory incoherent until it is read again.
func (e *entry) invalidate() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doubt()
	e.news()
}

// doubt makes memory incoherent. Called with mu held.
func (e *entry) doubt() {
	if old := e.snap.Load(); old != nil {
		s := *old
		s.session = 0
		e.snap.Store(&s)
	}
}

// adopt takes s into memory unless memory is newer, and returns what memory holds
// then. A grant that is not hot is not remembered.
func (c *Cache) adopt(s *Snapshot) *Snapshot {
	e, ok := c.hot.load(s.Key)
	if !ok {
		return s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted { // since the look-up: a Handle may still look at it
		return s
	}
	if s.home != e { // dropped and hot again since: news may have been missed in between
		own := *s // which others may be reading
		own.session, own.home = 0, e
		s = &own
	}
	old := e.snap.Load()
	if old != nil {
		own := *s // which others may be reading
		own.dated(old)
		s = &own
	}
	if old != nil && s.heard && !old.heard && s.Compare(&old.Record) == 0 {
		s.heard, s.solid = false, nil // the push of what was read or made before it came
	}
	if s.supersedes(old) {
		if !s.Claim.Unresolved() {
			e.leaseFor = 0 // the holder is done
		}
		e.snap.Store(s)
		e.news()
		return s
	}
	if s.Compare(&old.Record) == 0 && s.better(old) {
		if s.RefreshFP == old.RefreshFP {
			s.knownAt = old.knownAt // it was known before: the push of one's own change comes late
		}
		e.snap.Store(s)
		return s
	}
	if s.Compare(&old.Record) == 0 && s.UsedAt > old.UsedAt { // no state change, hence never pushed
		used := *old
		used.UsedAt = s.UsedAt
		e.snap.Store(&used)
		return &used
	}
	return old
}

// better says which of two snapshots of one state to keep: one that was read on a newer
// connection is coherent once more, one with the pair is whole, and one with a smaller
// clock offset knows better what time it is in Redis.
func (s *Snapshot) better(old *Snapshot) bool {
	switch {
	case s.incomplete() || s.session < old.session:
		return false
	case old.heard && !s.heard:
		return true
	case s.RefreshFP != old.RefreshFP:
		// Two pairs share a state after lost writes: Redis' is the one. What is known of its time may be
		// ahead by a round trip.
		return s.now >= old.now-20
	case s.session > old.session || old.incomplete():
		return true
	default:
		return s.ahead() < old.ahead()
	}
}

func (c *Cache) evict(e *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pins.Load() > 0 || e.evicted {
		return
	}
	e.evicted = true
	e.doubt() // a Handle may still look at it
	if e.listed {
		c.hub.Remove(e.channel) // before somebody else can add it again
		c.ring.remove(e)
	}
	c.hot.delete(e.key)
}
