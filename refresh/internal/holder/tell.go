package holder

import (
	"context"

	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// tellBegin tells that s is presented, and returns the ctx whose values the exchange has; nil for none.
func tellBegin(h *Holder, s *engine.Snapshot) context.Context {
	if h.Observe == nil {
		return nil
	}
	h.callers.Exchange, h.seen.ended = h.Observe.Exchange(h.callers.Ctx, observe.Exchange{
		Tenant: h.key.Tenant, Generation: s.Generation, Why: why(h, s), Takeover: h.seen.takeover, SecondOpinion: h.seen.second,
	})
	return h.callers.Exchange
}

// tellEnd tells how an exchange of s has ended, once.
func tellEnd(h *Holder, s *engine.Snapshot, p provider.Pair, failure *provider.Error) (outcome observe.Outcome) {
	if h.seen.ended == nil {
		return ""
	}
	e := observe.EndOf(p, failure, h.took)
	e.CommitID = h.seen.commit
	if h.seen.moved {
		e.Outcome = observe.Adopted
	}
	id := p.RequestID
	if failure != nil {
		id = failure.RequestID
	}
	e.RequestID = requestID(id, s.Pair, grant.Pair{AccessToken: grant.Hide(p.AccessToken), RefreshToken: grant.Hide(p.RefreshToken)})
	h.seen.ended(e)
	h.seen.ended = nil
	return e.Outcome
}

// tellAll is tellEnd for the last exchange under a claim of s, and tells what it has saved.
func tellAll(h *Holder, s *engine.Snapshot, p provider.Pair, failure *provider.Error) {
	if h.Observe == nil {
		return
	}
	outcome := tellEnd(h, s, p, failure)
	got := outcome == observe.Refreshed || outcome == observe.Kept
	for save, is := range map[string]bool{
		observe.Takeover: h.seen.takeover, observe.SecondOpinion: h.seen.second, observe.LateCommit: h.took > h.ExchangeTimeout,
	} {
		if got && is {
			h.Observe.Counted(observe.Saves, save)
		}
	}
	if h.seen.takeover {
		h.Observe.Counted(observe.Takeovers, h.seen.result(outcome, got))
	}
}
