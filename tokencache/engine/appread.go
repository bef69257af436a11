package engine

import "github.com/tokenlatch/tokenlatch/tokencache/internal/mono"

// Read takes an app's state as its key has it, at Redis' time now: for a reader that has no Cache.
func (s *AppState) Read(fields map[string]string, now int64) {
	s.asOf, s.now, s.at = now, now, mono.Now()
	for name, value := range fields {
		s.set(name, value)
	}
	s.believable()
}
