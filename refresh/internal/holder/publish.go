package holder

import (
	"context"
	"math/rand/v2"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// publish stores a failure, under an ID of its own. The holder's own callers get the cause
// with it, as the error; that is work.ErrAgain if somebody else's result counts.
func (h *Holder) publish(s *engine.Snapshot, e *provider.Error, failure grant.Failure) error {
	failure.ID = engine.NewID()
	noted := h.grant.With(failed(s, e, h.took))
	var outcome grant.Outcome
	var stored *engine.Snapshot
	attempt := func(ctx context.Context) (err error) {
		o, st, err := noted.Fail(ctx, s, failure)
		if err == nil {
			outcome, stored = o, st
		}
		return err
	}
	if err := h.Keeper.Persist(h.grant, h.key.Tenant, attempt); err != nil {
		return err
	}
	if outcome != grant.OutcomeOK {
		h.seen.moved = true
		return work.ErrAgain // somebody else's result counts
	}
	if stored.State == tokencache.Reauthorize {
		h.due, h.seen.dead = stored.RetryAt, true
	}
	t := policy.TroubleOf(h.View(stored, 0), e, failure)
	return &t
}

// publishDoubt publishes that a grant was refused as if it were dead, and that this is not believed.
func (h *Holder) publishDoubt(s *engine.Snapshot, e *provider.Error) error {
	h.Log.Warn().Str("tenant", h.key.Tenant).Int64("generation", s.Generation).Str("code", e.Code).Int("status", e.Status).
		Msg("refused, but so are too many others: it will be tried again")
	doubted := *e
	doubted.Err = policy.ErrMassDeath
	return h.publish(s, &doubted, policy.DoubtedDeath(e, rand.Float64()))
}
