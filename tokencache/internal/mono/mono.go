// Package mono is this process's clock, which nobody can set and which does not stand still while the
// machine sleeps.
package mono

import (
	"context"
	"sync/atomic"
	"time"
)

// Go's clock stands still while Linux is suspended: a laptop, a virtual machine that is saved and
// resumed, a hibernated instance. A process would take the time that it slept for time that its tokens
// and claims still have. So the time that the machine was suspended is added, from a clock that runs on
// meanwhile. It is looked at once a second, before each request to Redis, and wherever a deadline is
// looked at that others rely on.

var processStart = time.Now()

// asleep is for how long, in ns, this machine was suspended since the process started, as far as was
// noticed.
var asleep atomic.Int64

// Asleep returns how long this machine was suspended since the process started, as far as was noticed.
func Asleep() time.Duration { return time.Duration(asleep.Load()) }

// Sleepless is a clock that does not stand still; nil where there is none. Tests replace it.
var Sleepless atomic.Pointer[func() time.Duration]

// awakeAt is what Sleepless would have said when the process started.
var awakeAt time.Duration

func init() {
	if bootTime == nil {
		return
	}
	f := bootTime
	Sleepless.Store(&f)
	awakeAt = f() // a little late: nothing counts as sleep that was none
}

// Wake notes whether the machine was suspended. Whatever comes between the two looks at the clocks
// shortens the sleep, never the other way round.
func Wake() {
	f := Sleepless.Load()
	if f == nil {
		return
	}
	slept := (*f)() - awakeAt - time.Since(processStart)
	for old := asleep.Load(); int64(slept) > old; old = asleep.Load() {
		if asleep.CompareAndSwap(old, int64(slept)) {
			return
		}
	}
}

// Time is a reading of this process's clock.
type Time = time.Duration

// Now reads this process's clock.
func Now() Time { return time.Since(processStart) + Asleep() }

func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
