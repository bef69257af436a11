package economy

import (
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// gate says what the app's state means for one more exchange, see [policy.Gate].
func gate(c *Circuit, s *engine.AppState, a Applicant) (policy.Passage, time.Duration, *policy.Trouble) {
	app, host := viewOf(c, s, a)
	return policy.Gate(app, host, a.Applicant, rand.Float64())
}

// viewOf is what the app's state says about a grant, and what its host's part does, if there is a doubt about it.
func viewOf(c *Circuit, s *engine.AppState, a Applicant) (app policy.App, host *policy.App) {
	app = partOf(s, a)
	if name := hostFor(c, s, a); name != "" {
		app.Late = s.Refuses(hostWitness(name))
		if h := s.Host(name); h != nil {
			part := partOf(h, a)
			part.Host, app.Late = name, app.Late || h.Open
			host = &part
		}
	}
	return app, host
}

func partOf(s *engine.AppState, a Applicant) policy.App {
	return policy.App{
		Now: s.Now(), Open: s.Open, Error: s.Error, Braking: s.Brake != "", Braked: s.Braked(a.profile), Refuses: s.Refuses(a.tenant),
		Probes: s.Probes, ProbeAt: s.ProbeAt, Probing: s.ProbeBy != "",
		ThrottledUntil: s.ThrottledUntil, MassAt: s.MassAt, MassTryAt: s.MassTryAt,
	}
}

// Stopped says why there is no exchange for a grant now, as far as memory knows; nil if there may be one.
func (c *Circuit) Stopped(a Applicant) *policy.Trouble {
	if s := c.app.KnownApp(); s != nil {
		if g, _, t := gate(c, s, a); g == policy.PassStopped {
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
	if g, _, e := gate(c, s, c.Applicant("", nil)); g >= policy.PassStandBy {
		return e
	}
	return nil
}

// StandsStill reports whether this process knows that there are no exchanges for a grant just now.
func (c *Circuit) StandsStill(a Applicant) bool {
	s := c.app.KnownApp()
	if s == nil {
		return false
	}
	g, _, _ := gate(c, s, a)
	return g >= policy.PassStandBy
}
