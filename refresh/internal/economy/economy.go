// Package economy spares the provider: the app's circuit and brake, its pauses, and its budget of exchanges,
// over all processes. If Redis does not answer for them, the grants' exchanges go on without.
package economy

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Economy is what one process knows of how its app's exchanges are held back.
type Economy struct {
	*Circuit
	*Pacer

	asker    *asker
	waiting  context.Context
	patience time.Duration
}

// New returns the Economy of an app.
func New(cfg Config) *Economy {
	a := newAsker(cfg.Log, func() bool { return cfg.App.Link().Live })
	return &Economy{newCircuit(cfg, a), newPacer(cfg, a), a, cfg.Waiting, cfg.ExchangeTimeout}
}

// Close waits for what is still to be told. That begins nothing more.
func (e *Economy) Close() { e.asker.close() }

// Turn is the right to make one exchange: a place in the app's budget, and the app's admission.
type Turn struct {
	admission
	economy *Economy
	leave   func()
}

// Turn waits until the app's budget allows an exchange, and asks for its admission then: the app may have
// been stopped meanwhile. t is the ticket of an exchange that nobody waits for, nil for others. The error
// is work.ErrAgain if the grant must be looked at again: ctx has ended, or time has passed.
func (e *Economy) Turn(ctx context.Context, a Applicant, t *Ticket, urgent func() bool) (*Turn, error) {
	leave, err := e.place(ctx, t, urgent)
	if err != nil {
		return nil, err
	}
	given, err := e.admit(a)
	if err != nil {
		leave()
		return nil, err
	}
	return &Turn{given, e, leave}, nil
}

// place waits for a place in the budget.
func (e *Economy) place(ctx context.Context, t *Ticket, urgent func() bool) (leave func(), err error) {
	if t == nil {
		return e.pace(ctx, e.patience, urgent)
	}
	if leave, err = e.enterNow(t); errors.Is(err, ErrNoPlace) {
		err = &policy.Trouble{Code: "budget", Retry: policy.FirstRetry, Why: err}
	}
	return leave, err
}

// pace waits until the app's budget allows an exchange, for as long as one may take.
func (e *Economy) pace(ctx context.Context, patience time.Duration, urgent func() bool) (leave func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errBudget)
	defer cancel()
	defer context.AfterFunc(e.waiting, cancel)()
	leave, err = e.enter(ctx, urgent)
	switch {
	case errors.Is(err, errBudget):
		return nil, &policy.Trouble{Code: "budget", Retry: policy.RetryIn(3, &provider.Error{}, rand.Float64()), Why: errBudget}
	case err == nil:
		return leave, nil
	case e.waiting.Err() != nil:
		return nil, context.Cause(e.waiting)
	case ctx.Err() != nil:
		return nil, work.ErrAgain
	}
	return nil, err
}

// Leave gives the place among the exchanges back.
func (t *Turn) Leave() {
	if t.leave != nil {
		t.leave()
		t.leave = nil
	}
}

// Return waits for a place again, behind all exchanges that somebody waits for.
func (t *Turn) Return(patience time.Duration) error {
	leave, err := t.economy.pace(context.Background(), min(patience, t.economy.patience), func() bool { return false })
	if err == nil {
		t.leave = leave
	}
	return err
}

// GiveBack gives the admission back: no exchange was made.
func (t *Turn) GiveBack() { t.economy.unprobe(t.admission, 0) }

// NoteFailure tells the fleet what a failed exchange says about the app. Call it before the grant's
// failure is published: its waiters must find the circuit open.
func (t *Turn) NoteFailure(e *provider.Error) { t.economy.noteFailure(t.admission, e) }

// NoteAcceptance tells the fleet that the provider accepts the client, if there was a doubt.
func (t *Turn) NoteAcceptance(a engine.Acceptance) { t.economy.noteAcceptance(t.Applicant, "", a) }

// Rests reports whether Redis did not answer for the app of late.
func (e *Economy) Rests() bool { return e.asker.resting() }

// HostFor returns what is known of the host at which an exchange for a grant would be made, if there is a doubt about
// it; else nil.
func (e *Economy) HostFor(s *engine.AppState, tenant string, g *engine.Snapshot) *engine.AppState {
	return s.Host(hostFor(e.Circuit, s, e.Applicant(tenant, g)))
}

// Brakes reports whether an app is stopped as long as its answers are read by this process's profile.
func (e *Economy) Brakes(s *engine.AppState) bool { return s.Braked(e.digest) }
