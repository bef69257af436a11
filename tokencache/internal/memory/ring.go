package memory

import (
	"math"
	"sync"
)

// ring is all hot grants, in no order, with a hand that goes round: it finds one that has
// not been used for long without a lock that readers would share.
type ring struct {
	mu      sync.Mutex
	entries []*Entry
	hand    int
}

func (r *ring) add(e *Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.slot = len(r.entries)
	r.entries = append(r.entries, e)
}

func (r *ring) remove(e *Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.entries) - 1
	r.entries[e.slot] = r.entries[last]
	r.entries[e.slot].slot = e.slot
	r.entries[last] = nil
	r.entries = r.entries[:last]
}

// sample is how many entries an eviction looks at.
const sample = 32

// idlest returns the entry that was used the longest ago of the next few, as Redis
// does it: near enough to LRU. Nil for none that is not pinned.
func (r *ring) idlest() *Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found *Entry
	oldest := int64(math.MaxInt64)
	for range min(sample, len(r.entries)) {
		r.hand = (r.hand + 1) % len(r.entries)
		e := r.entries[r.hand]
		if used := max(e.used.Load(), e.asked.Load()); used < oldest && e.pins.Load() == 0 {
			found, oldest = e, used
		}
	}
	return found
}
