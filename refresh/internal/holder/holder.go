// Package holder does what the process that has a grant's lease does: it claims the generation, redeems the
// refresh token, and commits the pair that brings, or publishes why there is none. It also mints the first
// pair of a grant that needs no consent.
package holder

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/internal/economy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/exchange"
	"github.com/tokenlatch/tokenlatch/refresh/internal/keep"
	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/pair"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/trouble"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Tools are what the holders of one coordinator work with.
type Tools struct {
	Locker          *lock.Locker
	Rules           policy.Rules
	Takeover        grant.Takeover      // as the rules have it
	Acked           engine.ChangeOption // Config.Replicas have acknowledged the change
	ExchangeTimeout time.Duration
	ClaimTimeout    time.Duration
	Exchanges       *exchange.Maker
	Pairs           *pair.Maker
	Keeper          *keep.Keeper
	Underway        *keep.Underway
	Economy         *economy.Economy
	Judge           *trouble.Judge
	Observe         *observe.App
	Work            *work.Group
	Revoke          func(provider.Grant) // at the provider: a pair that came after its grant was ended so
	Log             zerolog.Logger
}

// View returns what the policy sees of a grant now.
func (t *Tools) View(s *engine.Snapshot, leaseHeld time.Duration) policy.View {
	v := policy.View{
		Record: s.Record, Now: s.Now(), Valid: s.Valid(), Fresh: s.Fresh(), Broken: s.Err,
		Opens: s.OpensAt(t.Takeover), LeaseHeld: leaseHeld, Behind: s.Behind().Milliseconds(),
	}
	v.Claim.Until = s.ClaimUntil()
	return v
}

// Callers are those for whom a pair is made.
type Callers struct {
	Used   atomic.Bool  // somebody has asked for the token
	Urgent atomic.Bool  // and waits for it
	Waited atomic.Int64 // how many have waited
	Want   policy.Want  // what the first of them wanted
	// Background is set if nobody had asked when the work began: the right to try for a place among the
	// exchanges in flight.
	Background *economy.Ticket
	// SendAway gives them an error although the work goes on; nil for not at all.
	SendAway func(*policy.Trouble)

	Ctx      context.Context // of the first of them, for the observer; nil for nobody's
	Exchange context.Context // what the observer has made of it for the last exchange
}

// Absent reports whether nobody waits.
func (c *Callers) Absent() bool { return c.Background != nil && !c.Urgent.Load() }

// ticket is nil if somebody waits.
func (c *Callers) ticket() *economy.Ticket {
	if !c.Absent() {
		return nil
	}
	return c.Background
}

// Holder is the work of one flight about its grant.
type Holder struct {
	*Tools
	grant   engine.Grant
	key     tokencache.Key
	callers *Callers

	Pin    *engine.Pin   // set before Lead
	probed func()        // lets another flight of this process probe the app's circuit
	spent  *lock.Lease   // has done its work
	took   time.Duration // by the last exchange
	due    int64         // Redis time at which the pair that was committed must be looked at
	seen   seen          // of the exchange under way
}

// New returns the holder of a grant, for a flight.
func (t *Tools) New(k tokencache.Key, g engine.Grant, callers *Callers) *Holder {
	return &Holder{Tools: t, grant: g, key: k, callers: callers}
}
