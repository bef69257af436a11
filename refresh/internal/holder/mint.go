package holder

import (
	"context"
	"errors"
	"time"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/internal/exchange"
	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/pair"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Mint makes the first pairs of grants that need no consent.
type Mint struct {
	*Tools
	Replicas int // that acknowledge them

	refused refusals
}

// First mints the first access token of a grant, in one process of all that are asked. A grant that is
// active already is left as it is: workers may call this whenever they start.
func (m *Mint) First(ctx context.Context, k tokencache.Key, g engine.Grant) error {
	if err := m.Work.Add(); err != nil {
		return err
	}
	defer m.Work.Done()
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(m.Work.Waiting, func() { cancel(context.Cause(m.Work.Waiting)) })()
	h := m.New(k, g, &Callers{})
	h.Pin = g.Pin()
	defer h.Pin.Unpin()
	_ = h.Pin.Confirm(waiting) // else the lease's end is waited for
	for waiting.Err() == nil {
		news := h.Pin.Changed()                              // before looking, so that nothing falls in between
		if held := h.Pin.LeaseHeld(); held > 0 && known(h) { // its holder lives, and has nothing yet
			work.Pause(waiting, held, news)
			continue
		}
		if _, err := m.missing(waiting, h); err != nil {
			return orNil(err)
		}
		err := h.lead(waiting, h.Economy.Applicant(k.Tenant, nil), news, ready, func(lease *lock.Lease) error { return m.mint(waiting, h, lease) })
		h.LetGo(0)
		if !errors.Is(err, work.ErrAgain) {
			return orNil(err)
		}
		if held := h.Pin.LeaseHeld(); held > 0 { // another worker is about it
			work.Pause(waiting, held, news)
		}
	}
	if err := context.Cause(m.Work.Waiting); err != nil {
		return err
	}
	return work.Left(ctx, k)
}

func ready() error { return nil }

// known reports whether memory knows that a grant needs its first pair: a heartbeat is news, too.
func known(h *Holder) bool {
	s := h.grant.Peek()
	return h.grant.KnownAbsent() || s != nil && s.State != tokencache.Active
}

// errThere says that there is nothing to mint.
var errThere = errors.New("the grant is active")

func orNil(err error) error {
	if errors.Is(err, errThere) {
		return nil
	}
	return err
}

// missing returns what there is of a grant that needs its first pair, if anything. The error is errThere if it
// needs none.
func (m *Mint) missing(ctx context.Context, h *Holder) (*engine.Snapshot, error) {
	s, err := work.Call(ctx, m.Work, h.grant.Read)
	switch {
	case errors.Is(err, tokencache.ErrNone):
		err = nil
	case err != nil:
		return nil, err
	case s.State == tokencache.Active && m.Replicas > 0: // perhaps an earlier call has said that they have not
		if err := h.grant.Acknowledge(ctx, m.Acked); err != nil {
			return nil, err
		}
		return nil, errThere
	case s.State == tokencache.Active:
		return nil, errThere
	}
	if t := m.refused.standing(h.key.Tenant); t != nil {
		return nil, t
	}
	return s, err
}

// mint makes the exchange under the lease. It needs no claim: nothing is spent by a second one.
func (m *Mint) mint(ctx context.Context, h *Holder, lease *lock.Lease) error {
	before, err := m.missing(ctx, h) // the holder before may have minted since
	if err != nil {
		return err
	}
	defer h.heartbeat(lease)()
	turn, err := h.Economy.Turn(ctx, h.Economy.Applicant(h.key.Tenant, nil), nil, func() bool { return true })
	if err != nil {
		return err
	}
	defer turn.Leave()
	g := provider.Grant{App: h.key.App, Tenant: h.key.Tenant}
	if before != nil {
		g.Generation = before.Generation
	}
	start := time.Now()
	p, failed := m.exchange(ctx, g)
	if failed != nil {
		turn.NoteFailure(failed)
		return m.refused.note(h.key.Tenant, failed)
	}
	m.refused.forget(h.key.Tenant)
	turn.NoteAcceptance(engine.Acceptance{Read: true})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), work.RedisTimeout)
	defer cancel()
	_, err = h.grant.Connect(ctx, func(now int64) grant.Pair {
		return h.Pairs.OfAnswer(pair.Before{Tenant: h.key.Tenant}, p, now-time.Since(start).Milliseconds()-1)
	}, h.Acked)
	return err
}

// exchange spends nothing: nobody waits for an Exchanger that ignores its ctx.
func (m *Mint) exchange(caller context.Context, g provider.Grant) (p provider.Pair, failed *provider.Error) {
	start := time.Now()
	ctx, ended := m.Observe.Exchange(caller, observe.Exchange{Tenant: g.Tenant, Generation: g.Generation, Why: "mint"})
	defer func() { ended(observe.EndOf(p, failed, time.Since(start))) }()
	x, run := m.Exchanges.Prepare(exchange.Limits{Send: m.ExchangeTimeout, Values: ctx}, g)
	if err := m.Work.Begin(run); err != nil {
		x.End(context.Canceled)
		return provider.Pair{}, &provider.Error{Class: provider.Unsent, Code: "closed", Err: err}
	}
	hung := time.NewTimer(m.ClaimTimeout)
	defer hung.Stop()
	select {
	case <-x.Answered:
		return x.Pair, x.Failure
	case <-hung.C:
		return provider.Pair{}, &provider.Error{Class: provider.Ambiguous, Code: policy.CodeHangs, Err: exchange.ErrHangs}
	}
}
