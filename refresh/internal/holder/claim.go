package holder

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/trouble"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// claim notes that this process presents s's generation. No claim, no exchange. The error is
// work.ErrAgain if the grant must be looked at again.
func (h *Holder) claim(s *engine.Snapshot) (*engine.Snapshot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), work.RedisTimeout)
	defer cancel()
	id := engine.NewID()
	outcome, claimed, err := h.grant.With(journal.Note{Why: why(h, s)}).Claim(ctx, s, id, h.ClaimTimeout+h.Rules.Patience(), h.Takeover, h.Acked)
	switch {
	case err != nil:
		h.unclaim(s, id, err)
		return nil, err
	case outcome == grant.OutcomeOK && claimed.Claim.ID == id:
		return claimed, nil // else memory has moved on meanwhile
	case outcome == grant.OutcomeMoved && policy.PositionOf(&s.Record).Before(&claimed.Record):
		return nil, work.ErrAgain // the lease was free because its holder was done
	case outcome == grant.OutcomeClaimed:
		time.Sleep(5 * policy.Slack) // by its clock it is too early, which can have been set: do not ask at full speed
	default:
		time.Sleep(policy.Slack) // our clock was a little ahead of Redis': do not ask at full speed
	}
	return nil, work.ErrAgain
}

// why says for what s is presented, for the journal.
func why(h *Holder, s *engine.Snapshot) string {
	switch w, background := h.callers.Want, h.callers.Background != nil; {
	case w.Refused:
		return journal.ByAPI
	case background && (s.UsedAt == 0 || s.Now()-s.UsedAt >= h.Rules.IdleAfter.Milliseconds()):
		return journal.Idle
	case background, w.Early:
		return journal.Due
	case w.After != policy.Position{}:
		return journal.Forced
	}
	return journal.Asked
}

// unclaim resolves a claim that may have been stored although its reply was lost, or the
// acknowledgement of the replicas is missing. The refresh token was not sent; others need not wait
// for the hard deadline.
func (h *Holder) unclaim(s *engine.Snapshot, id string, why error) {
	stale := *s
	stale.Claim.ID = id
	failure := grant.Failure{ID: engine.NewID(), Verdict: grant.VerdictWithdraw, Error: policy.ErrorText(&provider.Error{Class: provider.Unsent, Code: "redis"})}
	if s.State == tokencache.Reauthorize {
		failure.Retry = policy.RevivalIn(s.Reason, s.Revivals+1, rand.Float64())
	}
	tries := 3
	if errors.Is(why, tokencache.ErrNotReplicated) { // it is not on its way, and all who wait would find the same
		tries = 1
		failure.Error = policy.ErrorText(&provider.Error{Class: provider.Unsent, Code: trouble.NotReplicated})
		failure.Retry = policy.RetryIn(1, &provider.Error{}, rand.Float64())
	}
	_ = h.Keeper.Persist(h.grant, h.key.Tenant, func(ctx context.Context) error {
		outcome, _, err := h.grant.Fail(ctx, &stale, failure)
		if tries--; err == nil && outcome == grant.OutcomeClaimed && tries > 0 {
			return work.ErrSlow // the claim may still be on its way, on another connection
		}
		return err
	})
}

// extend puts the hard deadline of the claim off, as far as Redis takes it: the pair is on its way, or
// waits here to be stored.
func (h *Holder) extend(ctx context.Context, s *engine.Snapshot, failure string, retry time.Duration) *engine.Snapshot {
	ctx, cancel := context.WithTimeout(ctx, work.RedisTimeout)
	defer cancel()
	outcome, now, err := h.grant.Extend(ctx, s, h.ClaimTimeout+h.Rules.Patience(), failure, retry)
	if err != nil || outcome != grant.OutcomeOK || now.Claim.ID != s.Claim.ID {
		return nil
	}
	return now
}
