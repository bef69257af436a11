package refresh

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// redisTimeout bounds one Redis operation of a holder.
const redisTimeout = 5 * time.Second

// refresh is what the holder of the lease does: claim, exchange, commit. It does not look
// at the lease again: a commit is judged by generation, and once the refresh token may
// have been sent nothing cancels the rest.
func (f *flight) refresh(lease *lock.Lease, s *engine.Snapshot) (*engine.Snapshot, error) {
	if lease.Context().Err() != nil {
		return nil, nil // this process was stopped: somebody else may have the lease
	}
	defer f.heartbeat(lease)()
	leave, err := f.pace(lease)
	if leave == nil || err != nil {
		return nil, err
	}
	defer func() { leave() }()
	app, ok, err := f.c.admit(f.c.applicant(f.key.Tenant, &s.Record)) // after the wait: the app may have been stopped meanwhile
	if !ok || err != nil {
		return nil, err
	}
	s, err = f.claim(s)
	if s == nil || err != nil {
		f.c.giveBack(app)
		return nil, err
	}
	defer f.c.underway.add(s)()
	pair, failure := f.exchange(s)
	if f.needsSecondOpinion(s, failure) {
		f.c.noteFailure(app, failure)
		if s, err = f.secondOpinion(s, failure, &leave); s == nil || err != nil {
			return nil, err
		}
		pair, failure = f.exchange(s)
	}
	if failure != nil {
		f.keepUnread(s, pair, failure)
		f.c.noteFailure(app, failure)
		return f.recordFailure(s, failure)
	}
	revived := app.Doubted || s.State == tokencache.Reauthorize
	defer f.c.noteAcceptance(engine.Acceptance{Read: true, Revived: revived}) // the pair comes first
	return f.commit(s, pair)
}

// exchange presents the refresh token, once, and waits for what comes of it.
func (f *flight) exchange(s *engine.Snapshot) (provider.Pair, *provider.Error) {
	x := f.present(s)
	f.took = 0
	switch {
	case x == nil:
		return provider.Pair{}, &provider.Error{Class: provider.Unsent, Code: "paused", Err: errLate}
	case f.answer(s, x):
		f.took = x.took
		return x.pair, x.failure
	}
	f.took = time.Since(x.start)
	f.c.log.Error().Err(errHangs).Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Msg("given up: the outcome of this exchange is not known")
	done := f.c.underway.add(s)
	f.c.work.Go(func() {
		defer done()
		<-x.answered
		if x.failure != nil {
			f.keepUnread(s, x.pair, x.failure)
			return
		}
		_, _, _ = f.store(s, x.pair, x.took)
	})
	return provider.Pair{}, &provider.Error{Class: provider.Ambiguous, Code: policy.CodeHangs, Err: errHangs}
}

// pace waits until the app's budget allows an exchange. Without error and leave the lease
// was lost meanwhile, and the grant must be looked at again.
func (f *flight) pace(lease *lock.Lease) (leave func(), err error) {
	if f.spontaneous() {
		leave, err := f.c.pacer.enterNow(f.want.background)
		if errors.Is(err, errNoPlace) {
			err = &Error{Kind: ErrUnavailable, Code: "budget", RetryAfter: policy.FirstRetry, Err: err}
		}
		return leave, err
	}
	return f.c.pace(lease.Context(), f.urgent.Load)
}

// pace waits until the app's budget allows an exchange, for as long as one may take. Without
// error and leave ctx has ended.
func (c *Coordinator) pace(ctx context.Context, urgent func() bool) (leave func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.ExchangeTimeout, errBudget)
	defer cancel()
	defer context.AfterFunc(c.waiting, cancel)()
	leave, err = c.pacer.enter(ctx, urgent)
	switch {
	case errors.Is(err, errBudget):
		return nil, &Error{Kind: ErrUnavailable, Code: "budget", RetryAfter: policy.RetryIn(3, &provider.Error{}, random()), Err: errBudget}
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(c.waiting)
	}
	return leave, err
}

