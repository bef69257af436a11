package refreshtest

import "time"

// Advance moves the server's clock forward by d: access tokens expire, grace
// windows close, idle refresh tokens die. Clients keep their own clocks, and
// latencies run in real time.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew += d
}

// SetLatency changes how long exchanges take before and after their commit,
// from the next one on that reaches the point.
func (s *Server) SetLatency(before, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

// now is the server's clock. Call with mu held.
func (s *Server) now() time.Time { return time.Now().Add(s.skew) }

// pause takes d of real time, less if the server closes: then it is false.
func (s *Server) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.done:
		return false
	}
}
