package inbox

import (
	"context"
	"sync"
)

// errands are what is done beside what a caller asked for. Other than those of a [sync.WaitGroup], they may begin
// while somebody waits.
type errands struct {
	mu   sync.Mutex // guards what follows
	n    int
	none chan struct{} // closed once there is none; nil while nobody waits
}

// Go runs an errand.
func (e *errands) Go(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
	go func() {
		defer e.done()
		f()
	}()
}

func (e *errands) done() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n--; e.n == 0 && e.none != nil {
		close(e.none)
		e.none = nil
	}
}

// Wait waits until there is none, or ctx ends.
func (e *errands) Wait(ctx context.Context) error {
	select {
	case <-e.idle():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *errands) idle() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.none == nil {
		e.none = make(chan struct{})
	}
	none := e.none
	if e.n == 0 {
		close(none)
		e.none = nil
	}
	return none
}
