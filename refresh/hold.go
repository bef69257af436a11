package refresh

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// redisTimeout bounds one Redis operation of a holder.
const redisTimeout = 5 * time.Second

// hold is what the holder of the lease does: claim, exchange, commit. It does not look
// at the lease again: a commit is judged by generation, and once the refresh token may
// have been sent nothing cancels the rest.
func (f *flight) hold(lease *lock.Lease, s *tokencache.Snapshot) (*tokencache.Snapshot, error) {
	if lease.Context().Err() != nil {
		return nil, nil // this process was stopped: somebody else may have the lease
	}
	defer f.heartbeat(lease)()
	leave, err := f.paced(lease)
	if leave == nil || err != nil {
		return nil, err
	}
	defer func() { leave() }()
	app, ok, err := f.c.admitted(f.c.applicant(f.key.Tenant, &s.Record)) // after the wait: the app may have been stopped meanwhile
	if !ok || err != nil {
		return nil, err
	}
	s, err = f.claim(s)
	if s == nil || err != nil {
		f.c.unused(app)
		return nil, err
	}
	pair, failure := f.exchange(s)
	if f.doubtful(s, failure) {
		f.c.learned(app, failure)
		if s, err = f.secondOpinion(s, failure, &leave); s == nil || err != nil {
			return nil, err
		}
		pair, failure = f.exchange(s)
	}
	if failure != nil {
		f.c.learned(app, failure)
		return f.failed(s, failure)
	}
	revived := app.doubted || s.State == tokencache.Reauthorize
	defer f.c.accepted(tokencache.Acceptance{Read: true, Revived: revived}) // the pair comes first
	return f.commit(s, pair, tokencache.NewID())
}

// paced waits until the app's budget allows an exchange. Without error and leave the lease
// was lost meanwhile, and the grant is to be looked at again.
func (f *flight) paced(lease *lock.Lease) (leave func(), err error) {
	if f.want.background {
		return func() {}, nil // it has waited before it took the lease
	}
	return f.c.paced(lease.Context(), f.urgent.Load)
}

// paced waits until the app's budget allows an exchange, for as long as one may take. Without
// error and leave ctx has ended.
func (c *Coordinator) paced(ctx context.Context, urgent func() bool) (leave func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.ExchangeTimeout, errBudget)
	defer cancel()
	defer context.AfterFunc(c.waiting, cancel)()
	leave, err = c.pacer.enter(ctx, urgent)
	switch {
	case errors.Is(err, errBudget):
		return nil, &Error{Kind: ErrUnavailable, Code: "budget", RetryAfter: retryIn(3, &provider.Error{}, jitter()), Err: errBudget}
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(c.waiting)
	}
	return leave, err
}

// claim notes that this process presents s's generation. No claim, no exchange: without
// a snapshot the grant is to be looked at again.
func (f *flight) claim(s *tokencache.Snapshot) (*tokencache.Snapshot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	id := tokencache.NewID()
	outcome, claimed, err := f.c.cache.Claim(ctx, s, id, f.c.locker.Name(), f.c.cfg.ClaimTimeout, f.c.takeover)
	switch {
	case err != nil:
		f.unclaim(s, id)
		return nil, err
	case outcome == tokencache.OK && claimed.Claim.ID == id:
		return claimed, nil // else memory has moved on meanwhile: look again
	case outcome == tokencache.Moved && (position{s.Epoch, s.Generation}).before(&claimed.Record):
		return nil, nil // the lease was free because its holder was done
	case outcome == tokencache.Claimed:
		time.Sleep(5 * slack) // by its clock it is too early, which can have been set: do not ask at full speed
	default:
		time.Sleep(slack) // our clock was a little ahead of Redis': do not ask at full speed
	}
	return nil, nil
}

// unclaim resolves a claim that may have been stored although its reply was lost. The
// refresh token was not sent; others need not wait for the hard deadline.
func (f *flight) unclaim(s *tokencache.Snapshot, id string) {
	stale := *s
	stale.Claim.ID = id
	failure := tokencache.Failure{
		ID: tokencache.NewID(), Verdict: tokencache.Unspent,
		Error: errorText(&provider.Error{Class: provider.Unsent, Code: "redis"}),
	}
	if s.State == tokencache.Reauthorize {
		failure.Retry = revivalIn(s.Reason, s.Revivals+1, jitter())
	}
	tries := 3
	_ = f.c.persist(f.key, func(ctx context.Context) error {
		outcome, _, err := f.c.cache.Fail(ctx, &stale, f.c.locker.Name(), failure)
		if tries--; err == nil && outcome == tokencache.Claimed && tries > 0 {
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
				_ = f.c.cache.Alive(ctx, f.key, ttl) // waiters without it look for themselves
			}
		}
	})
	return cancel
}

var errLate = errors.New("this process was stopped between claim and exchange")

// exchange presents the refresh token, once. The caller's ctx has no part in it.
func (f *flight) exchange(s *tokencache.Snapshot) (provider.Pair, *provider.Error) {
	// The answer must be in before the claim's hard deadline, also if this process was
	// paused since it claimed: after it, another may present.
	margin := f.c.cfg.ClaimTimeout - f.c.cfg.ExchangeTimeout
	left := min(f.c.cfg.ExchangeTimeout, s.Until(s.Claim.Until)-margin/2)
	if left <= 0 {
		return provider.Pair{}, &provider.Error{Class: provider.Unsent, Code: "paused", Err: errLate}
	}
	return f.c.exchange(left, provider.Grant{
		App: f.key.App, Tenant: f.key.Tenant, Generation: s.Generation,
		AccessToken: s.Pair.AccessToken.Reveal(), RefreshToken: s.Pair.RefreshToken.Reveal(),
		Scope: s.Pair.Scope, Extra: s.Pair.Extra,
	})
}

