package refresh

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Whose trouble is it? An answer is about one tenant until there is evidence of more.
//
//  1. A tenant is refused as if the client were (invalid_client, a bare 401, …). That is this
//     tenant's trouble, and noted as a suspicion about the app. It is news once: a tenant that
//     goes on being refused while others are accepted says nothing about the app.
//  2. Any acceptance ends the suspicion. So an app's circuit opens only if several tenants are
//     refused with none accepted in between: two if the provider says invalid_client, which
//     RFC 6749 §5.2 reserves for the client, three otherwise. One invalid_client is enough for
//     an app that the provider was never seen to accept.
//  3. While the circuit is open one exchange at a time probes, and whoever needs one waits for
//     the news: the first probes are made at once, by tenants that were not refused. Only when
//     they are refused too, for some ten seconds, calls end with ErrClientConfig, and probes
//     become rare. Those of tenants that were refused before come late and make them no rarer.
//
// A wish for a pause (429) becomes the app's in the same way, when a second tenant hears it.
//
// When all is well it costs nothing: the state is in memory, and what changes is pushed.

const (
	firstProbe = time.Second
	maxProbe   = time.Minute
	// probesAtOnce follow each other without a pause after the circuit has opened.
	probesAtOnce = 3
	// nearProbe is what a call waits for.
	nearProbe = 2 * time.Second
	// refusedTenants open the circuit; fewer, clientsRefused, if the provider says invalid_client.
	refusedTenants = 3
	clientsRefused = 2
	// maxPause is how long one tenant's answer may stop it, maxAppPause the whole app.
	maxPause    = 15 * time.Minute
	maxAppPause = 5 * time.Minute
)

// probeWaits are how long after the first, second, … refusal in a row the next exchange may
// try whether the provider accepts the client again.
func probeWaits(random float64) []time.Duration {
	waits := make([]time.Duration, probesAtOnce)
	for d := firstProbe; d < maxProbe; d *= 2 {
		waits = append(waits, d)
		if d == nearProbe {
			waits = append(waits, d, d, d, d)
		}
	}
	waits = append(waits, maxProbe)
	for i := range waits {
		waits[i] += time.Duration(random * float64(waits[i]/4))
	}
	return waits
}

// probeWait is how long after the n-th refusal in a row that is at least.
func probeWait(n int64) time.Duration {
	waits := probeWaits(0)
	return waits[min(max(n, 1), int64(len(waits)))-1]
}

// handicap is by how much a tenant that was refused comes later than others: its probe can
// hardly tell whether the client is accepted.
func handicap(s *engine.AppState) time.Duration {
	return max(firstProbe, probeWait(s.Probes)/2)
}

// jittered is d and up to a quarter more.
func jittered(d time.Duration, random float64) time.Duration {
	return d + time.Duration(random*float64(d/4))
}

// acceptsClient reports whether an exchange's end shows that the provider accepts the client:
// it has brought a pair, or the answer is about the grant.
func acceptsClient(e *provider.Error) bool {
	return e == nil || e.Class == provider.Reauthorize || e.Class == provider.Busy
}

// wasRefused reports whether a grant's last exchange was refused as if the client were.
func wasRefused(r *grant.Record) bool {
	return strings.HasPrefix(r.Error, provider.AppRefused.String()+"/")
}

var (
	errCircuit   = errors.New("the provider refuses this app's client, whatever the tenant: look at client id, secret and token URL; one exchange at a time tries whether it accepts it again")
	errThrottled = errors.New("the provider wants a pause of all the app's exchanges")
)

// passage says what the app's state means for one more exchange.
type passage uint8

const (
	free    passage = iota // make it
	probing                // ask for the right to probe
	standBy                // it will be known soon: wait for news
	stopped
)

// applicant is a grant for which an exchange is to be made. The zero tenant is any.
type applicant struct {
	tenant  string
	refused bool   // its last exchange was refused as if the client were
	doubted bool   // its death is not believed
	profile string // digest of the profile by which the answer is read
}

