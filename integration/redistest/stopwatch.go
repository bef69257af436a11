package redistest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Stopwatch measures how long something takes, and how slow the machine is meanwhile: a bound that holds on an idle
// machine grows by as much as others have kept this process from its turn.
type Stopwatch struct {
	began time.Time
	late  atomic.Int64 // by how much short sleeps were too long
	stop  func()
}

const nap = 5 * time.Millisecond

// StartStopwatch starts one, which goes on until it is asked for the first time, or the test ends.
func StartStopwatch(t testing.TB) *Stopwatch {
	s := &Stopwatch{began: time.Now()}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			began := time.Now()
			select {
			case <-stop:
				return
			case <-time.After(nap):
				s.late.Add(int64(time.Since(began) - nap))
			}
		}
	}()
	s.stop = sync.OnceFunc(func() { close(stop); <-stopped })
	t.Cleanup(s.stop)
	return s
}

// Late stops it, and returns for how long others have kept this process from its turn, in all.
func (s *Stopwatch) Late() time.Duration {
	s.stop()
	return time.Duration(s.late.Load())
}

// Over stops it, and returns how long it has taken, and whether that is more than the limit, by the pace of this machine.
func (s *Stopwatch) Over(limit time.Duration) (took time.Duration, over bool) {
	late, took := s.Late(), time.Since(s.began)
	if late >= took {
		return took, false
	}
	return took, float64(took) > float64(limit)*float64(took)/float64(took-late)
}