// exchange presents a grant's credentials, once, and says in the log what came of it.
func (c *Coordinator) exchange(timeout time.Duration, g provider.Grant) (provider.Pair, *provider.Error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	start := time.Now()
	pair, err := c.present(ctx, g)
	tell := func(level *zerolog.Event) *zerolog.Event {
		return level.Str("tenant", g.Tenant).Int64("generation", g.Generation).Dur("took_ms", time.Since(start))
	}
	if err != nil {
		var failure *provider.Error
		if !errors.As(err, &failure) {
			failure = &provider.Error{Class: provider.Ambiguous, Err: err}
		}
		tell(c.log.Warn()).Str("class", failure.Class.String()).Str("code", failure.Code).Int("status", failure.Status).Msg("exchange failed")
		return provider.Pair{}, failure
	}
	if pair.AccessToken == "" {
		return pair, &provider.Error{Class: provider.Ambiguous, Code: "no_access_token"}
	}
	tell(c.log.Info()).Msg("exchange succeeded")
	return pair, nil
}

// present makes the request. While a client secret is being rotated, the other one is tried
// when the first is refused: that has not spent the refresh token.
func (c *Coordinator) present(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	now, other := c.cfg.Provider.Exchanger, c.cfg.Provider.Fallback
	swapped := c.fallback.Load()
	if swapped {
		now, other = other, now
	}
	pair, err := now.Exchange(ctx, g)
	var refused *provider.Error
	if other == nil || !errors.As(err, &refused) || refused.Class != provider.AppRefused {
		return pair, err
	}
	pair, err = other.Exchange(ctx, g)
	if !errors.As(err, &refused) || refused.Class != provider.AppRefused {
		c.fallback.Store(!swapped) // it is the one that is accepted
	}
	return pair, err
}

// pair is what is stored of an exchange's answer. Times count from the Redis time of
// the claim, which is before the request was sent.
func (c *Coordinator) pair(s *tokencache.Snapshot, p provider.Pair, now int64) tokencache.Pair {
	expires := now + c.profile.Lifetime(p.ExpiresIn).Milliseconds()
	if !p.Usable() {
		expires = now
	}
	out := tokencache.Pair{
		AccessToken: tokencache.Hide(p.AccessToken), RefreshToken: tokencache.Hide(orElse(p.RefreshToken, s.Pair.RefreshToken.Reveal())),
		TokenType: p.TokenType, Scope: orElse(p.Scope, s.Pair.Scope), Extra: p.Extra,
		IssuedAt: now, ExpiresAt: expires,
		RefreshAt:             refreshAt(c.profile, now, expires, jitter()),
		RefreshTokenExpiresAt: refreshTokenExpiry(c.profile, p.RefreshTokenExpiresIn, now, s.Epoch, s.RefreshTokenExpiresAt),
	}
	// Members that say where the API is may come with the consent alone: new over old.
	if len(s.Pair.Extra) > 0 && len(p.Extra) > 0 {
		out.Extra = maps.Clone(s.Pair.Extra)
		maps.Copy(out.Extra, p.Extra)
	} else if out.Extra == nil {
		out.Extra = s.Pair.Extra
	}
	out.Extra, _ = provider.WithoutRefreshTokens(out.Extra).(map[string]any) // an Exchanger of one's own may bring them
	return out
}

// commit stores the only living pair. If Redis does not take it at once, this process
// serves it from memory and goes on trying.
func (f *flight) commit(s *tokencache.Snapshot, p provider.Pair, id string) (*tokencache.Snapshot, error) {
	pair := f.c.pair(s, p, s.At())
	var outcome tokencache.Outcome
	var stored *tokencache.Snapshot
	attempt := func(ctx context.Context) (err error) {
		o, st, err := f.c.cache.Commit(ctx, s, id, f.c.locker.Name(), pair, false, f.used.Load())
		if err == nil {
			outcome, stored = o, st
		}
		return err
	}
	if err := f.c.persist(f.key, attempt); err != nil {
		f.c.log.Error().Err(err).Str("tenant", f.key.Tenant).Int64("generation", s.Generation+1).
			Msg("Redis does not take the new pair: serving it from memory and trying again")
		return f.c.cache.Hold(s, id, f.c.locker.Name(), pair), nil
	}
	if outcome == tokencache.OK {
		f.due = stored.RefreshAt
		if !p.Usable() {
			return f.unusable(s, stored)
		}
		f.c.log.Info().Str("tenant", f.key.Tenant).Int64("generation", stored.Generation).Msg("refreshed")
		return stored, nil
	}
	f.c.log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation+1).
		Msg("the new pair was refused: a newer consent, or another exchange of this generation won")
	return nil, nil
}

// commitWait is how long callers wait for Redis to take a change before they get their
// result from memory.
const commitWait = time.Second

var errSlow = errors.New("redis does not answer in time")

// persist stores what must not be lost. It returns when the first attempt has ended or
// takes too long; after a failure it goes on trying in the background, bounded by
// CommitPatience. Close waits for it. Only after nil may the caller read what attempt
// wrote.
func (c *Coordinator) persist(k tokencache.Key, attempt func(context.Context) error) error {
	first := make(chan error, 1)
	pin := c.cache.Pin(k)
	c.work.Go(func() {
		defer pin.Unpin()
		c.keepTrying(k, attempt, first)
	})
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
	pause := 50 * time.Millisecond
	for n := 1; ; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
		err := attempt(ctx)
		cancel()
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
		time.Sleep(pause/2 + rand.N(pause/2))
		pause = min(2*pause, 2*time.Second)
	}
}
