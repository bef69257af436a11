package economy

import (
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
		c.NoteAcceptance(engine.Acceptance{})
		return
	case e.Class == provider.AppRefused && !e.NotAsked():
		if !a.Refused || a.probe != "" {
			c.notify(func(ctx context.Context) error { return c.noteRefusal(ctx, a, e) })
		}
		return
	case e.Throttles():
		c.notify(func(ctx context.Context) error { return c.notePause(ctx, witness(a, e), e) })
	case policy.Unreadable(e):
		c.brake(a, e)
	case policy.Fails(e) && !c.knownToFail(a.tenant):
		c.notify(func(ctx context.Context) error { return c.noteDown(ctx, a.tenant, e) })
	}
	c.unprobe(a, policy.ProbeAgain(a.probes)) // it says nothing about the client
}

// witness returns who tells something about the app: the tenant, or the host of its token endpoint where
// tenants have hosts of their own. What one host says, to however many tenants, stops none of the others.
func witness(a admission, e *provider.Error) string {
	if e.Host != "" {
		return "host " + e.Host // a tenant of that name is no witness beside it
	}
	return a.tenant
}

func (c *Circuit) noteRefusal(ctx context.Context, a admission, e *provider.Error) error {
	r := engine.Refusal{Tenant: witness(a, e), Error: policy.ErrorText(e), Probe: a.probe, Again: a.Refused}
	r.Tenants, r.First = policy.TripAfter(e)
	opened, _, err := c.app.Trip(ctx, engine.NewID(), r, policy.ProbeWaits(rand.Float64())...)
	if opened {
		c.log.Error().Str("code", e.Code).Int("status", e.Status).Msg("the provider refuses the client, of several tenants in a row: the operator must act; no tenant is at fault")
	}
	return err
}

func (c *Circuit) notePause(ctx context.Context, witness string, e *provider.Error) error {
	d := policy.AppPause(e, rand.Float64())
	paused, s, err := c.app.Throttle(ctx, engine.NewID(), policy.ErrorText(e), witness, d)
	if paused {
		c.log.Warn().Str("code", e.Code).Int("status", e.Status).Dur("pause_ms", s.Until(s.ThrottledUntil)).
			Msg("the provider wants a pause, of several tenants: all the app's exchanges wait")
	}
	return err
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

// NoteAcceptance tells the fleet that the provider accepts the client, if there was a doubt. What
// the exchange brought is more important: nobody waits for this.
func (c *Circuit) NoteAcceptance(a engine.Acceptance) {
	if s := c.app.KnownApp(); s != nil && !s.Unsettled(a.Read) && !(a.Revived && massDies(s)) {
		return
	}
	c.asker.later(c.waiting, 0, func(ctx context.Context) error {
		id, before := engine.NewID(), c.app.KnownApp()
		closed, s, err := c.app.Accept(ctx, id, a)
		if closed {
			c.log.Info().Msg("the provider accepts the client again")
		}
		if err == nil && (s.Made(id) == "provider_up" || closed && before != nil && before.DownAt != 0) {
			c.log.Info().Msg("the provider answers again")
		}
		return err
	})
}