func (c *Coordinator) applicant(tenant string, r *grant.Record) applicant {
	a := applicant{tenant: tenant, profile: c.digest}
	if r != nil {
		a.refused, a.doubted = wasRefused(r), isDoubted(r)
	}
	return a
}

// gate says what the app's state means for one more exchange. wait is with standBy; the error
// says why there is none now.
func gate(s *engine.AppState, a applicant, random float64) (_ passage, wait time.Duration, _ *Error) {
	switch {
	case s.Open && s.Brake != "":
		if s.Braked(a.profile) && !s.Refuses(a.tenant) {
			return stopped, 0, braked(s, random)
		}
	case s.Open:
		a.refused = a.refused || s.Refuses(a.tenant)
		return circuitGate(s, a.refused, random)
	}
	switch {
	case s.ThrottledUntil > s.Now():
		return stopped, 0, &Error{Kind: ErrUnavailable, Code: "throttled", Status: http.StatusTooManyRequests,
			RetryAfter: jittered(s.Until(s.ThrottledUntil), random) + slack, Err: errThrottled}
	case a.doubted && s.MassTryAt > s.Now() && massDies(s):
		return stopped, 0, massDeathError(s, random)
	}
	return free, 0, nil
}

func circuitGate(s *engine.AppState, refused bool, random float64) (_ passage, wait time.Duration, _ *Error) {
	code, status, _ := parseErrorText(s.Error)
	stop := func(d time.Duration) *Error {
		return &Error{Kind: ErrClientConfig, Code: code, Status: status, RetryAfter: jittered(d, random) + slack, Err: errCircuit}
	}
	left := s.Until(s.ProbeAt)
	if s.ProbeBy != "" && left > 0 {
		return standBy, left, stop(firstProbe) // left is only for the case that it dies over it
	}
	switch {
	case refused && s.Now()-s.ProbeAt < handicap(s).Milliseconds():
		return stopped, 0, stop(left + handicap(s))
	case left == 0:
		return probing, 0, stop(firstProbe)
	case !refused && left <= jittered(nearProbe, 1):
		return standBy, left, stop(left)
	}
	return stopped, 0, stop(left)
}

