// Package explain says why a grant is as it is, since when, who acts next, and what to do. It is one pure
// function, [Judge], over what Redis holds of the grant: its record, its journal, its lease and the state
// of its app. It needs no keyset and no configuration; what it knows of the provider's profile makes it
// say more.
//
//	e := explain.Judge(explain.Case{App: "zoom", Tenant: "acme", Record: record, Trace: trace, State: state, Now: trace.Now})
//	fmt.Println(e.Code, e.Title)
//
// Everything that explains a grant prints an [Explanation], so that a command, a page and a log say the
// same. Each has a code (TL302), which is never reused; [Page] returns what is to be said about it. No
// explanation holds a token.
package explain

import (
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// Explanation says why a grant is as it is. Its JSON is stable: members may be added, never renamed.
// Times are Redis' clock, in UTC.
type Explanation struct {
	Code  string    `json:"code"`  // "TL302"; see [Page]
	Level string    `json:"level"` // ok, info, warning or error: nothing is served until somebody acts
	Title string    `json:"title"` // one line
	Since time.Time `json:"since,omitzero"`
	// Story is what has happened, in the order of time; what has no time comes last. Each sentence ends with where
	// that is known from.
	Story []Sentence `json:"story"`
	// Who acts next: nobody, tenant, operator, provider or other_program.
	Who string `json:"who"`
	// Do is what to do, the last with a command.
	Do []Action `json:"do"`
	// Unknown is what cannot be known from here.
	Unknown []string `json:"unknown"`
	// ForTenant can be shown to the customer.
	ForTenant string `json:"for_tenant"`
	// RetryAt is when it is tried again by itself; zero where that does not help, or nobody knows.
	RetryAt time.Time `json:"retry_at,omitzero"`
}

// The levels of an [Explanation].
const (
	OK      = "ok"
	Info    = "info"
	Warning = "warning"
	Error   = "error"
)

// Who acts next.
const (
	Nobody       = "nobody"
	Tenant       = "tenant"
	Operator     = "operator"
	Provider     = "provider"
	OtherProgram = "other_program"
)

// Sentence is one thing that has happened.
type Sentence struct {
	At   time.Time `json:"at,omitzero"`
	Text string    `json:"text"`
}

// Action is one thing to do.
type Action struct {
	Text    string `json:"text"`
	Command string `json:"command,omitempty"`
}

// Case is what is known of a grant at one moment. Only App, Tenant and Now must be there; times are
// Redis' clock, unix ms.
type Case struct {
	App, Tenant string
	Record      *grant.Record // nil: Redis has none, or none that can be read
	Damaged     error         // why it cannot be read: a grant.ErrDamaged or grant.ErrNewer
	Trace       journal.Trace // its zero value: neither journal nor lease is known
	Pair        Pair
	State       *State            // nil: not known
	Host        string            // of its token endpoint, where tenants have hosts of their own; "": not known
	Profile     *provider.Profile // nil: not known
	IdleAfter   time.Duration     // without being asked for, a grant is idle; 0 is 25 hours
	Renewing    *int64            // how many processes call Run for the app just now; nil: not known
	Process     Process           // what one worker knows besides
	Now         int64
}

// Pair is what is known of a grant's sealed pair.
type Pair uint8

const (
	PairUnknown Pair = iota // there is no keyset here
	PairOpens               // it opens with the keyset that is here
	PairMissing             // Redis has the record, but not its pair
	PairSealed              // it does not open with the keyset that is here
)

// State is the state of an app, as far as it says something about a grant.
type State = grant.AppTrouble

// Process is what a worker knows that is in no key of Redis.
type Process struct {
	Name    string
	Code    string // of an error that its calls about the grant, or all calls, end with: budget, insecure_url, redis_unfit, …
	Detail  string // its words, without secrets; may be empty
	Doubted int64  // until then the answering server is not believed: it is younger than the grant's data; 0: it is, or nobody knows
}
