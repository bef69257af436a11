package holder

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// recordFailure publishes what came of a failed exchange, so that everybody gets the same
// answer: the error, which is work.ErrAgain if the grant must be looked at again.
func (h *Holder) recordFailure(s *engine.Snapshot, e *provider.Error) error {
	window := s.Until(s.Claim.At + time.Duration(h.Takeover).Milliseconds()) // before the view: this look wakes the clock
	v := h.View(s, 0)
	switch next, reason := h.Rules.AfterFailure(v, e); next {
	case policy.NextBury:
		h.Log.Info().Str("tenant", h.key.Tenant).Int64("generation", s.Generation).Int64("revivals", s.Revivals+1).
			Str("code", e.Code).Int("status", e.Status).Msg("presented again, and still dead")
		return h.publish(s, e, policy.FailedRevival(v, e, rand.Float64()))
	case policy.NextVerify:
		return h.verify(s, e, reason)
	}
	if h.Takeover <= 0 {
		window = 0
	}
	return h.publish(s, e, h.Rules.Failure(v, e, window, rand.Float64()))
}

// verify does what is due before a grant is declared dead: an earlier presentation may
// still bring the pair; a sibling's pair may lie spare. The reason is [policy.ReasonFor]'s unless one is given.
func (h *Holder) verify(s *engine.Snapshot, e *provider.Error, reason string) error {
	if err := h.awaitEarlier(s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), work.RedisTimeout)
	defer cancel()
	spare, ok, err := h.grant.Spare(ctx, s)
	switch {
	case errors.Is(err, tokencache.ErrSealed): // the process that verifies later may have no better keyset, and presents the refused token again
		h.Log.Error().Err(err).Str("tenant", h.key.Tenant).Int64("generation", s.Generation).
			Msg("refused by the provider, and the spare pair, which might save the grant, does not open with this process's keyset: look at it, and let the tenant be connected again if it is lost")
	case err != nil:
		return err // the claim stays unresolved: somebody verifies later
	case ok:
		h.Log.Warn().Str("tenant", h.key.Tenant).Int64("generation", s.Generation).
			Msg("refused by the provider: trying the spare pair")
		spare.ExpiresAt, spare.RefreshAt = s.Now(), s.Now() // its family may be dead: present it next
		outcome, _, err := h.grant.Commit(ctx, s, engine.NewID(), spare, true, h.callers.Used.Load())
		if err == nil && outcome == grant.OutcomeOK {
			h.Observe.Counted(observe.Saves, observe.Spare)
		}
		return cmp.Or(err, work.ErrAgain)
	}
	reason = cmp.Or(reason, policy.ReasonFor(&s.Record, s.Now()))
	if policy.Doubtable(reason) && h.Economy.DoubtsDeath() {
		return h.publishDoubt(s, e)
	}
	h.Log.Warn().Str("tenant", h.key.Tenant).Int64("generation", s.Generation).Str("reason", reason).
		Str("code", e.Code).Int("status", e.Status).Msg("the tenant must reauthorize")
	return h.publish(s, e, policy.Death(e, reason, rand.Float64()))
}

// awaitEarlier waits until an earlier holder of this generation can no longer bring the
// pair. The error is work.ErrAgain if the grant has moved on.
func (h *Holder) awaitEarlier(s *engine.Snapshot) error {
	last := time.Now().Add(h.ClaimTimeout + h.Rules.Patience()) // a deadline that was written by a clock which was ahead is further off
	for {
		news := h.Pin.Changed()
		now := h.grant.Recall()
		if now != nil && policy.PositionOf(&s.Record).Before(&now.Record) {
			return work.ErrAgain
		}
		if err := context.Cause(h.Work.Waiting); err != nil {
			return err // the claim stays unresolved: somebody verifies later
		}
		left := min(s.Until(s.Claim.Prior), time.Until(last))
		if left <= 0 {
			return nil
		}
		work.Pause(h.Work.Waiting, left, news)
	}
}