// shut says why the app's exchanges stand still; nil if they do not, or if one may probe.
func (c *Coordinator) shut(s *engine.AppState) *Error {
	if g, _, e := gate(s, c.applicant("", nil), jitter()); g >= standBy {
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
// error and done the grant is to be looked at again: time has passed. The caller calls done
// when the exchange has ended. An exchange that nobody waits for does not wait either.
func (c *Coordinator) approach(ctx context.Context, a applicant, patient bool, news <-chan struct{}) (done func(), _ error) {
	if c.app.KnownApp() == nil {
		return func() {}, nil // whoever gets the lease looks; the others need not
	}
	told := c.app.AppChanged() // before looking, so that nothing falls in between
	s := c.appNow()
	g, wait, e := gate(s, a, jitter())
	switch {
	case g == free:
		return func() {}, nil
	case g == stopped, !patient && g == standBy:
		return nil, e
	case g == probing && c.probing.CompareAndSwap(false, true):
		return func() { c.probing.Store(false) }, nil
	case g == probing && !patient:
		return nil, e
	case g == probing:
		wait = firstProbe / 4 // another flight of this process is about to ask
	}
	timer := time.NewTimer(min(wait, readAgain) + slack)
	defer timer.Stop()
	select {
	case <-told:
	case <-news:
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, nil
}

// readAgain is how soon a state that stops the app is read again: an operator may have deleted
// it, or a push may be lost.
const readAgain = 5 * time.Second

// admission is the right to make one exchange.
type admission struct {
	applicant
	probe  string // id of the probe that it is; empty for none
	probes int64
}

// admitted asks for the right to make an exchange: one at a time while the circuit is open.
// Without error and ok the grant is to be looked at again.
func (c *Coordinator) admitted(a applicant) (_ admission, ok bool, _ error) {
	s := c.appNow()
	g, _, e := gate(s, a, jitter())
	switch {
	case g == free && a.doubted && massDies(s):
		return admission{applicant: a}, c.mayRetry(), nil
	case g == free:
		return admission{applicant: a}, true, nil
	case g == stopped:
		return admission{}, false, e
	case g == standBy:
		return admission{}, false, nil
	}
	late := time.Duration(0)
	if a.refused = a.refused || s.Refuses(a.tenant); a.refused {
		late = handicap(s)
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

// unused gives an admission back under which no exchange was made.
func (c *Coordinator) unused(a admission) { c.unprobe(a, 0) }

func (c *Coordinator) unprobe(a admission, again time.Duration) {
	if a.probe == "" {
		return
	}
	c.tell(func(ctx context.Context) error {
		_, err := c.app.Unprobe(ctx, engine.NewID(), a.probe, again)
		return err
	})
}

// tell tells the fleet something about the app.
func (c *Coordinator) tell(f func(context.Context) error) {
	_, err := economize(c.economy, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	if err != nil && !errors.Is(err, errResting) && !errors.Is(err, errClosed) {
		c.log.Warn().Err(err).Msg("the fleet was not told what an exchange says about the app")
	}
}

// learned tells the fleet what a failed exchange says about the app. That is done before
// the grant's failure is published: its waiters must find the circuit open.
func (c *Coordinator) learned(a admission, e *provider.Error) {
	switch {
	case acceptsClient(e):
		c.accepted(engine.Acceptance{})
		return
	case e.Class == provider.AppRefused:
		if !a.refused || a.probe != "" {
			c.tell(func(ctx context.Context) error { return c.refusedAs(ctx, a, e) })
		}
		return
	case e.Throttles():
		c.tell(func(ctx context.Context) error { return c.throttledAs(ctx, a.tenant, e) })
	case unreadable(e):
		c.brake(a, e)
	}
	c.unprobe(a, max(firstProbe, probeWait(a.probes))) // it says nothing about the client
}

func (c *Coordinator) refusedAs(ctx context.Context, a admission, e *provider.Error) error {
	r := engine.Refusal{Tenant: a.tenant, Error: errorText(e), Probe: a.probe, Again: a.refused, Tenants: refusedTenants}
	if e.ClientRefused() {
		r.Tenants, r.First = clientsRefused, true
	}
	opened, _, err := c.app.Trip(ctx, engine.NewID(), r, probeWaits(jitter())...)
	if opened {
		c.log.Error().Str("code", e.Code).Int("status", e.Status).Msg("the provider refuses the client, of several tenants in a row: the operator must act; no tenant is at fault")
	}
	return err
}

func (c *Coordinator) throttledAs(ctx context.Context, tenant string, e *provider.Error) error {
	d := min(max(e.RetryAfter, retryIn(1, e, jitter())), maxAppPause)
	paused, s, err := c.app.Throttle(ctx, engine.NewID(), errorText(e), tenant, d)
	if paused {
		c.log.Warn().Str("code", e.Code).Int("status", e.Status).Dur("pause_ms", s.Until(s.ThrottledUntil)).
			Msg("the provider wants a pause, of several tenants: all the app's exchanges wait")
	}
	return err
}

// accepted tells the fleet that the provider accepts the client, if there was a doubt. What
// the exchange brought is more important: nobody waits for this.
func (c *Coordinator) accepted(a engine.Acceptance) {
	if s := c.app.KnownApp(); s != nil && !s.Unsettled(a.Read) && !(a.Revived && massDies(s)) {
		return
	}
	c.economy.later(c.waiting, 0, func(ctx context.Context) error {
		closed, _, err := c.app.Accept(ctx, engine.NewID(), a)
		if closed {
			c.log.Info().Msg("the provider accepts the client again")
		}
		return err
	})
}
