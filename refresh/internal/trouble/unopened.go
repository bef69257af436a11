package trouble

import (
	"sync"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// unopened are the keys that sealed pairs which this process could not open: it has another keyset
// than the process that stored them, and is not ready. What it cannot open it leaves to the others.
type unopened struct {
	mu   sync.Mutex // guards keys
	keys map[string]struct{}
}

// note notes the key by which a pair is sealed. It reports whether err is about such a pair, and whether
// the key is new.
func (u *unopened) note(err error) (by string, is, isNew bool) {
	if by, is = grant.SealedBy(err); !is {
		return "", false, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.keys[by]; known {
		return by, true, false
	}
	if u.keys == nil {
		u.keys = make(map[string]struct{})
	}
	u.keys[by] = struct{}{}
	return by, true, true
}
