package refresh

import (
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// want says what ends a flight.
type want struct {
	policy.Want

	background *ticket // nobody has asked for it; the right to try for a place among the exchanges in flight
}

// newerThan wants a pair after the one that s has.
func newerThan(s *engine.Snapshot) policy.Want {
	return policy.Want{After: policy.PositionOf(&s.Record)}
}

// view is what the policy sees of a grant now.
func (c *Coordinator) view(s *engine.Snapshot, leaseHeld time.Duration) policy.View {
	v := policy.View{
		Record: s.Record, Now: s.Now(), Valid: s.Valid(), Fresh: s.Fresh(), Broken: s.Err,
		Opens: s.OpensAt(c.takeover), LeaseHeld: leaseHeld, Behind: s.Behind().Milliseconds(),
	}
	v.Claim.Until = s.ClaimUntil()
	return v
}

// applicant is a grant for which an exchange is to be made. Without tenant it is any.
type applicant struct {
	policy.Applicant

	tenant  string
	profile string // digest of the profile by which the answer is read
}

func (c *Coordinator) applicant(tenant string, r *grant.Record) applicant {
	a := applicant{tenant: tenant, profile: c.digest}
	if r != nil {
		a.Applicant = policy.ApplicantOf(r)
	}
	return a
}

// gate says what the app's state means for one more exchange, see [policy.Gate].
func gate(s *engine.AppState, a applicant) (policy.Passage, time.Duration, *Error) {
	p, wait, t := policy.Gate(policy.App{
		Now: s.Now(), Open: s.Open, Error: s.Error, Braking: s.Brake != "", Braked: s.Braked(a.profile), Refuses: s.Refuses(a.tenant),
		Probes: s.Probes, ProbeAt: s.ProbeAt, Probing: s.ProbeBy != "",
		ThrottledUntil: s.ThrottledUntil, MassAt: s.MassAt, MassTryAt: s.MassTryAt,
	}, a.Applicant, random())
	return p, wait, dress(t)
}

// massDies reports whether deaths are doubted.
func massDies(s *engine.AppState) bool { return policy.MassDies(s.MassAt, s.Now()) }

func random() float64 { return rand.Float64() }
