// Package observe is the seam for metrics and traces: what an Observer is told, and by whom. Package refresh has
// its types under the same names, for those who write one.
package observe

import (
	"context"
	"time"
)

// Observer is told what happens in one process, for metrics and traces. Packages refresh/metrics and refresh/otel
// have one each, [Observers] joins several.
//
// Its methods are called by many goroutines at once, some of which hold up callers or the subscriber connection: they
// must return at once, and must not panic. What they are told holds no token and no client secret. Embed
// [Unobserved]: methods may be added.
type Observer interface {
	// Exchange is called when an exchange begins. The request to the provider gets the values of the ctx that it
	// returns, but not its end; ended is called once. Its ctx is that of the caller who made the exchange
	// necessary, if somebody waits for it, else an empty one. Both results are required.
	Exchange(ctx context.Context, x Exchange) (_ context.Context, ended func(ExchangeEnd))
	// Waited is called when a caller has waited for a refresh: ctx is the caller's, and may have ended.
	Waited(ctx context.Context, w Wait)
	// Counted is called when something has happened that is worth no more than a count.
	Counted(app string, what Count, label string)
	// Redis is called when Redis has answered an operation, or has not: op is one of a fixed set.
	Redis(op string, took time.Duration)
	// Pushed is called when another process's change has arrived, so long after Redis made it, as far as this
	// process knows Redis' clock.
	Pushed(delay time.Duration)
	// Watch is called when a coordinator begins to work: read may be called at any time, by any goroutine, until
	// ended is called, and tells what need not be told each time. Several coordinators may have one Observer.
	Watch(read func() Reading) (ended func())
}

// Exchange is one exchange that begins.
type Exchange struct {
	App, Tenant string
	// Generation of the pair whose refresh token is presented; 0 for a first mint.
	Generation int64
	// Why it is made: due, idle, asked, refused, forced or mint.
	Why string
	// Takeover says that the generation was claimed before, by another process or this one, and what came of that is
	// not known.
	Takeover bool
	// SecondOpinion says that the refresh token was refused a moment ago, and is presented once more before that
	// is believed.
	SecondOpinion bool
	Start         time.Time
}

// ExchangeEnd is how an exchange ended.
type ExchangeEnd struct {
	Outcome Outcome
	// Code is the provider's error code or our own reason, as [Code] has it; empty for none.
	Code string
	// Status is the HTTP status of the provider's answer if it was an error; 0 where there was none.
	Status int
	// Took is how long the provider took.
	Took time.Duration
	// RequestID is the provider's, if it sends one.
	RequestID string
	// CommitID names the change that stored the pair, in all processes; empty for none.
	CommitID string
}

// Outcome is what came of an exchange. There are no others.
type Outcome string

// The outcomes of an exchange.
const (
	Refreshed   Outcome = "refreshed"   // a new pair is stored
	Kept        Outcome = "kept"        // a new access token is stored; the answer brought no new refresh token
	Adopted     Outcome = "adopted"     // the grant had moved on: somebody else's result counts
	Reauthorize Outcome = "reauthorize" // the provider refuses the refresh token
	Throttled   Outcome = "throttled"   // the provider wants fewer requests
	AppRefused  Outcome = "app_refused" // the provider refuses the client
	Unsent      Outcome = "unsent"      // the request provably never left
	Ambiguous   Outcome = "ambiguous"   // no usable answer: the refresh token may have been spent
	Busy        Outcome = "busy"        // another exchange of the same grant is under way, says the provider
	Refused     Outcome = "refused"     // an answer of 4xx that no rule knows
)

// Failed reports whether the exchange brought nothing that counts.
func (o Outcome) Failed() bool { return o != Refreshed && o != Kept && o != Adopted }

// Outcomes are all of them.
func Outcomes() []Outcome {
	return []Outcome{Refreshed, Kept, Adopted, Reauthorize, Throttled, AppRefused, Unsent, Ambiguous, Busy, Refused}
}

// Wait is one caller's wait for a refresh.
type Wait struct {
	App, Tenant string
	How         How
	Start       time.Time
	Took        time.Duration
	// Code is that of the error with which it ended, as [Code] has it; empty for none.
	Code string
	// Failed says that it ended with an error, or that the caller left.
	Failed bool
	// Exchange is the ctx that Observer.Exchange returned for the exchange that was waited for, if this process
	// made it; else nil.
	Exchange context.Context
	// CommitID names the change that ended the wait, in all processes; empty for none.
	CommitID string
}

// How says what ended a wait.
type How string

// The ways in which a wait ends.
const (
	Led      How = "led"      // this process made the exchange
	Pushed   How = "pushed"   // another process's result was pushed
	Backstop How = "backstop" // Redis was asked: the push was missed, or nothing was to be heard
	Left     How = "left"     // the caller left by its ctx
)

// Count is what Observer.Counted counts.
type Count string

// What is counted, and the labels that each may have.
const (
	// Served counts tokens handed out: from redis, refresh, or from memory although that was not coherent. What
	// coherent memory serves is in [Reading.FromMemory].
	Served Count = "served"
	// Takeovers counts claims without outcome that were taken over: recovered, adopted (somebody else's pair counts),
	// lost (the provider had spent the token: the tenant must consent again), failed.
	Takeovers Count = "takeovers"
	// Saves counts grants that would be lost without the rule of that name: late_commit, spare, restore, takeover,
	// second_opinion.
	Saves Count = "saves"
	// Rejects counts access tokens that an API refused: forced (an exchange follows), newer (there is a newer token
	// already), suspect (refreshing has not helped), external (and another program seems to refresh the grant).
	Rejects Count = "rejects"
)

// Labels are the labels that a count may have, so that metrics are there from the beginning.
func (c Count) Labels() []string {
	switch c {
	case Served:
		return []string{FromMemory, FromRedis, FromRefresh}
	case Takeovers:
		return []string{Recovered, ByOthers, Lost, Failed}
	case Saves:
		return []string{LateCommit, Spare, Restore, Takeover, SecondOpinion}
	case Rejects:
		return []string{Forced, Newer, Suspect, External}
	}
	return nil
}

// Reading is what one coordinator's counters and gauges say now.
type Reading struct {
	App string
	// FromMemory counts the tokens that coherent memory has served; it never falls.
	FromMemory uint64
	// Waiters are callers who wait for a refresh now.
	Waiters int
	// PendingCommits are pairs that this process alone has, since Redis does not take them.
	PendingCommits int
	// Cache is what is true of the cache as a whole. Coordinators that share one say the same: ID tells.
	Cache CacheReading
}

// CacheReading is what one cache's counters and gauges say now.
type CacheReading struct {
	ID        any    // the cache's, comparable
	HotGrants int    // grants in memory
	Sessions  uint64 // subscriber connections that were believed; it never falls
	Unproven  uint64 // messages whose sender has not proven that it may read the grants; it never falls
}
