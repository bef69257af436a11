package policy

import (
	"math"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Position orders the pairs of a grant.
type Position struct{ Epoch, Generation int64 }

// PositionOf returns the position of a record's pair.
func PositionOf(r *grant.Record) Position { return Position{r.Epoch, r.Generation} }

// Before reports whether r's pair comes after p.
func (p Position) Before(r *grant.Record) bool {
	return p.Epoch < r.Epoch || p.Epoch == r.Epoch && p.Generation < r.Generation
}

// Want says what ends a flight: a valid pair, newer than After. The zero value wants any valid pair.
type Want struct {
	After   Position
	Early   bool // a valid pair does not do if it is due: this is a renewal
	Refused bool // an API refused the pair at After
	Revival bool // the grant is dead: present its refresh token again if it is time
}

// View is a grant at one moment. Its record's Claim.Until is the hard deadline by this process's clock.
type View struct {
	grant.Record
	Now          int64 // Redis' clock
	Valid, Fresh bool
	Broken       error         // the sealed pair does not open
	Opens        int64         // from when an unresolved claim may be taken over
	Behind       int64         // ms by which the pair is older than Now says
	LeaseHeld    time.Duration // another process is known to have the lease for so long
}

// until returns how long it is from now to a time of Redis' clock; negative once that has passed.
func (v *View) until(t int64) time.Duration { return millis(t - v.Now) }

// waits reports whether nobody presents this generation yet, see [grant.Record.WaitsUntil].
func (v *View) waits() bool { return v.WaitsUntil(v.Now) != 0 }

// claimed reports whether a claim is unresolved that may not be taken over yet.
func (v *View) claimed() bool { return v.Claim.Unresolved() && v.Opens > v.Now }

// unreported reports whether the access token is valid as far as the record knows.
func (v *View) unreported() bool { return v.Valid && !v.Refused() }

// revivable reports whether it is time to present the refresh token of a dead grant again.
func (v *View) revivable() bool {
	return v.State == grant.Reauthorize && v.RetryAt != 0 && !v.waits()
}

// millis is so many ms; a very long time where no duration can hold them.
func millis(n int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond) / 2
	return time.Duration(min(max(n, -most), most)) * time.Millisecond
}
