package economy

import (
	"cmp"
	"context"
	"math/rand/v2"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// noteFailure tells the fleet what a failed exchange says about the app. That is done before
// the grant's failure is published: its waiters must find the circuit open.
func (c *Circuit) noteFailure(a admission, e *provider.Error) {
	switch {
	case policy.AcceptsClient(e):
		c.noteAcceptance(a.Applicant, plainHost(e.Host), engine.Acceptance{})
		return
	case e.Class == provider.AppRefused && !e.NotAsked():
		host := hostOf(c, a, e)
		if !a.Refused || a.probe != "" {
			c.notify(func(ctx context.Context) error { return c.noteRefusal(ctx, a, host, e) })
		}
		if a.host == "" || a.host == host {
			return
		}
	case e.Throttles():
		host := hostOf(c, a, e)
		c.notify(func(ctx context.Context) error { return c.notePause(ctx, a, host, e) })
	case policy.Unreadable(e):
		c.brake(a, e)
	case policy.Fails(e) && !c.knownToFail(a.tenant):
		c.notify(func(ctx context.Context) error { return c.noteDown(ctx, a.tenant, e) })
	}
	c.unprobe(a, policy.ProbeAgain(a.probes)) // it says nothing about the client
}

// hostOf is the host of a failed exchange's token endpoint, where tenants have hosts of their own; else empty. A
// process that has seen but one host knows from the fleet that there are several.
func hostOf(c *Circuit, a admission, e *provider.Error) string {
	if s := c.app.KnownApp(); e.Host == "" && s != nil && (s.Several || len(s.Hosts) > 0) {
		return askHost(c, s, a.Applicant)
	}
	return plainHost(e.Host)
}

// witness returns who tells something about the app: the tenant, or the host of its token endpoint where
// tenants have hosts of their own. What one host says, to however many tenants, stops none of the others.
func witness(a admission, host string) string {
	if host != "" {
		return hostWitness(host)
	}
	return a.tenant
}

// noteRefusal notes a refusal about the host, if there are several, and about the app, of which each host is one
// witness. Of a host nobody can probe, of whose grants nobody knows.
func (c *Circuit) noteRefusal(ctx context.Context, a admission, host string, e *provider.Error) error {
	enough, first := policy.TripAfter(e)
	note := func(host, witness string) error {
		r := engine.Refusal{Tenant: witness, Error: policy.ErrorText(e), Again: a.Refused, Tenants: enough, First: first && host == ""}
		if a.host == host {
			r.Probe = a.probe
		}
		opened, _, err := c.app.At(host).Trip(ctx, engine.NewID(), r, policy.ProbeWaits(rand.Float64())...)
		switch {
		case opened && host != "":
			c.log.Error().Str("host", host).Str("code", e.Code).Int("status", e.Status).Msg("one host of the provider refuses the client, of several tenants in a row: the operator must act; no tenant is at fault")
		case opened:
			c.log.Error().Str("code", e.Code).Int("status", e.Status).Msg("the provider refuses the client, of several tenants in a row: the operator must act; no tenant is at fault")
		}
		return err
	}
	var failed error
	if host != "" && c.hosts != nil {
		failed = note(host, a.tenant)
	}
	return cmp.Or(failed, note("", witness(a, host)))
}

// notePause notes a wish for a pause likewise.
func (c *Circuit) notePause(ctx context.Context, a admission, host string, e *provider.Error) error {
	d := policy.AppPause(e, rand.Float64())
	note := func(host, witness string) error {
		paused, s, err := c.app.At(host).Throttle(ctx, engine.NewID(), policy.ErrorText(e), witness, d)
		switch {
		case paused && host != "":
			c.log.Warn().Str("host", host).Str("code", e.Code).Int("status", e.Status).Dur("pause_ms", d).
				Msg("one host of the provider wants a pause, of several tenants: the exchanges of all its tenants wait")
		case paused:
			c.log.Warn().Str("code", e.Code).Int("status", e.Status).Dur("pause_ms", s.Until(s.ThrottledUntil)).
				Msg("the provider wants a pause, of several tenants: all the app's exchanges wait")
		}
		return err
	}
	var failed error
	if host != "" && c.hosts != nil {
		failed = note(host, a.tenant)
	}
	return cmp.Or(failed, note("", witness(a, host)))
}

// knownToFail reports whether the fleet knows that the provider fails for a tenant.
func (c *Circuit) knownToFail(tenant string) bool {
	s := c.app.KnownApp()
	return s != nil && s.Fails(tenant)
}

func (c *Circuit) noteDown(ctx context.Context, tenant string, e *provider.Error) error {
	down, _, err := c.app.Failing(ctx, engine.NewID(), policy.ErrorText(e), tenant, policy.DownAfter)
	if down {
		c.log.Error().Str("code", e.Code).Int("status", e.Status).Msg("the provider fails for several tenants in a row: look at its status page; no tenant is at fault")
	}
	return err
}

// noteAcceptance tells the fleet that the provider accepts the client, if there was a doubt about it, or about the
// host that has. What the exchange brought is more important: nobody waits for this.
func (c *Circuit) noteAcceptance(a Applicant, host string, acc engine.Acceptance) {
	s := c.app.KnownApp()
	acc.Several = several(c)
	unsettled := s == nil || s.Unsettled(acc.Read) || acc.Revived && massDies(s) || acc.Several && !s.Several
	if s != nil {
		host = cmp.Or(host, hostFor(c, s, a))
	}
	if !unsettled && !s.HostUnsettled(host) {
		return
	}
	c.asker.later(c.waiting, 0, func(ctx context.Context) error {
		if unsettled {
			now, err := accept(ctx, c, s, acc)
			if err != nil {
				return err
			}
			s, host = now, cmp.Or(host, hostFor(c, now, a))
		}
		if !s.HostUnsettled(host) {
			return nil
		}
		closed, _, err := c.app.At(host).Accept(ctx, engine.NewID(), acc)
		if closed {
			c.log.Info().Str("host", host).Msg("one host of the provider accepts the client again")
		}
		return err
	})
}

// accept notes an acceptance about the app. before is its state as known until now, nil for unknown.
func accept(ctx context.Context, c *Circuit, before *engine.AppState, acc engine.Acceptance) (*engine.AppState, error) {
	id := engine.NewID()
	closed, s, err := c.app.Accept(ctx, id, acc)
	if closed {
		c.log.Info().Msg("the provider accepts the client again")
	}
	if err == nil && (s.Made(id) == "provider_up" || closed && before != nil && before.DownAt != 0) {
		c.log.Info().Msg("the provider answers again")
	}
	return s, err
}
