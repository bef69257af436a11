package refresh

import (
	"context"
	"errors"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// failed publishes what came of a failed exchange, so that everybody gets the same
// answer. Without result and error the grant is to be looked at again.
func (f *flight) failed(s *engine.Snapshot, e *provider.Error) (*engine.Snapshot, error) {
	switch {
	case s.State == tokencache.Reauthorize:
		return f.stillDead(s, e)
	case e.Class == provider.Reauthorize && !f.c.cfg.Provider.Mints:
		return f.verify(s, e, "")
	case e.Class == provider.Refused && !f.c.cfg.Provider.Mints && refusedToTheEnd(&s.Record, s.Now(), s.Valid()):
		return f.verify(s, e, refusedForLong)
	}
	failure := grant.Failure{
		ID: engine.NewID(), Verdict: grant.Unspent, Error: errorText(e),
		Retry: retryIn(s.Fails+1, e, jitter()), Unknown: e.Class == provider.Refused,
	}
	if e.Class.MaybeSpent() {
		failure.Verdict = grant.MaybeSpent
		failure.Deadline = f.c.takeover != engine.AtOnce
		if e.Code != hangs {
			failure.Over = f.c.patience()
		}
		// Before the window shuts, in which presenting again is harmless.
		if left := s.Until(s.Claim.At + time.Duration(f.c.takeover).Milliseconds()); f.c.takeover > 0 && left > firstRetry/2 {
			failure.Deadline, failure.Retry = false, min(failure.Retry, left/2)
		}
	}
	if e.Class == provider.Refused && s.Fails+1 >= suspectAfter {
		failure.Reason = suspect
	}
	return f.publish(s, e, failure)
}

// stillDead publishes that a revival has failed, whatever came of it: the grant stays as dead as it
// was, and the next revival is as far off as it would be anyway.
func (f *flight) stillDead(s *engine.Snapshot, e *provider.Error) (*engine.Snapshot, error) {
	failure := grant.Failure{
		ID: engine.NewID(), Verdict: grant.Refused, Error: errorText(e), Reason: s.Reason,
		Retry: revivalIn(s.Reason, s.Revivals+1, jitter()),
	}
	switch {
	case e.Class.MaybeSpent():
		failure.Verdict = grant.MaybeSpent
	case e.Class != provider.Reauthorize:
		failure.Verdict = grant.Unspent
	}
	f.c.log.Info().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Int64("revivals", s.Revivals+1).
		Str("code", e.Code).Int("status", e.Status).Msg("presented again, and still dead")
	return f.publish(s, e, failure)
}

// doubtful reports whether a refusal is to be heard twice before it is believed. It is not where the
// refresh token is known to have ended, nor where an answer to it was lost, nor while so many are
// refused that none is believed.
func (f *flight) doubtful(s *engine.Snapshot, e *provider.Error) bool {
	if e == nil || e.Class != provider.Reauthorize || f.c.cfg.Provider.Mints || s.State != tokencache.Active {
		return false
	}
	if app := f.c.app.KnownApp(); app != nil && massDies(app) {
		return false
	}
	switch reasonFor(&s.Record, s.Now()) {
	case tokenExpired:
		return false
	case lostResponse:
		_, status, _ := parseErrorText(s.Error)
		return status >= 500 // it has said that it failed: the token may well be alive
	}
	return true
}

// secondOpinionBudget is how long the second presentation waits for the app's budget.
const secondOpinionBudget = 5 * time.Second

// secondOpinion prepares the second presentation of a refresh token that was refused, under the same
// claim, which it makes stand longer first: should this process die on the way, it is taken over as any
// other is. It gives the place among the exchanges back while it waits, and lets those go first for
// whom somebody waits and who may be alive. Without snapshot and error the grant is to be looked at again.
func (f *flight) secondOpinion(s *engine.Snapshot, e *provider.Error, leave *func()) (*engine.Snapshot, error) {
	refused := *e
	refused.Class = provider.Refused // nobody is to be told that the tenant must consent again
	// Not where it is written that nobody presents: then it is not, and somebody verifies later.
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	outcome, now, err := f.grant.Fail(ctx, s, grant.Failure{
		ID: engine.NewID(), Verdict: grant.Again, Error: errorText(&refused),
		Retry: 2*secondOpinionAfter + secondOpinionBudget + f.c.cfg.ClaimTimeout + f.c.patience(),
	})
	if err != nil || outcome != grant.OK || now.Claim.ID != s.Claim.ID { // memory may have moved on meanwhile
		return nil, err
	}
	s = now
	f.c.log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Str("code", e.Code).Int("status", e.Status).
		Msg("refused by the provider: asking once more before that is believed")
	(*leave)()
	*leave = func() {}
	if moved, err := f.linger(s, jittered(secondOpinionAfter, jitter())); moved || err != nil {
		return nil, f.undecided(s, &refused, err)
	}
	waiting, cancel := context.WithTimeoutCause(context.Background(), secondOpinionBudget, errBudget)
	defer cancel()
	again, err := f.c.paced(waiting, func() bool { return false })
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
		now := f.grant.Remembered()
		if now != nil && ((position{s.Epoch, s.Generation}).before(&now.Record) || now.Claim.ID != s.Claim.ID) {
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
		ID: engine.NewID(), Verdict: grant.Unspent, Error: errorText(refused), Retry: firstRetry,
	})
	return why
}

