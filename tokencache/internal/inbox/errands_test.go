package inbox

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// A WaitGroup panics if work begins just as the last of it ends and somebody waits.
func TestErrandsMayBeginWhileSomebodyWaits(t *testing.T) {
	var all errands
	var under atomic.Int64
	var actors sync.WaitGroup
	for range 4 {
		actors.Go(func() {
			for range 1000 {
				under.Add(1)
				all.Go("a", func() { under.Add(-1) })
			}
		})
		actors.Go(func() {
			for range 1000 {
				if err := all.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	actors.Wait()
	if err := all.Wait(t.Context()); err != nil || under.Load() != 0 {
		t.Errorf("%d are under way, %v", under.Load(), err)
	}
}

func TestAnErrandThatIsNotWaitedForIsNamed(t *testing.T) {
	var all errands
	ended := make(chan struct{})
	all.Go("b", func() { <-ended })
	all.Go("b", func() {})
	all.Go("a", func() { <-ended })
	gone, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := all.Wait(gone); !errors.Is(err, why) || err.Error() != "still under way, let the process live: a; b: enough" {
		t.Errorf("waited to the end of ctx: %v", err)
	}
	close(ended)
	if err := all.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := all.Wait(gone); err != nil {
		t.Errorf("none is left: %v", err)
	}
}
