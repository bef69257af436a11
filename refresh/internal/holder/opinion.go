package holder

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/economy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// needsSecondOpinion reports whether a refusal must be heard twice before it is believed.
func (h *Holder) needsSecondOpinion(s *engine.Snapshot, e *provider.Error) bool {
	return h.Rules.NeedsSecondOpinion(h.View(s, 0), e, h.Economy.MassDies())
}

// secondOpinion prepares the second presentation of a refresh token that was refused, under the same
// claim, which it makes stand longer first: should this process die on the way, it is taken over as any
// other is. It gives the place among the exchanges back while it waits, and lets exchanges go first that
// somebody waits for, and whose grants may be alive. The error is work.ErrAgain
// if the grant must be looked at again.
func (h *Holder) secondOpinion(s *engine.Snapshot, e *provider.Error, turn *economy.Turn) (*engine.Snapshot, error) {
	refused := *e
	refused.Class = provider.Refused // nobody is to be told that the tenant must consent again
	// Not where it is written that nobody presents: then it is not, and somebody verifies later.
	ctx, cancel := context.WithTimeout(context.Background(), work.RedisTimeout)
	defer cancel()
	outcome, now, err := h.grant.With(failed(s, e, h.took)).Fail(ctx, s, grant.Failure{
		ID: engine.NewID(), Verdict: grant.VerdictAgain, Error: policy.ErrorText(&refused),
		Retry: 2*policy.SecondOpinionAfter + policy.SecondOpinionBudget + h.ClaimTimeout + h.Rules.Patience(),
	})
	if err != nil || outcome != grant.OutcomeOK || now.Claim.ID != s.Claim.ID { // memory may have moved on meanwhile
		return nil, cmp.Or(err, work.ErrAgain)
	}
	s = now
	h.Log.Warn().Str("tenant", h.key.Tenant).Int64("generation", s.Generation).Str("code", e.Code).Int("status", e.Status).
		Msg("refused by the provider: asking once more before that is believed")
	turn.Leave()
	if err := h.linger(s, policy.Jitter(policy.SecondOpinionAfter, rand.Float64())); err != nil {
		return nil, h.endUndecided(s, &refused, err)
	}
	if err := turn.Return(policy.SecondOpinionBudget); err != nil {
		return nil, h.endUndecided(s, &refused, err)
	}
	return s, nil
}

// linger waits under a claim. The error is work.ErrAgain if the grant has moved on meanwhile, or that the
// coordinator closes.
func (h *Holder) linger(s *engine.Snapshot, d time.Duration) error {
	for end := time.Now().Add(d); ; {
		news := h.Pin.Changed()
		now := h.grant.Recall()
		if now != nil && (policy.PositionOf(&s.Record).Before(&now.Record) || now.Claim.ID != s.Claim.ID) {
			return work.ErrAgain
		}
		if err := context.Cause(h.Work.Waiting); err != nil {
			return err
		}
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		work.Pause(h.Work.Waiting, left, news)
	}
}

// endUndecided ends a claim whose second presentation was not made: the refusal stands, but nobody has
// verified it, so that the grant is tried again soon. If it has moved on, there is nothing to end. It returns why.
func (h *Holder) endUndecided(s *engine.Snapshot, refused *provider.Error, why error) error {
	_ = h.publish(s, refused, grant.Failure{
		Verdict: grant.VerdictClear, Error: policy.ErrorText(refused), Retry: policy.FirstRetry,
	})
	return why
}
