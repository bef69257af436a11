package holder

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/exchange"
	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

var errLate = errors.New("this process was stopped between claim and exchange")

// exchange presents the refresh token, once, and waits for what comes of it.
func (h *Holder) exchange(s *engine.Snapshot) (provider.Pair, *provider.Error) {
	x := h.present(s)
	h.took = 0
	switch {
	case x == nil:
		return provider.Pair{}, &provider.Error{Class: provider.Unsent, Code: "paused", Err: errLate}
	case h.answer(s, x):
		h.took = x.Took
		return x.Pair, x.Failure
	}
	h.took = h.ClaimTimeout
	h.Log.Error().Err(exchange.ErrHangs).Str("tenant", h.key.Tenant).Int64("generation", s.Generation).Msg("given up: the outcome of this exchange is not known")
	done := h.Underway.Add(s)
	h.Work.Go(func() {
		defer done()
		<-x.Answered
		if x.Failure != nil {
			h.keepUnread(s, x.Pair, x.Failure)
			return
		}
		if _, outcome, err := h.store(s, x.Pair, x.Took); err == nil && outcome == grant.OutcomeOK {
			h.Observe.Counted(observe.Saves, observe.LateCommit)
		}
	})
	return provider.Pair{}, &provider.Error{Class: provider.Ambiguous, Code: policy.CodeHangs, Err: exchange.ErrHangs}
}

// present begins to present the refresh token, once. The caller's ctx has no part in it. Nil: it is
// too late for that.
func (h *Holder) present(s *engine.Snapshot) *exchange.Exchange {
	// The request must leave well before the claim's hard deadline, also if this process was paused
	// since it claimed: after it, another may present.
	margin := h.ClaimTimeout - h.ExchangeTimeout
	left := func() time.Duration { return s.Until(s.Claim.Until) - h.Rules.Patience() - margin/2 }
	l := exchange.Limits{Send: min(h.ExchangeTimeout, left()), Late: func() bool { return left() <= 0 }}
	if l.Send <= 0 {
		return nil
	}
	// Where presenting again will be harmless then, it hangs up in time.
	if h.Takeover != grant.AtOnce {
		l.Listen = policy.ListenFor
		window := func() time.Duration { return s.Until(s.Claim.At + time.Duration(h.Takeover).Milliseconds()) }
		if window() > l.Send+policy.FirstRetry/2 {
			l.HangUp = func() bool { return window() > policy.FirstRetry/2 }
		}
	}
	l.Values = tellBegin(h, s)
	x, run := h.Exchanges.Prepare(l, provider.Grant{
		App: s.App, Tenant: s.Tenant, Generation: s.Generation,
		AccessToken: s.Pair.AccessToken.Reveal(), RefreshToken: s.Pair.RefreshToken.Reveal(),
		Scope: s.Pair.Scope, Extra: s.Pair.Extra,
	})
	h.Work.Go(run)
	return x
}

// answer waits for the provider's. Callers are answered in time: when the exchange's timeout is over
// they get an error, and the answer is still listened to. False: the Exchanger does not return, and
// the claim's own time is over.
func (h *Holder) answer(s *engine.Snapshot, x *exchange.Exchange) bool {
	end := h.keepClaim(s, x)
	margin := h.ClaimTimeout - h.ExchangeTimeout
	late := time.NewTimer(x.Send + margin/2)
	defer late.Stop()
	slow := time.NewTimer(x.Send)
	defer slow.Stop()
	for {
		select {
		case <-x.Answered:
			end(x.Failure != nil)
			return true
		case <-slow.C:
			if x.Listening() {
				h.probed()
				h.callers.SendAway(Slow())
				h.Log.Warn().Str("tenant", h.key.Tenant).Int64("generation", s.Generation).Msg("the provider takes its time: callers are sent away, and its answer is still waited for")
			}
		case <-late.C:
			if !x.Listening() {
				x.Timeout() // in a process that was stopped it may not have come to that
			}
			if !x.Listening() {
				end(true)
				return false
			}
			late.Reset(x.Left() + margin/2)
		}
	}
}

// slowExchange is the code of an exchange that takes longer than its timeout.
const slowExchange = "slow_exchange"

// Slow returns what callers hear while an exchange takes longer than its timeout.
func Slow() *policy.Trouble {
	return &policy.Trouble{Code: slowExchange, Retry: policy.Jitter(policy.SlowRetry, rand.Float64()), Why: exchange.ErrSlow}
}

// keepClaim puts the claim's hard deadline off while an answer is listened to for longer than the
// exchange's timeout: nobody else may present meanwhile. It does so when the claim's own time is
// short, then every third of a lease, and when another process asks before it takes over. The
// returned function ends it, and waits for that if it is told to: what follows shortens the claim.
func (h *Holder) keepClaim(s *engine.Snapshot, x *exchange.Exchange) (end func(wait bool)) {
	if x.Listen == 0 {
		return func(bool) {}
	}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan struct{}, 1)
	done := h.Pin.AtIt(func() {
		select {
		case asked <- struct{}{}:
		default:
		}
	})
	h.Work.Go(func() {
		defer close(ended)
		every := min(h.Locker.TTL(), h.ClaimTimeout/2) / 3
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			failure := ""
			select {
			case <-ctx.Done():
				return
			case <-asked:
			case <-tick.C:
				if s.Until(s.Claim.Until)-h.Rules.Patience() > h.ClaimTimeout/3 {
					continue
				}
			}
			if !x.Listening() {
				continue
			}
			if x.Slow() {
				failure = policy.ErrorText(&provider.Error{Class: provider.Ambiguous, Code: slowExchange})
			}
			if now := h.extend(ctx, s, failure, 2*every); now != nil {
				s = now
			}
		}
	})
	return func(wait bool) {
		done()
		cancel()
		if wait {
			<-ended
		}
	}
}
