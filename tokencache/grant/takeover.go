package grant

import "time"

// Takeover says when an unresolved claim may be taken over, once the lease is free.
type Takeover time.Duration

const (
	// AfterDeadline: after the claim's hard deadline, and the end of the access token unless an
	// API has refused it.
	AfterDeadline Takeover = 0
	// AtOnce: presenting again does no harm.
	AtOnce Takeover = -1
	// A positive Takeover: at once within so long of the first presentation.
)

// Millis returns it as scripts have it: in ms, or -1 for AtOnce.
func (t Takeover) Millis() int64 {
	if t <= 0 {
		return int64(t)
	}
	return time.Duration(t).Milliseconds()
}
