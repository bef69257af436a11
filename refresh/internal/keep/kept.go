package keep

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// kept is what exists here alone.
type kept struct {
	mu   sync.Mutex // guards what follows
	what map[string]*keptOne
	none chan struct{} // closed when there is nothing; nil while nobody asks
}

type keptOne struct {
	n   int
	err error // of the last attempt
}

func (k *kept) add(what string) (end func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.what == nil {
		k.what = make(map[string]*keptOne)
	}
	if k.what[what] == nil {
		k.what[what] = &keptOne{}
	}
	k.what[what].n++
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.what[what].n--; k.what[what].n == 0 {
			delete(k.what, what)
		}
		if len(k.what) == 0 && k.none != nil {
			close(k.none)
			k.none = nil
		}
	}
}

func (k *kept) noteFailure(what string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.what[what].err = err
}

// empty is closed once there is nothing.
func (k *kept) empty() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.what) == 0 {
		now := make(chan struct{})
		close(now)
		return now
	}
	if k.none == nil {
		k.none = make(chan struct{})
	}
	return k.none
}

// count returns how many things there are that Redis has refused at least once.
func (k *kept) count() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, one := range k.what {
		if one.err != nil {
			n++
		}
	}
	return n
}

// left is an error that names everything that there is; nil for nothing.
func (k *kept) left() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	var causes []error
	for what, one := range k.what {
		all = append(all, what)
		causes = append(causes, one.err)
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return fmt.Errorf("refresh: close: Redis has not taken what only this process has; it is tried on while the process lives: %s: %w", strings.Join(all, "; "), errors.Join(causes...))
}
