package refresh

import (
	"context"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// failed publishes what came of a failed exchange, so that everybody gets the same
// answer. Without result and error the grant is to be looked at again.
func (f *flight) failed(s *tokencache.Snapshot, e *provider.Error) (*tokencache.Snapshot, error) {
	if e.Class == provider.Reauthorize && !f.c.cfg.Provider.Mints {
		return f.verify(s, e)
	}
	failure := tokencache.Failure{
		ID: tokencache.NewID(), Verdict: tokencache.Unspent, Error: errorText(e),
		Retry: retryIn(s.Fails+1, e, jitter()),
	}
	if e.Class.MaybeSpent() {
		failure.Verdict = tokencache.MaybeSpent
		failure.Deadline = f.c.takeover != tokencache.AtOnce
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

// verify does what is due before a grant is declared dead: an earlier presentation may
// still bring the pair; a sibling's pair may lie spare.
func (f *flight) verify(s *tokencache.Snapshot, e *provider.Error) (*tokencache.Snapshot, error) {
	if moved, err := f.awaitEarlier(s); moved || err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	spare, ok, err := f.c.cache.Spare(ctx, s)
	if err != nil {
		return nil, err // the claim stays unresolved: somebody verifies later
	}
	if ok {
		f.c.log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).
			Msg("refused by the provider: trying the spare pair")
		spare.ExpiresAt, spare.RefreshAt = s.Now(), s.Now() // its family may be dead: present it next
		_, _, err := f.c.cache.Commit(ctx, s, tokencache.NewID(), f.c.locker.Name(), spare, true, f.used.Load())
		return nil, err
	}
	reason := reasonFor(&s.Record, s.Now())
	if reason == "invalid_grant" && f.c.doubted() {
		return f.doubt(s, e)
	}
	f.c.log.Error().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Str("reason", reason).
		Str("code", e.Code).Int("status", e.Status).Msg("the tenant must reauthorize")
	return f.publish(s, e, tokencache.Failure{
		ID: tokencache.NewID(), Verdict: tokencache.Refused, Error: errorText(e), Reason: reason,
	})
}

// awaitEarlier waits until an earlier holder of this generation can no longer bring the
// pair, and reports whether the grant has moved on.
func (f *flight) awaitEarlier(s *tokencache.Snapshot) (bool, error) {
	for {
		news := f.pin.Changed()
		now := f.c.cache.Remembered(f.key)
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
func (f *flight) publish(s *tokencache.Snapshot, e *provider.Error, failure tokencache.Failure) (*tokencache.Snapshot, error) {
	var outcome tokencache.Outcome
	var stored *tokencache.Snapshot
	attempt := func(ctx context.Context) (err error) {
		o, st, err := f.c.cache.Fail(ctx, s, f.c.locker.Name(), failure)
		if err == nil {
			outcome, stored = o, st
		}
		return err
	}
	if err := f.c.persist(f.key, attempt); err != nil {
		return nil, err
	}
	if outcome != tokencache.OK {
		return nil, nil // somebody else's result counts
	}
	out := &Error{Kind: kindOf(e.Class), Code: orElse(failure.Reason, e.Code), Status: e.Status, Err: e}
	if stored.State == tokencache.Reauthorize {
		out.Kind, out.Code = ErrReauthorize, failure.Reason
	} else {
		out.RetryAfter = stored.Until(stored.RetryAt) + slack // clocks need not agree to the ms
	}
	return nil, out
}
