package keep

import (
	"sync"

	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Underway are the generations whose refresh token this process has presented, or is about to, and
// whose outcome is not stored: it does not present them again.
type Underway struct {
	mu  sync.Mutex // guards all
	all map[generation]int
}

type generation struct {
	tenant            string
	epoch, generation int64
}

func generationOf(s *engine.Snapshot) generation {
	return generation{s.Tenant, s.Epoch, s.Generation}
}

// Add notes one; done ends it.
func (u *Underway) Add(s *engine.Snapshot) (done func()) {
	g := generationOf(s)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = make(map[generation]int)
	}
	u.all[g]++
	return sync.OnceFunc(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.all[g]--; u.all[g] == 0 {
			delete(u.all, g)
		}
	})
}

// Has reports whether a snapshot's generation is among them.
func (u *Underway) Has(s *engine.Snapshot) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all[generationOf(s)] > 0
}