// claim notes that this process presents s's generation. No claim, no exchange: without
// a snapshot the grant must be looked at again.
func (f *flight) claim(s *engine.Snapshot) (*engine.Snapshot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	id := engine.NewID()
	outcome, claimed, err := f.grant.With(journal.Note{Why: f.why(s)}).Claim(ctx, s, id, f.c.cfg.ClaimTimeout+f.c.rules.Patience(), f.c.takeover, f.c.acked)
	switch {
	case err != nil:
		f.unclaim(s, id, err)
		return nil, err
	case outcome == grant.OutcomeOK && claimed.Claim.ID == id:
		return claimed, nil // else memory has moved on meanwhile: look again
	case outcome == grant.OutcomeMoved && policy.PositionOf(&s.Record).Before(&claimed.Record):
		return nil, nil // the lease was free because its holder was done
	case outcome == grant.OutcomeClaimed:
		time.Sleep(5 * policy.Slack) // by its clock it is too early, which can have been set: do not ask at full speed
	default:
		time.Sleep(policy.Slack) // our clock was a little ahead of Redis': do not ask at full speed
	}
	return nil, nil
}

// why says for what a flight presents s.
func (f *flight) why(s *engine.Snapshot) string {
	switch {
	case f.want.Refused:
		return journal.ByAPI
	case f.want.background != nil && (s.UsedAt == 0 || s.Now()-s.UsedAt >= f.c.cfg.IdleAfter.Milliseconds()):
		return journal.Idle
	case f.want.background != nil, f.want.Early:
		return journal.Due
	case f.want.After != (want{}).After:
		return journal.Forced
	default:
		return journal.Asked
	}
}

// unclaim resolves a claim that may have been stored although its reply was lost, or the
// acknowledgement of the replicas is missing. The refresh token was not sent; others need not wait
// for the hard deadline.
func (f *flight) unclaim(s *engine.Snapshot, id string, why error) {
	stale := *s
	stale.Claim.ID = id
	failure := grant.Failure{ID: engine.NewID(), Verdict: grant.VerdictWithdraw, Error: policy.ErrorText(&provider.Error{Class: provider.Unsent, Code: "redis"})}
	if s.State == tokencache.Reauthorize {
		failure.Retry = policy.RevivalIn(s.Reason, s.Revivals+1, random())
	}
	tries := 3
	if errors.Is(why, tokencache.ErrNotReplicated) { // it is not on its way, and all who wait would find the same
		tries = 1
		failure.Error = policy.ErrorText(&provider.Error{Class: provider.Unsent, Code: notReplicated})
		failure.Retry = policy.RetryIn(1, &provider.Error{}, random())
	}
	_ = f.c.persist(f.key, func(ctx context.Context) error {
		outcome, _, err := f.grant.Fail(ctx, &stale, failure)
		if tries--; err == nil && outcome == grant.OutcomeClaimed && tries > 0 {
			return errSlow // the claim may still be on its way, on another connection
		}
		return err
	})
}

// heartbeat tells the waiters every third of the lease that it is still held, so that
// none of them has to ask. The returned function stops it.
func (f *flight) heartbeat(lease *lock.Lease) (stop func()) {
	ctx, cancel := context.WithCancel(lease.Context())
	ttl := f.c.locker.TTL()
	f.c.work.Go(func() {
		tick := time.NewTicker(ttl / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = f.grant.Alive(ctx, ttl) // waiters without it look for themselves
			}
		}
	})
	return cancel
}

var errLate = errors.New("this process was stopped between claim and exchange")

