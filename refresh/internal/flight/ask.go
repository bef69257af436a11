package flight

import (
	"cmp"
	"errors"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/holder"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// askWait is how long others have to restore what Redis lost.
const askWait = 300 * time.Millisecond

func standingOf(s *engine.Snapshot) standing {
	if s.ClaimUntil() > s.Now() { // presenting again is harmless by now: whether the holder lives the lease tells
		return standing{id: s.Claim.ID}
	}
	return standing{s.Claim.ID, s.Claim.Until}
}

// ask gives the other processes the chance to say that they know a state after `known`:
// Redis may have lost it. The error is ErrNone if there is nobody to ask.
func (f *flight) ask(known *grant.Record) error {
	f.asked = time.Now()
	if err := f.subscribe(); err != nil {
		return err
	}
	listening, err := f.grant.Ask(f.Work.Waiting, known.Epoch, known.Generation, known.Rev)
	if err != nil {
		return err
	}
	if !listening {
		return tokencache.ErrNone
	}
	for end := time.Now().Add(askWait); time.Now().Before(end) && f.Work.Waiting.Err() == nil; {
		news := f.pin.Changed()
		if s := f.grant.Recall(); s != nil && policy.PositionOf(known).Before(&s.Record) {
			return nil
		}
		f.wait(news, time.Until(end))
	}
	return nil
}

// wait ends with news, at the time, or when the coordinator closes.
func (f *flight) wait(news <-chan struct{}, until time.Duration) {
	f.busy = true
	work.Pause(f.Work.Waiting, until, news)
}

// askBefore does what is due before a grant is led where presenting its refresh token twice does harm: a
// failover can lose a commit that other processes have seen, and the holder of a claim may live. It
// returns the grant as it was judged. The error is work.ErrAgain if the
// grant must be looked at again.
func (f *flight) askBefore(s *engine.Snapshot, news <-chan struct{}) (*engine.Snapshot, error) {
	if f.Takeover == grant.AtOnce {
		return s, nil
	}
	if f.Underway.Has(s) {
		return nil, holder.Slow()
	}
	if ago, set := f.Cache.ClockSet(); s.Claim.Unresolved() && set && ago < f.ClaimTimeout+f.Rules.Patience() {
		// By Redis' clock its time may be over long before its holder's is.
		f.wait(news, f.ClaimTimeout+f.Rules.Patience()-ago)
		return nil, work.ErrAgain
	}
	judged, left, doubtful, err := f.mayHaveLost(s)
	early := f.asked.IsZero() || time.Since(f.asked) > policy.Slack-left // asked before all were back, or never
	switch {
	case err != nil:
		return nil, err
	case doubtful && f.asked.IsZero(), doubtful && left <= 0 && early:
		if err := f.ask(&s.Record); !errors.Is(err, tokencache.ErrNone) {
			return nil, cmp.Or(err, work.ErrAgain)
		}
		// A process that remembers better may be where this server's PUBLISH does not count it.
		f.wait(news, askWait)
		return nil, work.ErrAgain
	case doubtful && left > 0:
		f.wait(news, left)
		return nil, work.ErrAgain
	case s.Claim.Unresolved() && f.claim != standingOf(s): // one that lives may have put it off before, and does so again
		f.claim = standingOf(s)
		if err := f.ask(&s.Record); !errors.Is(err, tokencache.ErrNone) {
			return nil, cmp.Or(err, work.ErrAgain)
		}
	}
	return judged, nil
}

// mayHaveLost is engine.Grant.MayHaveLost, where Redis may have lost a claim: not one that its replicas have
// acknowledged.
func (f *flight) mayHaveLost(s *engine.Snapshot) (judged *engine.Snapshot, left time.Duration, doubtful bool, err error) {
	if f.Replicas > 0 {
		return s, 0, false, nil
	}
	return f.grant.MayHaveLost(f.Work.Waiting, s)
}
