package refreshtest

import (
	"context"
	"time"
)

// awaitPatience is how long the Await functions that take a TB wait before they
// fail the test.
const awaitPatience = 30 * time.Second

// TB is the part of testing.TB that this package needs. With it programs that
// use the server need not link package testing.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// AwaitExchange waits until the next exchange has arrived and returns it, as it
// was on arrival or later. Every arrival is handed out once, in order, however
// late the call: nothing is missed between starting a client and awaiting it.
// It fails the test after 30 s.
func (s *Server) AwaitExchange(t TB) Presentation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), awaitPatience)
	defer cancel()
	p, err := s.AwaitExchangeContext(ctx)
	if err != nil {
		t.Fatalf("refreshtest: no exchange arrived: %v", err)
	}
	return p
}

// AwaitExchangeContext is AwaitExchange for programs. It returns the cause of
// ctx's end, or ErrClosed.
func (s *Server) AwaitExchangeContext(ctx context.Context) (Presentation, error) {
	var p Presentation
	err := s.await(ctx, func() bool {
		if s.awaited >= len(s.ledger) {
			return false
		}
		p = s.ledger[s.awaited]
		s.awaited++
		return true
	})
	return p, err
}

// AwaitIdle waits until every exchange that has arrived is answered, whether or
// not its client still listens. It fails the test after 30 s.
func (s *Server) AwaitIdle(t TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), awaitPatience)
	defer cancel()
	if err := s.AwaitIdleContext(ctx); err != nil {
		t.Fatalf("refreshtest: exchanges still in flight: %v", err)
	}
}

// AwaitIdleContext is AwaitIdle for programs. It returns the cause of ctx's
// end, or ErrClosed.
func (s *Server) AwaitIdleContext(ctx context.Context) error {
	return s.await(ctx, func() bool { return s.inFlight == 0 })
}

// await waits until ready, which it calls with mu held after every change.
func (s *Server) await(ctx context.Context, ready func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := ready(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.done:
			return ErrClosed
		}
	}
}

// signal wakes everybody in await. Call with mu held.
func (s *Server) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}