// present begins to present the refresh token, once. The caller's ctx has no part in it. Nil: it is
// too late for that.
func (f *flight) present(s *engine.Snapshot) *exchanging {
	// The request must leave well before the claim's hard deadline, also if this process was paused
	// since it claimed: after it, another may present.
	margin := f.c.cfg.ClaimTimeout - f.c.cfg.ExchangeTimeout
	left := func() time.Duration { return s.Until(s.Claim.Until) - f.c.rules.Patience() - margin/2 }
	l := limits{send: min(f.c.cfg.ExchangeTimeout, left()), late: func() bool { return left() <= 0 }}
	if l.send <= 0 {
		return nil
	}
	// Where presenting again will be harmless then, it hangs up in time.
	if f.c.takeover != grant.AtOnce {
		l.listen = policy.ListenFor
		window := func() time.Duration { return s.Until(s.Claim.At + time.Duration(f.c.takeover).Milliseconds()) }
		if window() > l.send+policy.FirstRetry/2 {
			l.hangUp = func() bool { return window() > policy.FirstRetry/2 }
		}
	}
	x, run := f.c.exchange(l, provider.Grant{
		App: f.key.App, Tenant: f.key.Tenant, Generation: s.Generation,
		AccessToken: s.Pair.AccessToken.Reveal(), RefreshToken: s.Pair.RefreshToken.Reveal(),
		Scope: s.Pair.Scope, Extra: s.Pair.Extra,
	})
	f.c.work.Go(run)
	return x
}

// answer waits for the provider's. Callers are answered in time: when the exchange's timeout is over
// they get an error, and the answer is still listened to. False: the Exchanger does not return, and
// the claim's own time is over.
func (f *flight) answer(s *engine.Snapshot, x *exchanging) bool {
	end := f.keepClaim(s, x)
	margin := f.c.cfg.ClaimTimeout - f.c.cfg.ExchangeTimeout
	late := time.NewTimer(x.send + margin/2)
	defer late.Stop()
	slow := time.NewTimer(x.send)
	defer slow.Stop()
	for {
		select {
		case <-x.answered:
			end(x.failure != nil)
			return true
		case <-slow.C:
			if x.listening() {
				f.probed()
				f.notify(nil, &Error{Kind: ErrUnavailable, Code: slowExchange, RetryAfter: policy.Jitter(policy.SlowRetry, random()), Err: errSlowExchange})
				f.c.log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Msg("the provider takes its time: callers are sent away, and its answer is still waited for")
			}
		case <-late.C:
			if !x.listening() {
				x.timeout() // in a process that was stopped it may not have come to that
			}
			if !x.listening() {
				end(true)
				return false
			}
			late.Reset(x.listen - time.Since(x.start) + margin/2)
		}
	}
}

// slowExchange is the code of an exchange that takes longer than its timeout.
const slowExchange = "slow_exchange"

