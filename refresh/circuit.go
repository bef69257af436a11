package refresh

import (
	"context"
	"errors"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// shut says why the app's exchanges stand still; nil if they do not, or if one may probe.
func (c *Coordinator) shut(s *engine.AppState) *Error {
	if g, _, e := gate(s, c.applicant("", nil)); g >= policy.PassStandBy {
		return e
	}
	return nil
}

// appNow is the app's state. It is an economy: if Redis does not answer for it, what memory
// knows must do, or nothing. A pause or a probe's time that memory knows of ends by itself.
func (c *Coordinator) appNow() *engine.AppState {
	if s := c.app.PeekApp(); s != nil {
		return s
	}
	s, err := economize(c.economy, func(ctx context.Context) (*engine.AppState, error) {
		return c.app.AppState(ctx)
	})
	if err == nil {
		return s
	}
	if s := c.app.KnownApp(); s != nil {
		return s
	}
	return &engine.AppState{App: c.cfg.App}
}

// standsStill reports whether this process knows that there are no exchanges just now.
func (c *Coordinator) standsStill() bool {
	s := c.app.KnownApp()
	return s != nil && c.shut(s) != nil
}

// approach waits, before an exchange is prepared, while the app's state tells it to. Without
// error and done the grant must be looked at again: time has passed. The caller calls done
// when the exchange has ended. An exchange that nobody waits for does not wait either.
func (c *Coordinator) approach(ctx context.Context, a applicant, patient bool, news <-chan struct{}) (done func(), _ error) {
	if c.app.KnownApp() == nil {
		return func() {}, nil // the process that wins the lease looks; the others need not
	}
	told := c.app.AppChanged() // before looking, so that nothing falls in between
	s := c.appNow()
	g, wait, e := gate(s, a)
	switch {
	case g == policy.PassFree:
		return func() {}, nil
	case g == policy.PassStopped, !patient && g == policy.PassStandBy:
		return nil, e
	case g == policy.PassProbe && c.probing.CompareAndSwap(false, true):
		return func() { c.probing.Store(false) }, nil
	case g == policy.PassProbe && !patient:
		return nil, e
	case g == policy.PassProbe:
		wait = policy.ProbeTurn // another flight of this process is about to ask
	}
	timer := time.NewTimer(min(wait, policy.AskAgain) + policy.Slack)
	defer timer.Stop()
	select {
	case <-told:
	case <-news:
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, nil
}

// admission is the right to make one exchange.
type admission struct {
	applicant
	probe  string // id of the probe that it is; empty for none
	probes int64
}

// admit asks for the right to make an exchange: one at a time while the circuit is open.
// Without error and ok the grant must be looked at again.
func (c *Coordinator) admit(a applicant) (_ admission, ok bool, _ error) {
	s := c.appNow()
	g, _, e := gate(s, a)
	switch {
	case g == policy.PassFree && a.Doubted && massDies(s):
		return admission{applicant: a}, c.mayRetry(), nil
	case g == policy.PassFree:
		return admission{applicant: a}, true, nil
	case g == policy.PassStopped:
		return admission{}, false, e
	case g == policy.PassStandBy:
		return admission{}, false, nil
	}
	late := time.Duration(0)
	if a.Refused = a.Refused || s.Refuses(a.tenant); a.Refused {
		late = policy.Handicap(s.Probes)
	}
	id := engine.NewID()
	given, err := economize(c.economy, func(ctx context.Context) (bool, error) {
		ok, s, err := c.app.Probe(ctx, id, late, c.cfg.ClaimTimeout)
		return ok && s.Open, err // closed meanwhile: look again
	})
	if err != nil {
		// Nobody can be asked, and it is time. Redis may have given the right all the same: what comes of this
		// exchange, or that there is none, ends it.
		return admission{a, id, s.Probes}, true, nil
	}
	return admission{a, id, s.Probes}, given, nil
}

// giveBack gives an admission back under which no exchange was made.
func (c *Coordinator) giveBack(a admission) { c.unprobe(a, 0) }

func (c *Coordinator) unprobe(a admission, again time.Duration) {
	if a.probe == "" {
		return
	}
	c.notify(func(ctx context.Context) error {
		_, err := c.app.Unprobe(ctx, engine.NewID(), a.probe, again)
		return err
	})
}

// notify tells the fleet something about the app.
func (c *Coordinator) notify(f func(context.Context) error) {
	_, err := economize(c.economy, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	if err != nil && !errors.Is(err, errResting) && !errors.Is(err, work.ErrClosed) {
		c.log.Warn().Err(err).Msg("the fleet was not told what an exchange says about the app")
	}
}

// noteFailure tells the fleet what a failed exchange says about the app. That is done before
// the grant's failure is published: its waiters must find the circuit open.
func (c *Coordinator) noteFailure(a admission, e *provider.Error) {
	switch {
	case policy.AcceptsClient(e):
		c.noteAcceptance(engine.Acceptance{})
		return
	case e.Class == provider.AppRefused:
		if !a.Refused || a.probe != "" {
			c.notify(func(ctx context.Context) error { return c.noteRefusal(ctx, a, e) })
		}
		return
	case e.Throttles():
		c.notify(func(ctx context.Context) error { return c.notePause(ctx, a.tenant, e) })
	case policy.Unreadable(e):
		c.brake(a, e)
	}
	c.unprobe(a, policy.ProbeAgain(a.probes)) // it says nothing about the client
}

func (c *Coordinator) noteRefusal(ctx context.Context, a admission, e *provider.Error) error {
	r := engine.Refusal{Tenant: a.tenant, Error: policy.ErrorText(e), Probe: a.probe, Again: a.Refused}
	r.Tenants, r.First = policy.TripAfter(e)
	opened, _, err := c.app.Trip(ctx, engine.NewID(), r, policy.ProbeWaits(random())...)
	if opened {
		c.log.Error().Str("code", e.Code).Int("status", e.Status).Msg("the provider refuses the client, of several tenants in a row: the operator must act; no tenant is at fault")
	}
	return err
}

func (c *Coordinator) notePause(ctx context.Context, tenant string, e *provider.Error) error {
	d := policy.AppPause(e, random())
	paused, s, err := c.app.Throttle(ctx, engine.NewID(), policy.ErrorText(e), tenant, d)
	if paused {
		c.log.Warn().Str("code", e.Code).Int("status", e.Status).Dur("pause_ms", s.Until(s.ThrottledUntil)).
			Msg("the provider wants a pause, of several tenants: all the app's exchanges wait")
	}
	return err
}

// noteAcceptance tells the fleet that the provider accepts the client, if there was a doubt. What
// the exchange brought is more important: nobody waits for this.
func (c *Coordinator) noteAcceptance(a engine.Acceptance) {
	if s := c.app.KnownApp(); s != nil && !s.Unsettled(a.Read) && !(a.Revived && massDies(s)) {
		return
	}
	c.economy.later(c.work.Waiting, 0, func(ctx context.Context) error {
		closed, _, err := c.app.Accept(ctx, engine.NewID(), a)
		if closed {
			c.log.Info().Msg("the provider accepts the client again")
		}
		return err
	})
}
