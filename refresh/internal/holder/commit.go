package holder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/keep"
	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/pair"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// commit stores the only living pair, and says what becomes of the grant by it. The error is work.ErrAgain if
// somebody else's result counts.
func (h *Holder) commit(s *engine.Snapshot, p provider.Pair) (*engine.Snapshot, error) {
	stored, outcome, err := h.store(s, p, h.took)
	switch {
	case err != nil:
		h.seen.commit = stored.CommitID
		return stored, nil // from memory
	case outcome != grant.OutcomeOK:
		h.seen.moved = true
		return nil, work.ErrAgain
	}
	h.due, h.seen.commit = stored.RefreshAt, stored.CommitID
	if !p.Usable() {
		return h.unusable(s, stored)
	}
	return stored, nil
}

// beforeOf returns what an answer about s replaces.
func beforeOf(s *engine.Snapshot) pair.Before {
	return pair.Before{Tenant: s.Tenant, Pair: s.Pair, Epoch: s.Epoch, RefreshTokenExpiresAt: s.RefreshTokenExpiresAt, LearnedLife: grant.LearnedLife(s.Lived)}
}

// grantOf is a pair that is not stored, as the provider sees it.
func grantOf(s *engine.Snapshot, p grant.Pair) provider.Grant {
	return provider.Grant{
		App: s.App, Tenant: s.Tenant, Generation: s.Generation + 1, Scope: p.Scope, Extra: p.Extra,
		AccessToken: p.AccessToken.Reveal(), RefreshToken: p.RefreshToken.Reveal(),
	}
}

// store stores the only living pair. If Redis does not take it at once, this process serves it from
// memory and goes on trying for as long as it lives; that is the error, and the snapshot is what
// memory holds.
func (h *Holder) store(s *engine.Snapshot, p provider.Pair, took time.Duration) (*engine.Snapshot, grant.Outcome, error) {
	id, pair := engine.NewID(), h.Pairs.OfAnswer(beforeOf(s), p, s.At())
	noted := h.grant.With(brought(s, p, pair, took))
	var outcome grant.Outcome
	var stored *engine.Snapshot
	done := h.Underway.Add(s)
	told := func() {
		if outcome == grant.OutcomeOK {
			h.Log.Info().Str("tenant", h.key.Tenant).Int64("generation", stored.Generation).Str("why", why(h, s)).Dur("took_ms", took).
				Int64("waited", h.callers.Waited.Load()).Str("by", h.Locker.Name()).Msg("refreshed")
			return
		}
		h.Log.Warn().Str("tenant", h.key.Tenant).Int64("generation", s.Generation+1).
			Msg("the new pair was refused: a newer consent, or another exchange of this generation won")
		if stored != nil && stored.State == grant.Disconnected && stored.Reason == policy.ReasonRevoke {
			h.Revoke(grantOf(s, pair))
		}
	}
	err := h.Keeper.Keep(keep.Keeping{
		Grant: h.grant, Tenant: h.key.Tenant, What: fmt.Sprintf("%s, generation %d", h.key, s.Generation+1),
		Attempt: func(ctx context.Context) error {
			o, st, err := noted.Commit(ctx, s, id, pair, false, h.callers.Used.Load(), h.Acked)
			if err == nil {
				outcome, stored = o, st
			}
			return err
		},
		// Nobody else presents the old refresh token meanwhile.
		Between: func() { h.extend(context.Background(), s, "", 0) },
		Late: func(ctx context.Context) {
			told()
			if outcome == grant.OutcomeOK {
				h.Observe.Counted(observe.Saves, observe.LateCommit)
				_ = h.grant.Schedule(ctx, stored.RefreshAt)
			}
		},
		Done: done,
	})
	if err != nil {
		h.Log.Warn().Err(err).Str("tenant", h.key.Tenant).Int64("generation", s.Generation+1).
			Msg("Redis does not take the new pair: serving it from memory and trying again")
		return h.grant.KeepPending(s, id, pair), "", err
	}
	told()
	return stored, outcome, nil
}

// keepUnread keeps a success that could not be read, sealed: it may hold the only living pair.
func (h *Holder) keepUnread(s *engine.Snapshot, p provider.Pair, e *provider.Error) {
	body := e.TakeUnread()
	if len(body) == 0 && p.RefreshToken != "" { // of an Exchanger of one's own
		body, _ = json.Marshal(map[string]string{"refresh_token": p.RefreshToken})
	}
	if len(body) == 0 {
		return
	}
	id, a := engine.NewID(), engine.UnreadAnswer{Status: e.Status, Body: grant.Hide(string(body))}
	tell := func(level *zerolog.Event) *zerolog.Event {
		return level.Str("tenant", h.key.Tenant).Int64("generation", s.Generation).Int("bytes", len(body))
	}
	err := h.Keeper.Keep(keep.Keeping{
		Grant: h.grant, Tenant: h.key.Tenant, What: fmt.Sprintf("%s, what could not be read after generation %d", h.key, s.Generation),
		Attempt: func(ctx context.Context) error { return h.grant.KeepUnread(ctx, s, id, a) },
	})
	if err != nil {
		tell(h.Log.Error()).Err(err).Msg("Redis does not take an answer that could not be read, which may hold the only living pair: trying again")
		return
	}
	tell(h.Log.Error()).Msg("the provider's success could not be read: it may hold the only living pair, and is kept sealed for a week (engine.Grant.Unread)")
}

var errUnusable = errors.New("the provider's access token cannot be sent in a header: it, or its token_type, holds control characters or bytes outside ASCII; its refresh token is kept")

// unusable returns what comes of a pair that is stored, since it is the only living one, and whose
// access token nobody can send.
func (h *Holder) unusable(before, stored *engine.Snapshot) (*engine.Snapshot, error) {
	h.Log.Error().Str("tenant", h.key.Tenant).Int64("generation", stored.Generation).
		Msg("the provider's new access token cannot be sent in a header; the refresh token is kept")
	s, err := h.claim(stored) // presents nothing: a failure is published under a claim
	if err != nil {
		return nil, err
	}
	again := !(provider.Pair{AccessToken: before.Pair.AccessToken.Reveal(), TokenType: before.Pair.TokenType}).Usable()
	e := &provider.Error{Class: provider.Refused, Code: "unusable_access_token", Status: 200, Err: errUnusable}
	return nil, h.publish(s, e, grant.Failure{
		Verdict: grant.VerdictClear, Error: policy.ErrorText(e), Retry: policy.RetryUnusable(e, again, rand.Float64()),
	})
}
