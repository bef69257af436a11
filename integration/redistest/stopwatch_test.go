package redistest

import (
	"testing"
	"time"
)

func TestABoundGrowsByWhatTheMachineIsSlow(t *testing.T) {
	for name, c := range map[string]struct {
		late time.Duration
		over bool
	}{
		"idle":                {0, true},
		"a little busy":       {time.Second, true},
		"half of it is late":  {5 * time.Second, false},
		"stopped all the way": {10 * time.Second, false},
	} {
		s := &Stopwatch{began: time.Now().Add(-10 * time.Second), stop: func() {}}
		s.late.Store(int64(c.late))
		if took, over := s.Over(7 * time.Second); over != c.over || took < 10*time.Second {
			t.Errorf("%s: %v, over the bound: %t", name, took, over)
		}
	}
}

func TestAStopwatchSeesThatTheMachineIsSlow(t *testing.T) {
	s := StartStopwatch(t)
	await(t, "a nap that was too long", func() bool { return s.late.Load() > 0 })
}
