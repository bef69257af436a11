package holder

import (
	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Lead tries the lease once and does the holder's work: news ends the waits before it. The error is
// work.ErrAgain if the grant must be looked at again.
func (h *Holder) Lead(s *engine.Snapshot, news <-chan struct{}) (got *engine.Snapshot, _ error) {
	canSeal := func() error { return h.grant.CanSeal(s) } // else the pair that comes could not be stored
	err := h.lead(h.Work.Waiting, h.Economy.Applicant(h.key.Tenant, s), news, canSeal, func(lease *lock.Lease) (err error) {
		got, err = h.refresh(lease, s)
		return err
	})
	return got, err
}

// refresh does what the holder of the lease must: claim, exchange, commit. It does not look
// at the lease again: a commit is judged by generation, and once the refresh token may
// have been sent nothing cancels the rest.
func (h *Holder) refresh(lease *lock.Lease, s *engine.Snapshot) (*engine.Snapshot, error) {
	if lease.Context().Err() != nil {
		return nil, work.ErrAgain // this process was stopped: somebody else may have the lease
	}
	defer h.heartbeat(lease)()
	turn, err := h.Economy.Turn(lease.Context(), h.Economy.Applicant(h.key.Tenant, s), h.callers.ticket(), h.callers.Urgent.Load)
	if err != nil {
		return nil, err
	}
	defer turn.Leave()
	h.seen = seen{takeover: s.Claim.Unresolved()}
	if s, err = h.claim(s); err != nil {
		turn.GiveBack()
		return nil, err
	}
	defer h.Underway.Add(s)()
	pair, failure := h.exchange(s)
	defer func() { tellAll(h, s, pair, failure) }()
	if h.needsSecondOpinion(s, failure) {
		tellEnd(h, s, pair, failure)
		turn.NoteFailure(failure)
		if s, err = h.secondOpinion(s, failure, turn); err != nil {
			return nil, err
		}
		h.seen.second = true
		pair, failure = h.exchange(s)
	}
	if failure != nil {
		h.keepUnread(s, pair, failure)
		turn.NoteFailure(failure)
		return nil, h.recordFailure(s, failure)
	}
	revived := turn.Doubted || s.State == grant.Reauthorize
	defer turn.NoteAcceptance(engine.Acceptance{Read: true, Revived: revived}) // the pair comes first
	return h.commit(s, pair)
}
