package refresh

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// recordFailure publishes what came of a failed exchange, so that everybody gets the same
// answer. Without result and error the grant must be looked at again.
func (f *flight) recordFailure(s *engine.Snapshot, e *provider.Error) (*engine.Snapshot, error) {
	window := s.Until(s.Claim.At + time.Duration(f.c.takeover).Milliseconds()) // before the view: this look wakes the clock
	v := f.c.view(s, 0)
	switch next, reason := f.c.rules.AfterFailure(v, e); next {
	case policy.NextBury:
		f.c.log.Info().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Int64("revivals", s.Revivals+1).
			Str("code", e.Code).Int("status", e.Status).Msg("presented again, and still dead")
		return f.publish(s, e, policy.FailedRevival(v, e, random()))
	case policy.NextVerify:
		return f.verify(s, e, reason)
	}
	if f.c.takeover <= 0 {
		window = 0
	}
	return f.publish(s, e, f.c.rules.Failure(v, e, window, random()))
}

// needsSecondOpinion reports whether a refusal must be heard twice before it is believed.
func (f *flight) needsSecondOpinion(s *engine.Snapshot, e *provider.Error) bool {
	app := f.c.app.KnownApp()
	return f.c.rules.NeedsSecondOpinion(f.c.view(s, 0), e, app != nil && massDies(app))
}

// secondOpinion prepares the second presentation of a refresh token that was refused, under the same
// claim, which it makes stand longer first: should this process die on the way, it is taken over as any
// other is. It gives the place among the exchanges back while it waits, and lets exchanges go first that
// somebody waits for, and whose grants may be alive. Without snapshot and error the grant must be looked at again.
func (f *flight) secondOpinion(s *engine.Snapshot, e *provider.Error, leave *func()) (*engine.Snapshot, error) {
	refused := *e
	refused.Class = provider.Refused // nobody is to be told that the tenant must consent again
	// Not where it is written that nobody presents: then it is not, and somebody verifies later.
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	outcome, now, err := f.grant.With(f.failed(s, e)).Fail(ctx, s, grant.Failure{
		ID: engine.NewID(), Verdict: grant.VerdictAgain, Error: policy.ErrorText(&refused),
		Retry: 2*policy.SecondOpinionAfter + policy.SecondOpinionBudget + f.c.cfg.ClaimTimeout + f.c.rules.Patience(),
	})
	if err != nil || outcome != grant.OutcomeOK || now.Claim.ID != s.Claim.ID { // memory may have moved on meanwhile
		return nil, err
	}
	s = now
	f.c.log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Str("code", e.Code).Int("status", e.Status).
		Msg("refused by the provider: asking once more before that is believed")
	(*leave)()
	*leave = func() {}
	if moved, err := f.linger(s, policy.Jitter(policy.SecondOpinionAfter, random())); moved || err != nil {
		return nil, f.undecided(s, &refused, err)
	}
	waiting, cancel := context.WithTimeoutCause(context.Background(), policy.SecondOpinionBudget, errBudget)
	defer cancel()
	again, err := f.c.pace(waiting, func() bool { return false })
	if again == nil || err != nil {
		return nil, f.undecided(s, &refused, err)
	}
	*leave = again
	return s, nil
}

// linger waits under a claim, and reports whether the grant has moved on meanwhile. The error is that the
// coordinator closes.
func (f *flight) linger(s *engine.Snapshot, d time.Duration) (moved bool, err error) {
	for end := time.Now().Add(d); ; {
		news := f.pin.Changed()
		now := f.grant.Recall()
		if now != nil && (policy.PositionOf(&s.Record).Before(&now.Record) || now.Claim.ID != s.Claim.ID) {
			return true, nil
		}
		if err := context.Cause(f.c.waiting); err != nil {
			return false, err
		}
		left := time.Until(end)
		if left <= 0 {
			return false, nil
		}
		f.wait(news, left)
	}
}

