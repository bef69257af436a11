package refreshtest

// Stats counts what the server has seen.
type Stats struct {
	Exchanges    int // presentations of a refresh token, and mints, well-formed or not
	Pairs        int // presentations that brought a pair, delivered or not
	Refused      int // requests at the token endpoint that were refused (RFC 6749 §5.2), unscripted
	APICalls     int // requests at the API
	Unauthorized int // those answered 401
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

func (s *Server) countRefused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Refused++
}
