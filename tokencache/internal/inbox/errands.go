package inbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// errands are what is done beside what a caller asked for. Other than those of a [sync.WaitGroup], they may begin
// while somebody waits.
type errands struct {
	mu   sync.Mutex     // guards what follows
	what map[string]int // how often each is under way
	none chan struct{}  // closed once there is none; nil while nobody waits
}

// Go runs an errand. An operator reads what it is.
func (e *errands) Go(what string, f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.what == nil {
		e.what = map[string]int{}
	}
	e.what[what]++
	go func() {
		defer e.done(what)
		f()
	}()
}

func (e *errands) done(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.what[what]--; e.what[what] == 0 {
		delete(e.what, what)
	}
	if len(e.what) == 0 && e.none != nil {
		close(e.none)
		e.none = nil
	}
}

// Wait waits until there is none, or ctx ends. The error names those that are left.
func (e *errands) Wait(ctx context.Context) error {
	select {
	case <-e.idle():
		return nil
	case <-ctx.Done():
		return e.left(context.Cause(ctx))
	}
}

// left is an error that names everything that is under way; nil for nothing.
func (e *errands) left(cause error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.what) == 0 {
		return nil
	}
	return fmt.Errorf("still under way, let the process live: %s: %w", strings.Join(slices.Sorted(maps.Keys(e.what)), "; "), cause)
}

func (e *errands) idle() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.none == nil {
		e.none = make(chan struct{})
	}
	none := e.none
	if len(e.what) == 0 {
		close(none)
		e.none = nil
	}
	return none
}
