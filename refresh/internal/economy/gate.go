package economy

import (
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Applicant is a grant for which an exchange is to be made. Without tenant it is any.
type Applicant struct {
	policy.Applicant

	tenant  string
	profile string // digest of the profile by which the answer is read
}

// Applicant returns what a grant's record says about its next exchange. Without record it is any grant.
func (c *Circuit) Applicant(tenant string, r *grant.Record) Applicant {
	a := Applicant{tenant: tenant, profile: c.digest}
	if r != nil {
		a.Applicant = policy.ApplicantOf(r)
	}
	return a
}

// gate says what the app's state means for one more exchange, see [policy.Gate].
func gate(s *engine.AppState, a Applicant) (policy.Passage, time.Duration, *policy.Trouble) {
	p, wait, t := policy.Gate(policy.App{
		Now: s.Now(), Open: s.Open, Error: s.Error, Braking: s.Brake != "", Braked: s.Braked(a.profile), Refuses: s.Refuses(a.tenant),
		Probes: s.Probes, ProbeAt: s.ProbeAt, Probing: s.ProbeBy != "",
		ThrottledUntil: s.ThrottledUntil, MassAt: s.MassAt, MassTryAt: s.MassTryAt,
	}, a.Applicant, rand.Float64())
	return p, wait, t
}

// Stopped says why there is no exchange for a grant now, as far as memory knows; nil if there may be one.
func (c *Circuit) Stopped(a Applicant) *policy.Trouble {
	if s := c.app.KnownApp(); s != nil {
		if g, _, t := gate(s, a); g == policy.PassStopped {
			return t
		}
	}
	return nil
}

// MassDies reports whether deaths are doubted, as far as memory knows.
func (c *Circuit) MassDies() bool {
	s := c.app.KnownApp()
	return s != nil && massDies(s)
}

func massDies(s *engine.AppState) bool { return policy.MassDies(s.MassAt, s.Now()) }

// Shut says why the app's exchanges stand still; nil if they do not, or if one may probe.
func (c *Circuit) Shut(s *engine.AppState) *policy.Trouble {
	if g, _, e := gate(s, c.Applicant("", nil)); g >= policy.PassStandBy {
		return e
	}
	return nil
}

// StandsStill reports whether this process knows that there are no exchanges just now.
func (c *Circuit) StandsStill() bool {
	s := c.app.KnownApp()
	return s != nil && c.Shut(s) != nil
}
