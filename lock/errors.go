package lock

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrHeld answers errors.Is for a *HeldError: another process has the lease.
	ErrHeld = errors.New("lock: held elsewhere")
	// ErrLost is the cause with which Lease.Context ends when the lease could not
	// be extended in time, and the answer of Release when it had ended.
	ErrLost = errors.New("lock: lease lost")
)

// HeldError says who has the lease and for how long at most, unless extended.
type HeldError struct {
	Key string
	By  string        // the holder's Config.Name
	For time.Duration // until it runs out; 0 when it ran out while we looked
}

// Error names the holder, and how long its lease lives.
func (e *HeldError) Error() string {
	return fmt.Sprintf("lock: %s is held by %q for another %s", e.Key, e.By, e.For.Round(time.Millisecond))
}

// Is reports true for ErrHeld.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }
