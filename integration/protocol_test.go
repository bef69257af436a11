package integration

import (
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// setup is the first line a worker reads.
type setup struct {
	Name, Redis, Prefix              string
	TokenURL, ClientID, ClientSecret string
	AuthStyle                        int
	Profile                          provider.Profile
	Keyset                           string // of the seal; empty: plaintext
	Lease, Exchange, Claim, Patience time.Duration
	Quiet                            bool // no log: the parent would have to read it

	Sentinel string            // host:port; Redis is not looked at then
	Replicas int               // that must acknowledge a claim
	Routes   map[string]string // address of a server → of the proxy before it
}

// order is every further line.
type order struct {
	ID      int
	Op      string // see worker.obey
	Tenant  string
	Callers int
	Ref     int    // cancel: the order whose callers hang up
	Point   string // arm
	URL     string // call
	Token   string // reject: the access token that was refused
	Epoch   int64  // knows
	Channel string // listen, signal
	Size    int    // signal: bytes of the message

	Generation int64 // warm, knows

	Pair     *oauth2.Token // connect, import
	Patience time.Duration // of the callers; 0 is hung
	Tidy     bool          // close: and no goroutine may be left
}

// The points at which a holder can be caught.
const (
	afterLease  = "lease"  // it has the lease
	afterClaim  = "claim"  // its claim stands in Redis; nothing is sent
	afterSend   = "send"   // the provider has the request (a gate of the server)
	afterAnswer = "answer" // it has the new pair; nobody else has
	afterCommit = "commit" // the new pair stands in Redis
)

// answer is what a worker writes: about an order, or, with At, that it has reached the
// armed point and stands there.
type answer struct {
	ID     int    `json:",omitempty"`
	At     string `json:",omitempty"`
	Failed string `json:",omitempty"` // the order could not be carried out
	Report report
}

// report is what became of an order's callers.
type report struct {
	Tokens   map[string]int `json:",omitempty"` // fingerprint of the access token → callers
	Errors   map[string]int `json:",omitempty"` // kind/code → callers
	Texts    []string       `json:",omitempty"` // distinct error texts
	RetryMin time.Duration  // least and most RetryAfter among the errors
	RetryMax time.Duration
	Took     []time.Duration `json:",omitempty"` // of each caller, from call to result
	Last     time.Time       // when the last of them had it

	Commands map[string]int       `json:",omitempty"` // counts: what this process asked of Redis
	Trips    int                  `json:",omitempty"` // counts: in so many round trips
	Looks    map[string]int       `json:",omitempty"` // counts: what it asked besides, as it does at rest
	Sent     map[string]time.Time `json:",omitempty"` // counts: point → when the command that led there was sent
}

func (r report) served() int { return sum(r.Tokens) }

func sum(m map[string]int) int {
	n := 0
	for _, v := range m {
		n += v
	}
	return n
}
