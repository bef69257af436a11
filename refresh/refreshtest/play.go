package refreshtest

import (
	"slices"
	"time"
)

// Advance moves the server's clock forward by d: access tokens expire, grace
// windows close, idle refresh tokens die. Clients keep their own clocks, and
// latencies run in real time.
func (s *Server) Advance(d time.Duration) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.skew += d
}

// SetLatency changes how long exchanges take before and after their commit,
// from the next one on that reaches the point.
func (s *Server) SetLatency(before, after time.Duration) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.faults.before, s.world.faults.after = before, after
}

// Script queues steps. Every exchange takes, on arrival, the first queued step
// that is meant for its tenant.
func (s *Server) Script(steps ...Step) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.faults.add(steps...)
}

// ClearScript forgets all steps that are not taken yet.
func (s *Server) ClearScript() {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.faults.script = nil
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
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	g := &Gate{world: s.world, at: at, tenants: tenants, released: make(chan struct{})}
	s.world.faults.gates = append(s.world.faults.gates, g)
	return g
}

// SetClientSecrets changes the client secrets that are accepted: none, one, or two while an
// app rotates its secret.
func (s *Server) SetClientSecrets(secrets ...string) {
	c := s.world.client
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets = slices.Clone(secrets)
}
