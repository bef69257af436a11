package refreshtest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Gate stops one exchange at one point until it is released.
type Gate struct {
	server   *Server
	at       Point
	tenants  []string
	released chan struct{}
	once     sync.Once
	caught   int // the ledger's number of the exchange; 0: none yet. Guarded by server.mu
}

// Hold sets up a gate for the next exchange that reaches the point, of the
// tenants named or, if none is, of any. One gate stops one exchange; later ones
// pass, or are stopped by gates of their own.
//
//	gate := server.Hold(refreshtest.AfterCommit)
//	// … start a client …
//	gate.Await(t) // the old token is spent, the client does not know the new one
//	gate.Release()
func (s *Server) Hold(at Point, tenants ...string) *Gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &Gate{server: s, at: at, tenants: tenants, released: make(chan struct{})}
	s.gates = append(s.gates, g)
	return g
}

// Await waits until the gate has stopped an exchange and returns it. It fails
// the test after 30 s.
func (g *Gate) Await(t TB) Presentation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), awaitPatience)
	defer cancel()
	p, err := g.AwaitContext(ctx)
	if err != nil {
		t.Fatalf("refreshtest: no exchange reached the gate: %v", err)
	}
	return p
}

// AwaitContext is Await for programs. It returns the cause of ctx's end, or
// ErrClosed.
func (g *Gate) AwaitContext(ctx context.Context) (Presentation, error) {
	var p Presentation
	err := g.server.await(ctx, func() bool {
		if g.caught == 0 {
			return false
		}
		p = g.server.ledger[g.caught-1]
		return true
	})
	return p, err
}

// Release lets the exchange go on. A gate released early stops nothing. It may
// be called more than once.
func (g *Gate) Release() {
	g.once.Do(func() { close(g.released) })
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	g.server.gates = slices.DeleteFunc(g.server.gates, func(other *Gate) bool { return other == g })
}

// Format keeps every verb from printing the server, and with it its tokens.
func (g *Gate) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "refreshtest.Gate") }

// reach takes exchange n through the latency and the gate of a point. It is
// false if the server closed meanwhile.
func (s *Server) reach(at Point, n int) bool {
	s.mu.Lock()
	latency := s.before
	if at == AfterCommit {
		latency = s.after
	}
	s.mu.Unlock()
	if !s.pause(latency) {
		return false
	}
	gate := s.takeGate(at, n)
	if gate == nil {
		return true
	}
	select {
	case <-gate.released:
		return true
	case <-s.done:
		return false
	}
}

// takeGate returns the gate that stops exchange n at the point, or nil.
func (s *Server) takeGate(at Point, n int) *Gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	tenant := s.ledger[n-1].Tenant
	for i, g := range s.gates {
		if g.at == at && (len(g.tenants) == 0 || slices.Contains(g.tenants, tenant)) {
			s.gates = slices.Delete(s.gates, i, i+1)
			g.caught = n
			s.signal()
			return g
		}
	}
	return nil
}
