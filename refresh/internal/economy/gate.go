package economy

import (
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Applicant is a grant for which an exchange is to be made. Without tenant it is any.
type Applicant struct {
	policy.Applicant

	tenant  string
	profile string           // digest of the profile by which the answer is read
	grant   *engine.Snapshot // nil for none yet
}

// Applicant returns what is known of a grant about its next exchange. Without snapshot it is any grant.
func (c *Circuit) Applicant(tenant string, s *engine.Snapshot) Applicant {
	a := Applicant{tenant: tenant, profile: c.digest, grant: s}
	if s != nil {
		a.Applicant = policy.ApplicantOf(&s.Record)
	}
	return a
}

// gate says what the app's state means for one more exchange, see [policy.Gate].
func gate(c *Circuit, s *engine.AppState, a Applicant) (policy.Passage, time.Duration, *policy.Trouble) {
	app, host := viewOf(c, s, a)
	return policy.Gate(app, host, a.Applicant, rand.Float64())
}

// viewOf is what the app's state says about a grant, and what its host's part does, if there is a doubt about it.
func viewOf(c *Circuit, s *engine.AppState, a Applicant) (app policy.App, host *policy.App) {
	app = partOf(s, a)
	if name := hostFor(c, s, a); name != "" {
		app.Refuses = app.Refuses || s.Refuses(hostWitness(name)) // another host's tenant can tell more
		if h := s.Host(name); h != nil {
			part := partOf(h, a)
			part.Host, app.Refuses = name, app.Refuses || h.Open
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

// hostFor is the host at which an exchange for a grant would be made. It is asked only while there is a doubt about
// any host; empty otherwise, and where nobody knows.
func hostFor(c *Circuit, s *engine.AppState, a Applicant) string {
	if len(s.Hosts) == 0 {
		return ""
	}
	return askHost(c, a)
}

func askHost(c *Circuit, a Applicant) (host string) {
	if c.hosts == nil || a.tenant == "" {
		return ""
	}
	defer func() { _ = recover() }() // a function of the user's: the exchange says that it panics
	g := provider.Grant{App: c.app.Name(), Tenant: a.tenant}
	if a.grant != nil {
		g.Generation, g.Scope, g.Extra = a.grant.Generation, a.grant.Pair.Scope, a.grant.Pair.Extra
	}
	return c.hosts.HostOf(g)
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
