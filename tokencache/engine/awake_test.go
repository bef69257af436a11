package engine

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// suspend lets the machine sleep, as far as this process can tell. It sleeps for all that run in it: such
// tests run alone.
func suspend(t *testing.T) (sleep func(time.Duration)) {
	t.Helper()
	real := mono.Sleepless.Load()
	if real == nil {
		t.Skip("there is no clock here that runs on while the machine is suspended")
	}
	var slept atomic.Int64
	slept.Store(int64(mono.Asleep())) // by tests before
	f := func() time.Duration { return (*real)() + time.Duration(slept.Load()) }
	mono.Sleepless.Store(&f)
	t.Cleanup(func() { mono.Sleepless.Store(real) })
	return func(d time.Duration) { slept.Add(int64(d)) }
}

func TestASuspendedMachineServesNoTokenThatHasEnded(t *testing.T) {
	sleep := suspend(t)
	c := freshCache(t)
	connect(t, c, acme, 1) // for an hour
	hot(t, c, acme)
	session := c.hub.Session()
	s, g := c.Grant(acme).Peek(), c.App("zoom").Grants()
	if s == nil || !s.Fresh() || g.Fresh("acme") == nil {
		t.Fatal("it is not served")
	}
	deadline := s.Now() + time.Minute.Milliseconds()
	sleep(2 * time.Hour)
	if left := s.Until(deadline); left != 0 {
		t.Errorf("a deadline that has passed meanwhile is %s ahead", left)
	}
	eventually(t, "the end of what is in memory", 3*hub.TickEvery, func() bool { return g.Fresh("acme") == nil })
	if s.Valid() {
		t.Error("it is valid")
	}
	eventually(t, "a new subscription", patience, func() bool { now := c.hub.Session(); return now != session && now%2 == 0 })
}

// A nap is no reason to forget, and wears off no deadline.
func TestAMachineThatIsAwakeLosesNoTime(t *testing.T) {
	before := mono.Now()
	for range 1000 {
		mono.Wake()
		if now := mono.Now(); now < before || now-before > patience {
			t.Fatalf("%s after %s", now, before)
		}
	}
}