// keepClaim puts the claim's hard deadline off while an answer is listened to for longer than the
// exchange's timeout: nobody else may present meanwhile. It does so when the claim's own time is
// short, then every third of a lease, and when another process asks before it takes over. The
// returned function ends it, and waits for that if it is told to: what follows shortens the claim.
func (f *flight) keepClaim(s *engine.Snapshot, x *exchanging) (end func(wait bool)) {
	if x.listen == 0 {
		return func(bool) {}
	}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan struct{}, 1)
	done := f.pin.AtIt(func() {
		select {
		case asked <- struct{}{}:
		default:
		}
	})
	f.c.work.Go(func() {
		defer close(ended)
		every := min(f.c.locker.TTL(), f.c.cfg.ClaimTimeout/2) / 3
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			failure := ""
			select {
			case <-ctx.Done():
				return
			case <-asked:
			case <-tick.C:
				if s.Until(s.Claim.Until)-f.c.rules.Patience() > f.c.cfg.ClaimTimeout/3 {
					continue
				}
			}
			if !x.listening() {
				continue
			}
			if time.Since(x.start) >= x.send {
				failure = policy.ErrorText(&provider.Error{Class: provider.Ambiguous, Code: slowExchange})
			}
			if now := f.extend(ctx, s, failure, 2*every); now != nil {
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

// extend puts the hard deadline of the claim off, as far as Redis takes it: the pair is on its way, or
// waits here to be stored.
func (f *flight) extend(ctx context.Context, s *engine.Snapshot, failure string, retry time.Duration) *engine.Snapshot {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	outcome, now, err := f.grant.Extend(ctx, s, f.c.cfg.ClaimTimeout+f.c.rules.Patience(), failure, retry)
	if err != nil || outcome != grant.OutcomeOK || now.Claim.ID != s.Claim.ID {
		return nil
	}
	return now
}

// pair is what is stored of an exchange's answer. Times count from the Redis time of
// the claim, which is before the request was sent.
func (c *Coordinator) pair(s *engine.Snapshot, p provider.Pair, now int64) grant.Pair {
	expires := now + c.profile.Lifetime(p.ExpiresIn).Milliseconds()
	if !p.Usable() {
		expires = now
	}
	extra, dropped := toStorableExtra(p.Extra)
	if dropped > 0 {
		c.log.Warn().Str("tenant", s.Tenant).Int("members", dropped).Msg("members of the answer cannot be written as JSON and are left out; the pair is kept")
	}
	out := grant.Pair{
		AccessToken: grant.Hide(p.AccessToken), RefreshToken: grant.Hide(cmp.Or(p.RefreshToken, s.Pair.RefreshToken.Reveal())),
		TokenType: p.TokenType, Scope: cmp.Or(p.Scope, s.Pair.Scope), Extra: extra,
		IssuedAt: now, ExpiresAt: expires,
		RefreshAt:             policy.RefreshAt(c.profile, now, expires, random()),
		RefreshTokenExpiresAt: policy.RefreshTokenExpiry(c.profile, p.RefreshTokenExpiresIn, now, s.Epoch, s.RefreshTokenExpiresAt),
	}
	// Members that say where the API is may come with the consent alone: new over old.
	if len(s.Pair.Extra) > 0 && len(extra) > 0 {
		out.Extra = maps.Clone(s.Pair.Extra)
		maps.Copy(out.Extra, extra)
		if _, err := jsonOf(out.Extra); err != nil { // together they are too long: what is sealed must open again
			c.log.Warn().Str("tenant", s.Tenant).Msg("the members of this answer and of those before are too long together: the new ones alone are kept")
			out.Extra = extra
		}
	} else if out.Extra == nil {
		out.Extra = s.Pair.Extra
	}
	return out
}

// commit stores the only living pair, and says what becomes of the grant by it.
func (f *flight) commit(s *engine.Snapshot, p provider.Pair) (*engine.Snapshot, error) {
	stored, outcome, err := f.store(s, p, f.took)
	switch {
	case err != nil:
		return stored, nil // from memory
	case outcome != grant.OutcomeOK:
		return nil, nil
	}
	f.due = stored.RefreshAt
	if !p.Usable() {
		return f.unusable(s, stored)
	}
	return stored, nil
}

// store stores the only living pair. If Redis does not take it at once, this process serves it from
// memory and goes on trying for as long as it lives; that is the error, and the snapshot is what
// memory holds.
func (f *flight) store(s *engine.Snapshot, p provider.Pair, took time.Duration) (*engine.Snapshot, grant.Outcome, error) {
	id, pair := engine.NewID(), f.c.pair(s, p, s.At())
	noted := f.grant.With(brought(s, p, pair, took))
	var outcome grant.Outcome
	var stored *engine.Snapshot
	done := f.c.underway.add(s)
	told := func() {
		if outcome == grant.OutcomeOK {
			f.c.log.Info().Str("tenant", f.key.Tenant).Int64("generation", stored.Generation).Msg("refreshed")
			return
		}
		f.c.log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation+1).
			Msg("the new pair was refused: a newer consent, or another exchange of this generation won")
	}
	err := f.c.keep(keeping{
		key: f.key, what: fmt.Sprintf("%s, generation %d", f.key, s.Generation+1),
		attempt: func(ctx context.Context) error {
			o, st, err := noted.Commit(ctx, s, id, pair, false, f.used.Load(), f.c.acked)
			if err == nil {
				outcome, stored = o, st
			}
			return err
		},
		// Nobody else presents the old refresh token meanwhile.
		between: func() { f.extend(context.Background(), s, "", 0) },
		late: func(ctx context.Context) {
			told()
			if outcome == grant.OutcomeOK {
				_ = f.grant.Schedule(ctx, stored.RefreshAt)
			}
		},
		done: done,
	})
	if err != nil {
		f.c.log.Error().Err(err).Str("tenant", f.key.Tenant).Int64("generation", s.Generation+1).
			Msg("Redis does not take the new pair: serving it from memory and trying again")
		return f.grant.KeepPending(s, id, pair), "", err
	}
	told()
	return stored, outcome, nil
}

// keepUnread keeps a success that could not be read, sealed: it may hold the only living pair.
func (f *flight) keepUnread(s *engine.Snapshot, p provider.Pair, e *provider.Error) {
	body := e.TakeUnread()
	if len(body) == 0 && p.RefreshToken != "" { // of an Exchanger of one's own
		body, _ = json.Marshal(map[string]string{"refresh_token": p.RefreshToken})
	}
	if len(body) == 0 {
		return
	}
	id, a := engine.NewID(), engine.UnreadAnswer{Status: e.Status, Body: grant.Hide(string(body))}
	tell := func(level *zerolog.Event) *zerolog.Event {
		return level.Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Int("bytes", len(body))
	}
	err := f.c.keep(keeping{
		key: f.key, what: fmt.Sprintf("%s, what could not be read after generation %d", f.key, s.Generation),
		attempt: func(ctx context.Context) error { return f.grant.KeepUnread(ctx, s, id, a) },
	})
	if err != nil {
		tell(f.c.log.Error()).Err(err).Msg("Redis does not take an answer that could not be read, which may hold the only living pair: trying again")
		return
	}
	tell(f.c.log.Error()).Msg("the provider's success could not be read: it may hold the only living pair, and is kept sealed for a week (engine.Grant.Unread)")
}

// persist stores what others wait for. It returns when the first attempt has ended or takes too long;
// after a failure it goes on trying in the background, bounded by CommitPatience. Close waits for
// it. Only after nil may the caller read what attempt wrote.
func (c *Coordinator) persist(k tokencache.Key, attempt func(context.Context) error) error {
	first := make(chan error, 1)
	pin := c.app.Grant(k.Tenant).Pin()
	c.work.Go(func() {
		defer pin.Unpin()
		c.keepTrying(k, attempt, first)
	})
	return firstOf(first)
}

// commitWait is how long callers wait for Redis to take a change before they get their
// result from memory.
const commitWait = time.Second

func firstOf(first <-chan error) error {
	slow := time.NewTimer(commitWait)
	defer slow.Stop()
	select {
	case err := <-first:
		return err
	case <-slow.C:
		return errSlow
	}
}

func (c *Coordinator) keepTrying(k tokencache.Key, attempt func(context.Context) error, first chan<- error) {
	end := time.Now().Add(c.cfg.CommitPatience)
	backoff := policy.Backoff{Most: 2 * time.Second}
	for n := 1; ; n++ {
		err := tryIt(attempt)
		pause := backoff.Next(random())
		if n == 1 {
			first <- err
		}
		switch {
		case err == nil && n > 1:
			c.log.Info().Str("tenant", k.Tenant).Int("attempt", n).Msg("Redis took it at last")
			return
		case err == nil:
			return
		case time.Now().Add(pause).After(end):
			c.log.Error().Err(err).Str("tenant", k.Tenant).Dur("patience_ms", c.cfg.CommitPatience).
				Msg("given up: Redis did not take a change of this grant")
			return
		}
		time.Sleep(pause)
	}
}

// tryIt makes one attempt at a change.
func tryIt(attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	return attempt(ctx)
}
