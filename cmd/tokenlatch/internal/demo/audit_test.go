package demo

import (
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// at is a moment of a story that begins somewhere.
func at(seconds float64) time.Time {
	return time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

func rotated(n int, token, agent string, arrived, answered float64) refreshtest.Presentation {
	p := refreshtest.Presentation{
		N: n, Tenant: "acme", Consent: 1, Generation: 1, Fingerprint: token, UserAgent: agent,
		Outcome: refreshtest.Rotated, Arrived: at(arrived), Decided: at(arrived + 0.1),
	}
	if answered > 0 {
		p.Answered = at(answered)
	}
	return p
}

// again is the presentation of a spent token.
func again(n int, token, agent string, arrived float64) refreshtest.Presentation {
	p := rotated(n, token, agent, arrived, arrived+0.2)
	p.Outcome, p.SpentAt = refreshtest.FamilyRevoked, at(0.1)
	return p
}

func TestAuditExcusesOneAttemptPerKilledHolderAndNothingElse(t *testing.T) {
	killed := []*kill{{agent: "victim", tenant: "acme", at: at(0.15)}}
	later := []*kill{{agent: "victim", tenant: "acme", at: at(2)}}
	acme := []loss{{"acme", 1}}
	gone := rotated(1, "a", "victim", 0, 0)
	slow := rotated(1, "a", "slow", 0, 2.2)
	impatient := rotated(1, "a", "impatient", 0, 0.2)
	impatient.Gone = true
	for name, tc := range map[string]struct {
		ledger  refreshtest.Ledger
		kills   []*kill
		losses  []loss
		profile provider.Profile
		want    findings
	}{
		"one exchange": {ledger: refreshtest.Ledger{rotated(1, "a", "w", 0, 0.2)}},
		"a herd that does not ask": {
			ledger: refreshtest.Ledger{rotated(1, "a", "w", 0, 0.2), again(2, "a", "v", 0.05)},
			losses: acme, want: findings{repeats: 1, lost: 1},
		},
		"a herd where that is permitted": {
			ledger:  refreshtest.Ledger{rotated(1, "a", "w", 0, 0.2), again(2, "a", "v", 0.05)},
			profile: provider.Profile{Replay: provider.ReplayHarmless},
		},
		"killed after the commit, one attempt after the deadline": {
			ledger: refreshtest.Ledger{gone, again(2, "a", "heir", 2.6)}, kills: killed,
			losses: acme, want: findings{recoveries: 1, lostResponse: 1},
		},
		"a second attempt": {
			ledger: refreshtest.Ledger{gone, again(2, "a", "heir", 2.6), again(3, "a", "other", 2.7)}, kills: killed,
			losses: acme, want: findings{recoveries: 1, repeats: 1, lostResponse: 1},
		},
		"an attempt before the deadline": {
			ledger: refreshtest.Ledger{gone, again(2, "a", "heir", 0.9)}, kills: killed,
			losses: acme, want: findings{repeats: 1, lostResponse: 1},
		},
		"killed long after its exchange": {
			ledger: refreshtest.Ledger{rotated(1, "a", "victim", 0, 0.2), again(2, "a", "heir", 2.6)}, kills: later,
			losses: acme, want: findings{repeats: 1, lost: 1},
		},
		"killed before another exchange": {
			ledger: refreshtest.Ledger{rotated(1, "a", "survivor", 0, 0.2), again(2, "a", "heir", 2.6)}, kills: killed,
			losses: acme, want: findings{repeats: 1, lost: 1},
		},
		"the exchange's timeout passed": {
			ledger: refreshtest.Ledger{slow, again(2, "a", "heir", 2.6)},
			losses: acme, want: findings{recoveries: 1, lostResponse: 1, timedOut: 1},
		},
		"a holder that hung up early": {
			ledger: refreshtest.Ledger{impatient, again(2, "a", "heir", 2.6)},
			losses: acme, want: findings{repeats: 1, lost: 1},
		},
		"another consent of the tenant": {
			ledger: refreshtest.Ledger{gone}, kills: killed,
			losses: []loss{{"acme", 2}}, want: findings{lost: 1},
		},
	} {
		tc.want.exchanges, tc.want.expiries = len(tc.ledger), 1
		if got := audit(tc.ledger, tc.profile, tc.kills, tc.losses); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}
