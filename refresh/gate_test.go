package refresh

import (
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// The tenant whose pair is lost has nothing left to lose, and another profile may read the answers.
func TestTheBrakeLetsOnlyTheTenantItHitAndAnotherProfileGoOn(t *testing.T) {
	braked := &engine.AppState{Open: true, Brake: "0123abcd", Refused: grant.Fingerprint("hit")[:8]}
	for want, who := range map[policy.Passage][]applicant{
		policy.PassFree:    {{tenant: "hit", profile: "0123abcd"}, {tenant: "other", profile: "4567abcd"}},
		policy.PassStopped: {{tenant: "other", profile: "0123abcd"}, {profile: "0123abcd"}},
	} {
		for _, a := range who {
			if got, _, e := gate(braked, a); got != want || (e == nil) != (want == policy.PassFree) {
				t.Errorf("%+v: %d (%v), want %d", a, got, e, want)
			}
		}
	}
}

// What replicas have acknowledged is not guessed at: Redis is not asked how old it is.
func TestWithReplicasNoServerIsDoubted(t *testing.T) {
	f := &flight{c: &Coordinator{cfg: Config{Replicas: 1}}}
	if judged, left, doubtful, err := f.mayHaveLost(nil); judged != nil || left != 0 || doubtful || err != nil {
		t.Errorf("%v %v %v", left, doubtful, err)
	}
}