// undecided ends a claim whose second presentation was not made: the refusal stands, but nobody has
// verified it, so that the grant is tried again soon. If it has moved on, there is nothing to end. It returns why.
func (f *flight) undecided(s *engine.Snapshot, refused *provider.Error, why error) error {
	_, _ = f.publish(s, refused, grant.Failure{
		Verdict: grant.VerdictClear, Error: policy.ErrorText(refused), Retry: policy.FirstRetry,
	})
	return why
}

// verify does what is due before a grant is declared dead: an earlier presentation may
// still bring the pair; a sibling's pair may lie spare. The reason is [policy.ReasonFor]'s unless one is given.
func (f *flight) verify(s *engine.Snapshot, e *provider.Error, reason string) (*engine.Snapshot, error) {
	if moved, err := f.awaitEarlier(s); moved || err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	spare, ok, err := f.grant.Spare(ctx, s)
	switch {
	case errors.Is(err, tokencache.ErrSealed): // the process that verifies later may have no better keyset, and presents the refused token again
		f.c.log.Error().Err(err).Str("tenant", f.key.Tenant).Int64("generation", s.Generation).
			Msg("refused by the provider, and the spare pair, which might save the grant, does not open with this process's keyset: look at it, and let the tenant be connected again if it is lost")
	case err != nil:
		return nil, err // the claim stays unresolved: somebody verifies later
	case ok:
		f.c.log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).
			Msg("refused by the provider: trying the spare pair")
		spare.ExpiresAt, spare.RefreshAt = s.Now(), s.Now() // its family may be dead: present it next
		_, _, err := f.grant.Commit(ctx, s, engine.NewID(), spare, true, f.used.Load())
		return nil, err
	}
	reason = cmp.Or(reason, policy.ReasonFor(&s.Record, s.Now()))
	if policy.Doubtable(reason) && f.c.doubtsDeath() {
		return f.publishDoubt(s, e)
	}
	f.c.log.Error().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Str("reason", reason).
		Str("code", e.Code).Int("status", e.Status).Msg("the tenant must reauthorize")
	return f.publish(s, e, policy.Death(e, reason, random()))
}

// awaitEarlier waits until an earlier holder of this generation can no longer bring the
// pair, and reports whether the grant has moved on.
func (f *flight) awaitEarlier(s *engine.Snapshot) (bool, error) {
	last := time.Now().Add(f.c.cfg.ClaimTimeout + f.c.rules.Patience()) // a deadline that was written by a clock which was ahead is further off
	for {
		news := f.pin.Changed()
		now := f.grant.Recall()
		if now != nil && policy.PositionOf(&s.Record).Before(&now.Record) {
			return true, nil
		}
		if err := context.Cause(f.c.waiting); err != nil {
			return false, err // the claim stays unresolved: somebody verifies later
		}
		left := min(s.Until(s.Claim.Prior), time.Until(last))
		if left <= 0 {
			return false, nil
		}
		f.wait(news, left)
	}
}

// failed is what came of an exchange of s that failed.
func (f *flight) failed(s *engine.Snapshot, e *provider.Error) journal.Note {
	return journal.Note{Took: f.took, RequestID: requestID(e.RequestID, s.Pair)}
}

// publish stores a failure, under an ID of its own. The holder's own callers get the cause with it.
func (f *flight) publish(s *engine.Snapshot, e *provider.Error, failure grant.Failure) (*engine.Snapshot, error) {
	failure.ID = engine.NewID()
	noted := f.grant.With(f.failed(s, e))
	var outcome grant.Outcome
	var stored *engine.Snapshot
	attempt := func(ctx context.Context) (err error) {
		o, st, err := noted.Fail(ctx, s, failure)
		if err == nil {
			outcome, stored = o, st
		}
		return err
	}
	if err := f.c.persist(f.key, attempt); err != nil {
		return nil, err
	}
	if outcome != grant.OutcomeOK {
		return nil, nil // somebody else's result counts
	}
	if stored.State == tokencache.Reauthorize {
		f.due = stored.RetryAt
	}
	trouble := policy.TroubleOf(f.c.view(stored, 0), e, failure)
	return nil, dress(&trouble)
}
