package flight

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// grow gives a new goroutine the stack that a command to Redis needs in one step, while next to
// nothing is on it that would have to be moved. Growing on the way took a seventh of the time of
// a Token from Redis.
//
//go:noinline
func grow() {
	var room [6 << 10]byte
	runtime.KeepAlive(&room)
}

// handOver is how long a lease that has done its work is kept: all processes are waking
// their callers just now, and giving it back would make each of them look up again.
const handOver = 10 * time.Millisecond

func (f *flight) run() {
	grow()
	s, err := f.fly()
	if f.land(s, err); f.holder != nil {
		f.holder.LetGo(handOver)
	}
}

// land lets go of what the flight held, and answers the callers.
func (f *flight) land(s *engine.Snapshot, err error) {
	switch {
	case f.pin != nil && s == nil:
		defer f.pin.KeepAbsent()
	case f.pin != nil:
		defer f.pin.Unpin()
	case s != nil && !f.brief:
		f.grant.Remember(s) // subscribed from now on: the next reading is coherent
	}
	if s != nil && !f.busy {
		f.served.Do(func() { close(f.Served) })
	}
	f.notify(s, err)
}

// notify answers the callers, once; who comes later joins another flight. This one may go on.
func (f *flight) notify(s *engine.Snapshot, err error) {
	select {
	case <-f.done:
		return
	default:
	}
	f.noteLook(s, err) // if it has not looked, or seen nothing
	if err != nil {
		f.trouble = f.Judge.Of(f.key.Tenant, err)
	}
	f.snap, f.end = s, end{f.busy, f.heard, f.callers.Exchange}
	f.all.Delete(f.key.Tenant)
	close(f.done)
}

// fly goes round until the grant is as wanted or somebody else must act.
func (f *flight) fly() (*engine.Snapshot, error) {
	if f.grant.KnownAbsent() {
		return nil, tokencache.ErrNone
	}
	if s, err := f.readFresh(); !errors.Is(err, work.ErrAgain) {
		return s, err
	}
	f.subscribeFirst()
	for {
		if err := context.Cause(f.Work.Waiting); err != nil {
			f.noteLook(nil, err)
			return nil, err
		}
		if s, err := f.round(); !errors.Is(err, work.ErrAgain) {
			return s, err
		}
	}
}

// round looks, decides and does one thing. The error is work.ErrAgain if that was not the last.
func (f *flight) round() (*engine.Snapshot, error) {
	news := f.news() // before looking, so that nothing falls in between
	s, coherent, err := f.look()
	if errors.Is(err, engine.ErrContradicted) {
		f.wait(news, askWait) // somebody gives it back, or Redis' word will count
		return nil, work.ErrAgain
	}
	if err != nil {
		return nil, f.orUnfit(err)
	}
	d := policy.Decide(f.View(s, f.leaseHeld()), f.want.Want)
	switch {
	case d.Act == policy.ActServe:
		return s, nil
	case d.Act == policy.ActGiveUp:
		return s, d.Trouble
	case !coherent || f.pin == nil:
		// Subscribe, then read again: what happened in between was not pushed to us.
		err = f.subscribe()
	case d.Act == policy.ActWait:
		f.wait(news, min(d.Wait, f.ClaimTimeout, noteStalled(f, s))) // then look again: Redis may be away
	case d.Act == policy.ActReport:
		err = f.report(s)
	default:
		if s, err = f.lead(s, news); err == nil {
			return s, nil
		}
	}
	return nil, f.orUnfit(cmp.Or(err, work.ErrAgain))
}

// orUnfit returns why Redis is unfit if it is known to be, else err.
func (f *flight) orUnfit(err error) error {
	if errors.Is(err, work.ErrAgain) {
		return err
	}
	return cmp.Or(f.Judge.FitForMore(f.Work.Waiting, f.key.Tenant), err)
}

// look reads the grant from coherent memory, else from Redis, and from other processes where Redis has
// none. The error is work.ErrAgain if those were asked.
func (f *flight) look() (s *engine.Snapshot, coherent bool, err error) {
	s = f.grant.Peek()
	if f.heard = s != nil; !f.heard {
		s, err = f.grant.Read(f.Work.Waiting)
	}
	coherent = f.grant.Peek() != nil
	if err == nil {
		f.noteLook(s, nil)
	}
	if errors.Is(err, tokencache.ErrNone) && f.asked.IsZero() {
		if err = f.ask(&grant.Record{}); err == nil || errors.Is(err, tokencache.ErrNone) {
			return nil, false, work.ErrAgain // subscribed now: that there is none can be remembered, until a push says otherwise
		}
	}
	if errors.Is(err, tokencache.ErrNone) {
		// The app's state knows whether Redis has lost data: without it nobody can say "not connected".
		if _, unknown := f.App.AppState(f.Work.Waiting); unknown != nil {
			err = unknown
		}
	}
	return s, coherent, err
}

// lead does what is due before a grant is led, and then the holder's work.
func (f *flight) lead(s *engine.Snapshot, news <-chan struct{}) (*engine.Snapshot, error) {
	f.busy = true
	s, err := f.askBefore(s, news)
	if err != nil {
		return nil, err
	}
	if f.holder == nil {
		f.callers.SendAway = func(t *policy.Trouble) { f.notify(nil, t) }
		f.holder = f.New(f.key, f.grant, &f.callers)
		f.holder.Pin = f.pin
	}
	return f.holder.Lead(s, news)
}

// resultOf returns what became of an access token that an API refused.
func resultOf(outcome grant.Outcome, now *engine.Snapshot) string {
	switch {
	case outcome == grant.OutcomeWait:
		return observe.Suspect
	case outcome == grant.OutcomeOK && now.Reason == policy.ReasonExternal:
		return observe.External
	case outcome == grant.OutcomeOK:
		return observe.Forced
	}
	return observe.Newer
}

// report notes that an API refused the access token. Then the record says whether that
// may force an exchange.
func (f *flight) report(s *engine.Snapshot) error {
	outcome, now, err := f.grant.Reject(f.Work.Waiting, s, policy.Refusals(rand.Float64()))
	if err != nil {
		return err
	}
	f.Observe.Counted(observe.Rejects, resultOf(outcome, now))
	log := f.Log.Info()
	if now.Reason == policy.ReasonLifetime {
		log = f.Log.Warn().Str("reason", policy.ReasonLifetime).Dur("lived_ms", grant.LearnedLife(now.Lived)).Int64("said_ms", now.ExpiresAt-now.IssuedAt)
	}
	if outcome == grant.OutcomeWait {
		log = f.Log.Warn().Str("reason", policy.ReasonSuspect).Dur("retry_in_ms", now.Until(now.RejectAt))
		time.Sleep(policy.Slack) // our clock may be a little ahead of Redis': do not ask at full speed
	}
	log.Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Int64("rejects", now.Rejects).
		Str("outcome", string(outcome)).Msg("an API refused the access token")
	return nil
}
