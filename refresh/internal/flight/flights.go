// Package flight makes one effort about a grant for all callers of a process: it looks, decides, does one
// thing, and looks again, until they have a token, or an error that says who acts.
package flight

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/tokenlatch/tokenlatch/refresh/internal/economy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/holder"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Config of Flights.
type Config struct {
	*holder.Tools
	Cache    *tokencache.Cache
	App      engine.App // signed with the process's name
	Grants   *engine.Grants
	Replicas int    // that acknowledge changes
	Begun    func() // is called when a flight begins
}

// Flights are the flights of one app in one process.
type Flights struct {
	Config
	// Served is closed when this process has served a token that needed no refresh.
	Served chan struct{}
	served sync.Once

	all *xsync.Map[string, *flight] // by tenant
}

// New returns Flights, of which none has begun.
func New(cfg Config) *Flights {
	return &Flights{Config: cfg, Served: make(chan struct{}), all: xsync.NewMap[string, *flight]()}
}

// Want says what ends a flight.
type Want struct {
	policy.Want

	Background *economy.Ticket // nobody has asked for it; the right to try for a place among the exchanges in flight
}

// NewerThan wants a pair after the one that s has.
func NewerThan(s *engine.Snapshot) policy.Want {
	return policy.Want{After: policy.PositionOf(&s.Record)}
}

// flight is this process's one effort about a grant, for all its callers. It runs on
// its own: callers come and go.
type flight struct {
	*Flights
	key     tokencache.Key
	grant   engine.Grant
	want    Want
	callers holder.Callers
	holder  *holder.Holder // nil until it has wanted the lease
	pin     *engine.Pin    // nil until the flight needs to hear of changes
	hasRead bool           // it has had the short look, see readFresh
	brief   bool           // snap is no more than a fresh token
	busy    bool           // it has wanted the lease, or waited
	heard   bool           // what it saw last was in coherent memory
	asked   time.Time      // the other processes, whether they know better than Redis; zero for never
	claim   standing       // the claim about which they were last asked
	stalled string         // id of the claim whose holder was said to be silent

	waitsFor atomic.Pointer[engine.Snapshot] // the grant when the flight last began to wait

	looked   chan struct{} // closed when what follows is set
	lookedAt time.Time
	first    *engine.Snapshot
	firstErr error

	done    chan struct{} // closed when what follows is set, after looked
	snap    *engine.Snapshot
	trouble *policy.Trouble
	end     end
}

// end is what a flight's callers may tell an observer of it.
type end struct {
	busy, heard bool
	exchange    context.Context // nil if this process made none
}

// standing is a claim as it stood until its hard deadline.
type standing struct {
	id    string
	until int64
}
