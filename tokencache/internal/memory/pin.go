package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Pin keeps a grant in memory and subscribed until Unpin.
func (m *Memory) Pin(k grant.Key) *Pin {
	for {
		e := m.hot.loadOrAdd(k)
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
			m.hub.Add(e.Channel)
			m.ring.add(e)
		}
		e.mu.Unlock()
		e.used.Store(int64(mono.Now()))
		return &Pin{m: m, e: e}
	}
}

// Remember takes a snapshot that was just read into memory, for the next readers, and
// subscribes to its grant. With memory full, a grant has to be asked for twice.
func (m *Memory) Remember(s *Snapshot) {
	if _, hot := m.hot.load(s.Key); hot || !m.admits(s.Key) {
		return
	}
	pin := m.Pin(s.Key)
	defer pin.Unpin()
	m.Adopt(s)
}

// Pin is a hold on a hot grant.
type Pin struct {
	m *Memory
	e *Entry
}

// Format prints the grant's name, whatever the verb: what is inside changes all the time.
func (p Pin) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "tokencache.Pin(%s)", p.e.Key) }

// Unpin ends the hold. A grant that has no record is forgotten; one that is over the limit
// takes the place of one that is used less. That is not done before, or a caller that asks for
// grants that do not exist would push out those that do.
func (p *Pin) Unpin() {
	p.e.mu.Lock()
	p.e.pins.Add(-1)
	p.e.mu.Unlock()
	idle := p.e
	if p.e.snap.Load() != nil {
		if p.m.hot.size() <= p.m.limit {
			return
		}
		idle = p.m.ring.idlest()
	}
	if idle != nil {
		p.m.Evict(idle)
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

// Confirm waits until this process is subscribed to the grant's events. What is
// read afterwards misses nothing.
func (p *Pin) Confirm(ctx context.Context) error {
	_, err := p.m.hub.Confirm(ctx, p.e.Channel)
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

// LeaseHeld returns for how long somebody else is known to hold the lease.
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
