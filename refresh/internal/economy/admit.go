package economy

import (
	"context"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Approach waits, before an exchange is prepared, while the app's state tells it to. The error is
// work.ErrAgain if the grant must be looked at again: time has passed. The caller calls done when the
// exchange has ended. An exchange that nobody waits for does not wait either.
func (c *Circuit) Approach(ctx context.Context, a Applicant, patient bool, news <-chan struct{}) (done func(), _ error) {
	if c.app.KnownApp() == nil {
		return func() {}, nil // the process that wins the lease looks; the others need not
	}
	told := c.app.AppChanged() // before looking, so that nothing falls in between
	s := c.Now()
	g, wait, e := gate(c, s, a)
	host, first := "", false
	if g == policy.PassProbe {
		host = probed(c, s, a).Host
		_, busy := c.probing.LoadOrStore(host, true)
		first = !busy
	}
	switch {
	case g == policy.PassFree:
		return func() {}, nil
	case g == policy.PassStopped, !patient && g == policy.PassStandBy:
		return nil, e
	case first:
		return func() { c.probing.Delete(host) }, nil
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
	return nil, work.ErrAgain
}

// admission is the right to make one exchange.
type admission struct {
	Applicant
	probe  string // id of the probe that it is; empty for none
	probes int64
	host   string // whose circuit it probes; empty for the app's
}

// admit asks for the right to make an exchange: one at a time while the circuit is open. The error is
// work.ErrAgain if the grant must be looked at again.
func (c *Circuit) admit(a Applicant) (admission, error) {
	s := c.Now()
	switch g, _, e := gate(c, s, a); {
	case g == policy.PassFree && a.Doubted && massDies(s):
		return admission{Applicant: a}, orAgain(c.mayRetry())
	case g == policy.PassFree:
		return admission{Applicant: a}, nil
	case g == policy.PassStopped:
		return admission{}, e
	case g == policy.PassStandBy:
		return admission{}, work.ErrAgain
	}
	return c.probe(s, a)
}

// probe asks for the right to make the one exchange that tries whether the client is accepted.
func (c *Circuit) probe(s *engine.AppState, a Applicant) (admission, error) {
	late, of := time.Duration(0), probed(c, s, a)
	if a.Refused = a.Refused || of.Refuses || of.Late; a.Refused {
		late = policy.Handicap(of.Probes)
	}
	id := engine.NewID()
	given, err := economize(c.asker, func(ctx context.Context) (bool, error) {
		ok, s, err := c.app.At(of.Host).Probe(ctx, id, late, c.claimTimeout)
		return ok && s.OpenAt(of.Host), err // closed meanwhile: look again
	})
	// If nobody can be asked, it is time. Redis may have given the right all the same: what comes of this
	// exchange, or that there is none, ends it.
	return admission{a, id, of.Probes, of.Host}, orAgain(given || err != nil)
}

// probed is whose circuit a grant's next exchange would probe.
func probed(c *Circuit, s *engine.AppState, a Applicant) policy.App {
	app, host := viewOf(c, s, a)
	if of := app.Probed(host); of != nil {
		return *of
	}
	return app
}

func orAgain(ok bool) error {
	if !ok {
		return work.ErrAgain
	}
	return nil
}

// mayRetry asks for the right to try a grant whose death is doubted.
func (c *Circuit) mayRetry() bool {
	ok, err := economize(c.asker, func(ctx context.Context) (bool, error) {
		return c.app.Retry(ctx, engine.NewID(), policy.DoubtedRetry, deaths(0))
	})
	return ok || err != nil
}

// deaths says how many deaths are believed of an app with so many grants.
func deaths(grants int64) engine.Deaths {
	return engine.Deaths{Most: policy.MaxDeaths(grants), Within: policy.DeathsWithin, Doubt: policy.DeathsDoubted}
}

// unprobe gives an admission back of which nothing was learned. The next probe may be made after again.
func (c *Circuit) unprobe(a admission, again time.Duration) {
	if a.probe == "" {
		return
	}
	c.notify(func(ctx context.Context) error {
		_, err := c.app.At(a.host).Unprobe(ctx, engine.NewID(), a.probe, again)
		return err
	})
}