// verify does what is due before a grant is declared dead: an earlier presentation may
// still bring the pair; a sibling's pair may lie spare. The reason is reasonFor's unless it is given.
func (f *flight) verify(s *engine.Snapshot, e *provider.Error, reason string) (*engine.Snapshot, error) {
	if moved, err := f.awaitEarlier(s); moved || err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	spare, ok, err := f.grant.Spare(ctx, s)
	switch {
	case errors.Is(err, tokencache.ErrSealed): // whoever verifies later may have no better keyset, and presents the refused token again
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
	if reason == "" {
		reason = reasonFor(&s.Record, s.Now())
	}
	if (reason == invalidGrant || reason == refusedForLong) && f.c.doubted() {
		return f.doubt(s, e)
	}
	f.c.log.Error().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Str("reason", reason).
		Str("code", e.Code).Int("status", e.Status).Msg("the tenant must reauthorize")
	return f.publish(s, e, grant.Failure{
		ID: engine.NewID(), Verdict: grant.Refused, Error: errorText(e), Reason: reason,
		Retry: revivalIn(reason, 0, jitter()),
	})
}

// awaitEarlier waits until an earlier holder of this generation can no longer bring the
// pair, and reports whether the grant has moved on.
func (f *flight) awaitEarlier(s *engine.Snapshot) (bool, error) {
	for {
		news := f.pin.Changed()
		now := f.grant.Remembered()
		if now != nil && (position{s.Epoch, s.Generation}).before(&now.Record) {
			return true, nil
		}
		if err := context.Cause(f.c.waiting); err != nil {
			return false, err // the claim stays unresolved: somebody verifies later
		}
		left := s.Until(s.Claim.Prior)
		if left == 0 {
			return false, nil
		}
		f.wait(news, left)
	}
}

// publish stores a failure. The holder's own callers get the cause with it.
func (f *flight) publish(s *engine.Snapshot, e *provider.Error, failure grant.Failure) (*engine.Snapshot, error) {
	var outcome grant.Outcome
	var stored *engine.Snapshot
	attempt := func(ctx context.Context) (err error) {
		o, st, err := f.grant.Fail(ctx, s, failure)
		if err == nil {
			outcome, stored = o, st
		}
		return err
	}
	if err := f.c.persist(f.key, attempt); err != nil {
		return nil, err
	}
	if outcome != grant.OK {
		return nil, nil // somebody else's result counts
	}
	out := &Error{Kind: kindOf(e.Class), Code: orElse(failure.Reason, e.Code), Status: e.Status, Err: e}
	if stored.State == tokencache.Reauthorize {
		out.Kind, out.Code, f.due = ErrReauthorize, failure.Reason, stored.RetryAt
	} else {
		out.RetryAfter = stored.Until(stored.RetryAt) + slack // clocks need not agree to the ms
	}
	return nil, out
}
