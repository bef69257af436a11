package economy

import (
	"strconv"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
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

// The pair of a tenant whose host refuses the client is not lost, and would be by one more success that
// nobody can read.
func TestTheBrakeHoldsTheTenantsOfAHostWhoseCircuitIsOpen(t *testing.T) {
	s, now := &engine.AppState{}, time.Now().UnixMilli()
	s.Read(map[string]string{
		"circuit": "open", "brake": "0123abcd", "refused": "00000000", "circuit@a": "open", "refused@a": "11111111", "probes@a": "1", "changed_at@a": strconv.FormatInt(now, 10),
	}, now)
	if got, _, _ := gate(&Circuit{hosts: oneHost{}}, s, Applicant{tenant: "healthy", profile: "0123abcd"}); got != policy.PassStopped {
		t.Errorf("it may pass: %d", got)
	}
}

// oneHost has all tenants at host a.
type oneHost struct{}

func (oneHost) HostOf(provider.Grant) string { return "a" }
func (oneHost) SeveralHosts() bool           { panic("a function of the user's") }

func TestAHostFunctionThatPanicsTakesNothingAlong(t *testing.T) {
	if several(&Circuit{hosts: oneHost{}}) {
		t.Error("it has told of several")
	}
}
