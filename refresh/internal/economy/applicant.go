package economy

import (
	"strings"

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

// hostFor is the host at which an exchange for a grant would be made. It is asked only while there is a doubt about
// any host; empty otherwise, and where nobody knows.
func hostFor(c *Circuit, s *engine.AppState, a Applicant) string {
	if len(s.Hosts) == 0 {
		return ""
	}
	return askHost(c, s, a)
}

// askHost asks it in any case.
func askHost(c *Circuit, s *engine.AppState, a Applicant) (host string) {
	if c.hosts == nil || a.tenant == "" {
		return ""
	}
	defer func() { _ = recover() }() // a function of the user's: the exchange says that it panics
	g := provider.Grant{App: s.App, Tenant: a.tenant}
	if a.grant != nil {
		g.Generation, g.Scope, g.Extra = a.grant.Generation, a.grant.Pair.Scope, a.grant.Pair.Extra
	}
	return plainHost(c.hosts.HostOf(g))
}

// plainHost is a host in the one way in which it is compared: an Exchanger of the user's may spell it
// differently in its errors, with capitals, the port of HTTPS, or the root's dot.
func plainHost(host string) string {
	host = strings.ReplaceAll(strings.ToLower(host), ".:", ":")
	return strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ".")
}

// several reports whether this process has met more than one host.
func several(c *Circuit) (many bool) {
	defer func() { _ = recover() }() // as in askHost
	return c.hosts != nil && c.hosts.SeveralHosts()
}

func hostWitness(host string) string { return "host " + host } // a tenant of that name is no witness beside it
