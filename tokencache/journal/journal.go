// Package journal has the lines of a grant's journal: what the scripts that change a grant write down,
// and people on call read. It knows no Redis, and no line holds a token.
package journal

import (
	"strconv"
	"strings"
	"time"
)

// The kinds of entries.
const (
	Connect     = "connect"     // a consent began
	Disconnect  = "disconnect"  // a consent was ended
	Claim       = "claim"       // a process began to present the generation
	Extend      = "extend"      // callers were told that the provider takes its time; the holder still waits
	Commit      = "commit"      // a new pair is stored
	Fail        = "fail"        // an exchange failed; it is tried again
	Refused     = "refused"     // the provider refused once: the token is presented again
	Reauthorize = "reauthorize" // the tenant must consent again
	Revival     = "revival"     // a dead grant was presented again, which failed
	ReauthDue   = "reauth_due"  // the refresh token ends at a fixed date
	Reject      = "reject"      // an API refused the access token
	Suspect     = "suspect"     // an API refuses one access token after the other
	Spare       = "spare"       // a pair was kept as spare
	Restore     = "restore"     // a process gave back what Redis had lost
)

// Why a generation is presented, as a [Claim] says it, and what was strange about a [Commit].
const (
	Due       = "due"            // before its access token ends, or just after
	Idle      = "idle"           // nobody uses it: to keep its refresh token alive
	Asked     = "asked"          // somebody waits for a valid access token
	ByAPI     = "refused"        // an API has refused the access token
	Forced    = "forced"         // Coordinator.Refresh
	Takeover  = "takeover"       // an earlier claim had no outcome
	Revived   = "revival"        // the grant is dead; perhaps that was a mistake
	Narrower  = "narrower"       // the new pair has less of a scope than the one before
	FromSpare = "spare"          // the pair that had been kept aside
	Late      = "late successor" // it came after the grant had been declared dead
)

// Entry is one line. What is not known is empty; lines of earlier versions have no Answer beside a
// [Reauthorize], no Took and no RequestID.
type Entry struct {
	ID         string // of the stream: Redis' time in unix ms, and a count
	At         int64  // Redis' clock, unix ms
	Kind       string
	Generation int64
	Epoch      int64
	By         string        // the process that made the change
	Why        string        // why it was made; of a Reauthorize, the reason
	Answer     string        // class/code/status of what the provider answered
	Took       time.Duration // by the exchange
	RequestID  string        // the provider's, of its answer
	Change     string        // id of the call that made the change
}

// Parse reads an entry as Redis returns it. It never fails: people want to read what is left of a
// damaged line.
func Parse(id string, fields map[string]any) Entry {
	text := func(name string) string { s, _ := fields[name].(string); return s }
	number := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return max(0, n) }
	at, _, _ := strings.Cut(id, "-")
	e := Entry{
		ID: id, At: number(at), Kind: text("kind"), Generation: number(text("gen")), Epoch: number(text("epoch")),
		By: text("by"), Why: text("why"), Answer: text("answer"), RequestID: text("req"), Change: text("id"),
		Took: time.Duration(min(number(text("ms")), longest)) * time.Millisecond,
	}
	if e.Answer == "" && strings.Count(e.Why, "/") == 2 { // as it was written before there was an Answer
		e.Answer, e.Why = e.Why, ""
	}
	return e
}

// longest is more than an exchange takes, in ms.
const longest = 1 << 40

// Note is what a process knows of a change that it is about to make, for the journal. The zero value
// says nothing.
type Note struct {
	Why       string
	Took      time.Duration
	RequestID string
}

// Millis returns how the scripts write down how long an exchange took.
func (n Note) Millis() string {
	if n.Took <= 0 {
		return ""
	}
	return strconv.FormatInt(max(1, n.Took.Milliseconds()), 10)
}

// Trace is a grant's journal, and who holds its lease, at one moment.
type Trace struct {
	Entries []Entry       // oldest first
	Lease   string        // the lease's value, which begins with its holder's name; "" if it is free
	Left    time.Duration // until the lease ends, unless it is extended
	Now     int64         // Redis' clock, unix ms
}

// Holder is the name of the process that holds the lease; "" for nobody.
func (t Trace) Holder() string {
	if i := strings.LastIndexByte(t.Lease, '/'); i > 0 {
		return t.Lease[:i]
	}
	return t.Lease
}
