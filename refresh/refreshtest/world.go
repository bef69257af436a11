package refreshtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrClosed is what an Await returns when the server was closed meanwhile.
var ErrClosed = errors.New("refreshtest: server closed")

// world is what the endpoints of a server share.
type world struct {
	cfg    Config
	client *client
	done   chan struct{} // closed when Close begins

	mu     sync.Mutex    // guards what follows; the commit of an exchange is one critical section
	skew   time.Duration // what Advance has added to the clock
	issuer issuer
	book   book
	faults faults
}

func newWorld(cfg Config) *world {
	return &world{
		cfg:    cfg,
		client: &client{cfg: cfg, secrets: []string{cfg.ClientSecret}},
		done:   make(chan struct{}),
		issuer: newIssuer(cfg),
		book:   book{changed: make(chan struct{})},
		faults: faults{before: cfg.LatencyBefore, after: cfg.LatencyAfter},
	}
}

// now is the server's clock. Call with mu held.
func (w *world) now() time.Time { return time.Now().Add(w.skew) }

// pause takes d of real time, less if the server closes: then it is false.
func (w *world) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.done:
		return false
	}
}

// await waits until ready, which it calls with mu held after every change.
func (w *world) await(ctx context.Context, ready func() bool) error {
	for {
		w.mu.Lock()
		ok, changed := ready(), w.book.changed
		w.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.done:
			return ErrClosed
		}
	}
}

// reach takes exchange n through the latency and the gate of a point. It is
// false if the server closed meanwhile.
func (w *world) reach(at Point, n int) bool {
	w.mu.Lock()
	latency := w.faults.latency(at)
	w.mu.Unlock()
	if !w.pause(latency) {
		return false
	}
	w.mu.Lock()
	gate := w.faults.takeGate(at, w.book.ledger[n-1].Tenant, n)
	if gate != nil {
		w.book.signal()
	}
	w.mu.Unlock()
	if gate == nil {
		return true
	}
	select {
	case <-gate.released:
		return true
	case <-w.done:
		return false
	}
}

// presentations returns a copy of the ledger as it is now.
func (w *world) presentations() Ledger {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.book.ledger)
}
