package grant

import (
	"time"
)

// Outcome says how a change of a grant ended.
type Outcome string

// The outcomes of Claim, Commit, Fail and Reject.
const (
	OK      Outcome = "ok"
	Moved   Outcome = "moved"   // another epoch or generation is stored: adopt it
	Dead    Outcome = "dead"    // the grant is not active
	Wait    Outcome = "wait"    // retry_at, or with Reject reject_at, is still ahead
	Claimed Outcome = "claimed" // another claim is unresolved
	Gone    Outcome = "none"    // Redis had lost the record; it was restored if memory had it
	// Replaced: another server answers than the one that the grant was judged on: see Doubtful.
	Replaced Outcome = "replaced"
)

// Verdict says what a failed exchange did to the grant.
type Verdict string

const (
	// Unspent: the refresh token was not consumed; the claim is resolved.
	Unspent Verdict = "clear"
	// Withdrawn: nothing was presented under the claim, which is resolved. The provider has not
	// failed.
	Withdrawn Verdict = "withdraw"
	// MaybeSpent: nobody knows; the claim stays unresolved.
	MaybeSpent Verdict = "keep"
	// Refused: verified; the tenant must consent again. Of a grant that is dead already it counts a
	// revival, as any other verdict does.
	Refused Verdict = "dead"
	// Again: refused, and to be presented once more under the same claim, which stands for Retry
	// from now.
	Again Verdict = "again"
)

// Failure is what Fail stores.
type Failure struct {
	ID       string
	Verdict  Verdict
	Error    string        // class/code/status
	Reason   string        // why the tenant must reauthorize, or why the grant is suspect
	Retry    time.Duration // until the next try; with Refused until the first revival, 0 for none
	Deadline bool          // with MaybeSpent: no next try before the claim's hard deadline
	Unknown  bool          // no rule knows the answer: how long that goes on is counted
	// Over is by how much that comes sooner, since the exchange has ended: no pair is on its way.
	Over time.Duration
}
