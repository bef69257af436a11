package refresh

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// App-wide trouble is not a tenant's: a client that the provider refuses, or a wish for a
// pause, stops the app's exchanges in the whole fleet. When all is well it costs nothing:
// the state is in memory, and what changes is pushed.

const (
	firstProbe = time.Second
	maxProbe   = time.Minute
)

// probeWaits are how long after the first, second, … refusal in a row the next exchange may
// try whether the provider accepts the client again.
func probeWaits(random float64) []time.Duration {
	var waits []time.Duration
	for d := firstProbe; d < maxProbe; d *= 2 {
		waits = append(waits, d)
	}
	waits = append(waits, maxProbe)
	for i := range waits {
		waits[i] += time.Duration(random * float64(waits[i]/4))
	}
	return waits
}

var (
	errCircuit   = errors.New("the provider refuses this app's client, whatever the tenant: look at client id, secret and token URL; one exchange at a time tries whether it accepts it again")
	errThrottled = errors.New("the provider wants a pause of all the app's exchanges")
)

// shut says why the app's exchanges stand still; nil if they do not, or if one may probe.
func shut(s *tokencache.AppState) *Error {
	now := s.Now()
	switch {
	case s.Open && s.ProbeAt > now:
		code, status, _ := parseErrorText(s.Error)
		return &Error{Kind: ErrClientConfig, Code: code, Status: status, RetryAfter: s.Until(s.ProbeAt) + slack, Err: errCircuit}
	case s.ThrottledUntil > now:
		return &Error{Kind: ErrUnavailable, Code: "throttled", Status: http.StatusTooManyRequests,
			RetryAfter: s.Until(s.ThrottledUntil) + slack, Err: errThrottled}
	}
	return nil
}

// appState is the app's state; its error says why its exchanges stand still.
func (c *Coordinator) appState(ctx context.Context) (*tokencache.AppState, error) {
	s, err := c.cache.AppState(ctx, c.cfg.App)
	if err != nil {
		return nil, err
	}
	if e := shut(s); e != nil {
		return s, e
	}
	return s, nil
}

// standsStill reports whether this process knows that there are no exchanges just now.
func (c *Coordinator) standsStill() bool {
	s := c.cache.KnownApp(c.cfg.App)
	return s != nil && shut(s) != nil
}

// admitted asks for the right to make an exchange: one at a time while the circuit is open.
// It returns the state under which it was given.
func (c *Coordinator) admitted() (*tokencache.AppState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	s, err := c.appState(ctx)
	if err != nil || !s.Open {
		return s, err
	}
	ok, s, err := c.cache.Probe(ctx, c.cfg.App, tokencache.NewID(), c.locker.Name(), c.cfg.ClaimTimeout)
	switch {
	case err != nil:
		return nil, err
	case ok:
		return s, nil
	}
	if e := shut(s); e != nil {
		return nil, e
	}
	return nil, &Error{Kind: ErrClientConfig, RetryAfter: firstProbe, Err: errCircuit}
}

// learned tells the fleet what an exchange's end says about the app. That is done before
// the grant's failure is published: its waiters must find the circuit open.
func (c *Coordinator) learned(s *tokencache.AppState, e *provider.Error) {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	app, id, by := c.cfg.App, tokencache.NewID(), c.locker.Name()
	var err error
	switch {
	case e != nil && e.Class == provider.AppRefused:
		_, err = c.cache.Trip(ctx, app, id, by, errorText(e), s, probeWaits(jitter())...)
		c.log.Error().Str("code", e.Code).Int("status", e.Status).Msg("the provider refuses the client: the operator must act; no tenant is at fault")
	case e != nil && e.Class == provider.Throttled:
		_, err = c.cache.Throttle(ctx, app, id, by, errorText(e), max(e.RetryAfter, retryIn(1, e, jitter())))
	case s.Open && (e == nil || e.Class == provider.Reauthorize || e.Class == provider.Busy):
		_, err = c.cache.Mend(ctx, app, id, by, s) // the client was accepted
		c.log.Info().Msg("the provider accepts the client again")
	}
	if err != nil {
		c.log.Warn().Err(err).Msg("the fleet was not told what an exchange says about the app")
	}
}
