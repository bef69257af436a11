package grant

import (
	"time"
)

// Outcome says how a change of a grant ended.
type Outcome string

// The outcomes of Claim, Commit, Fail and Reject.
const (
	OutcomeOK      Outcome = "ok"
	OutcomeMoved   Outcome = "moved"   // another epoch or generation is stored: adopt it
	OutcomeDead    Outcome = "dead"    // the grant is not active
	OutcomeWait    Outcome = "wait"    // retry_at, or with Reject reject_at, is still ahead
	OutcomeClaimed Outcome = "claimed" // another claim is unresolved
	OutcomeNone    Outcome = "none"    // Redis had lost the record; it was restored if memory had it
	// OutcomeReplaced: another server answers than the one that the grant was judged on: see MayHaveLost.
	OutcomeReplaced Outcome = "replaced"
)

// Verdict says what a failed exchange did to the grant.
type Verdict string

const (
	// VerdictClear: the refresh token was not consumed; the claim is resolved.
	VerdictClear Verdict = "clear"
	// VerdictWithdraw: nothing was presented under the claim, which is resolved. The provider has not
	// failed.
	VerdictWithdraw Verdict = "withdraw"
	// VerdictKeep: nobody knows; the claim stays unresolved.
	VerdictKeep Verdict = "keep"
	// VerdictDead: verified; the tenant must consent again. Of a grant that is dead already it counts a
	// revival, as any other verdict does.
	VerdictDead Verdict = "dead"
	// VerdictAgain: refused, and to be presented once more under the same claim, which stands for Retry
	// from now.
	VerdictAgain Verdict = "again"
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

// Refusals says what it may cost that APIs refuse access tokens.
type Refusals struct {
	// Waits are how long after the first, second, … exchange in a row that was forced so the next must
	// wait. The last holds for all that follow.
	Waits []time.Duration
	// Forget: a row ends when so long has passed after the last wait without a refusal.
	Forget time.Duration
	// Fresh: a token that is older forces an exchange at once, and makes the row no longer.
	Fresh time.Duration
	// Early: such a token has died early if more than so many percent of its life were left.
	Early int
	// Foreign is at how many generations in a row, whose tokens died early, another program is
	// taken to use the grant too.
	Foreign int
	// LeastLife: a token that dies younger tells nothing of how long they live. 0: none does.
	LeastLife time.Duration
	// SameAge is by how many percent the ages may differ at which so many generations in a row as Foreign
	// says have died, for it to be the lifetime that is wrong; LifeShare how many percent of that age are
	// taken for the life of those that follow.
	SameAge, LifeShare int
}

// WarnAgain: a pair that puts the end of its refresh token off by more than that makes an earlier
// warning of that end void.
const WarnAgain = 24 * time.Hour
