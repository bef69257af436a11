// Package renew renews the grants of an app that are due although nobody asks for them: it takes them from the
// due sets, in which processes share them, and does for each what the policy plans.
package renew

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Config of a Run.
type Config struct {
	Flights    *flight.Flights
	ReportApp  func(*engine.AppState) // is called with the app's state at each pass
	ReportLast func(*engine.Snapshot) // is called for a grant whose last change may not have been told
}

// maxRenewals is how many grants one process looks at or renews at once.
const maxRenewals = 32

// Run is one run of the renewals of an app in a process.
type Run struct {
	Config

	reviving atomic.Int64 // dead grants that are being tried

	room chan struct{} // holds one for each grant that is being looked at
	work sync.WaitGroup

	sooner chan struct{} // has room for one: something is due sooner than the last look said
	mended chan struct{} // has room for one: a due set was lost; see mend

	ahead    time.Duration // so long before they are due grants are renewed; see lookAhead
	reckoned time.Time
	rests    [engine.DueShards]time.Time // until then a shard that failed is not asked
	trouble  lasting
	left     leftAlone

	unrenewed unrenewed

	repaired time.Time // by this process; for the goroutine of repairs
}

// New returns a Run that has not begun.
func New(cfg Config) *Run {
	return &Run{Config: cfg, room: make(chan struct{}, maxRenewals), sooner: make(chan struct{}, 1), mended: make(chan struct{}, 1)}
}

func (r *Run) rules() policy.Rules {
	rules := r.Flights.Rules
	rules.Ahead = r.ahead
	return rules
}

func (r *Run) lookSooner() { poke(r.sooner) }

// poke puts something into a channel that has room for one.
func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
