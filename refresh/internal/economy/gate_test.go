package economy

import (
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// The tenant whose pair is lost has nothing left to lose, and another profile may read the answers.
func TestTheBrakeLetsOnlyTheTenantItHitAndAnotherProfileGoOn(t *testing.T) {
	braked := &engine.AppState{AppTrouble: grant.AppTrouble{Open: true, Brake: "0123abcd", Refused: grant.Fingerprint("hit")[:8]}}
	for want, who := range map[policy.Passage][]Applicant{
		policy.PassFree:    {{tenant: "hit", profile: "0123abcd"}, {tenant: "other", profile: "4567abcd"}},
		policy.PassStopped: {{tenant: "other", profile: "0123abcd"}, {profile: "0123abcd"}},
	} {
		for _, a := range who {
			if got, _, e := gate(&Circuit{}, braked, a); got != want || (e == nil) != (want == policy.PassFree) {
				t.Errorf("%+v: %d (%v), want %d", a, got, e, want)
			}
		}
	}
}
