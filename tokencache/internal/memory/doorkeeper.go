package memory

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// doorkeeper remembers roughly which grants were asked for lately, so that a pass over
// many cold ones does not push the hot ones out.
type doorkeeper struct {
	seed maphash.Seed
	last []atomic.Uint64 // hash of the last that knocked here
}

// newDoorkeeper does not look back further than memory reaches: a grant that is asked for again after more
// others than there is room for would be pushed out before the next time, too.
func newDoorkeeper(limit int) doorkeeper {
	return doorkeeper{seed: maphash.MakeSeed(), last: make([]atomic.Uint64, min(max(limit, 64), 4096))}
}

// again reports whether k has knocked before, not long ago, and is a knock.
func (d *doorkeeper) again(k grant.Key) bool {
	place, h := d.place(k)
	return place.Swap(h) == h
}

// lately is again without a knock.
func (d *doorkeeper) lately(k grant.Key) bool {
	place, h := d.place(k)
	return place.Load() == h
}

func (d *doorkeeper) place(k grant.Key) (*atomic.Uint64, uint64) {
	h := maphash.Comparable(d.seed, k)
	return &d.last[h%uint64(len(d.last))], h
}
