package demo

import (
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// kill is one SIGKILL of a process that was in the middle of a tenant's exchange.
type kill struct {
	agent             string // the process, by its User-Agent in the ledger
	pid               int
	tenant            string
	at                time.Time
	epoch, generation int64 // of the grant then
	settled           bool  // it is known what became of the grant
	recovered         bool  // alive, with a new pair
}

// loss is a grant that only a new consent brings back.
type loss struct {
	tenant  string
	consent int // which of the tenant's consents, as the ledger counts them
}

// findings is what the ledger says about one run.
type findings struct {
	exchanges    int // presentations
	expiries     int // distinct refresh tokens that were presented: as many access tokens had to be replaced
	repeats      int // presentations against the profile's rules
	recoveries   int // last attempts after a holder's hard deadline, which found the token spent
	lost         int // grants lost, without the following
	lostResponse int // grants lost because a kill fell between the provider's commit and ours
	timedOut     int // of these, without a kill: the machine was too slow for the exchange's timeout
}

// answeredBefore is how long an answer may lie in a process before Redis has its pair.
// A kill that comes later has not lost it.
const answeredBefore = time.Second

// audit judges a run by the server's ledger alone, not by what anybody says of himself.
func audit(l refreshtest.Ledger, p provider.Profile, kills []*kill, losses []loss) findings {
	died := map[string]time.Time{}
	for _, k := range kills {
		died[k.agent] = k.at
	}
	f := findings{exchanges: len(l), expiries: len(l.PerToken())}
	excused := orphans(l, died)
	for _, v := range l.Violations(p) {
		if orphan, ok := excused[v.Fingerprint]; ok && recovery(v, orphan, died) {
			delete(excused, v.Fingerprint) // one attempt
			f.recoveries++
			continue
		}
		f.repeats++
	}
	newest := newestPairs(l)
	for _, lost := range losses {
		switch last, ok := newest[lost]; {
		case ok && diedWith(last, died):
			f.lostResponse++
		case ok && timedOut(last):
			f.lostResponse++
			f.timedOut++
		default:
			f.lost++
		}
	}
	return f
}

// orphans are the presentations that brought a pair which its process could not store,
// by refresh token.
func orphans(l refreshtest.Ledger, died map[string]time.Time) map[string]refreshtest.Presentation {
	found := map[string]refreshtest.Presentation{}
	for _, p := range l {
		if p.Outcome.Committed() && (diedWith(p, died) || timedOut(p)) {
			found[p.Fingerprint] = p
		}
	}
	return found
}

// diedWith reports whether p's process was killed while p was under way, or its answer
// had only just come.
func diedWith(p refreshtest.Presentation, died map[string]time.Time) bool {
	at, dead := died[p.UserAgent]
	return dead && p.Arrived.Before(at) && (p.Answered.IsZero() || p.Answered.After(at.Add(-answeredBefore)))
}

// timedOut reports whether p's process had given up before the answer came, as it must
// at the exchange's timeout. That counts from before p arrived: half of it leaves room.
func timedOut(p refreshtest.Presentation) bool {
	took := p.Answered.Sub(p.Arrived)
	return took >= exchangeTimeout || p.Gone && took >= exchangeTimeout/2
}

// recovery reports whether v is the one attempt that is due after the orphan's hard
// deadline. The deadline counts from shortly before the orphan arrived; half of it
// leaves room for a slow machine.
func recovery(v, orphan refreshtest.Presentation, died map[string]time.Time) bool {
	return v.N > orphan.N && v.Arrived.After(died[orphan.UserAgent]) &&
		v.Arrived.Sub(orphan.Arrived) >= claimTimeout/2
}

// newestPairs are the presentations that brought every grant's newest pair.
func newestPairs(l refreshtest.Ledger) map[loss]refreshtest.Presentation {
	newest := map[loss]refreshtest.Presentation{}
	for _, p := range l {
		grant := loss{p.Tenant, p.Consent}
		if p.Outcome.Committed() && p.Generation >= newest[grant].Generation {
			newest[grant] = p
		}
	}
	return newest
}

// storedAfter is how long a process surely needs to store a pair, unless the machine is
// overloaded.
const storedAfter = 150 * time.Millisecond

// inHand are the tenants of whom the process has an exchange under way, or an answer that
// it may not have stored yet.
func inHand(l refreshtest.Ledger, agent string, now time.Time) []string {
	var tenants []string
	for _, p := range l {
		if p.UserAgent == agent && (p.Answered.IsZero() || now.Sub(p.Answered) < storedAfter) {
			tenants = append(tenants, p.Tenant)
		}
	}
	return tenants
}
