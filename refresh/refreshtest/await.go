package refreshtest

import (
	"context"
)

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
	err := s.world.await(ctx, func() bool {
		if s.world.book.awaited >= len(s.world.book.ledger) {
			return false
		}
		p = s.world.book.ledger[s.world.book.awaited]
		s.world.book.awaited++
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
	return s.world.await(ctx, func() bool { return s.world.book.inFlight == 0 })
}

// Ledger returns a copy of the ledger as it is now. An exchange is in it from
// its arrival, and its outcome before its client can know it.
func (s *Server) Ledger() Ledger { return s.world.presentations() }

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	return s.world.book.stats
}
