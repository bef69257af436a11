package refresh

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// Connect stores the pair of a new consent: what oauth2.Config.Exchange returned after
// the tenant authorized the app. It wins over everything older, also over an exchange
// that is under way. Of the answer's further members only "scope" and the refresh
// token's lifetime are kept.
//
// Where no consent is needed (provider.ClientCredentials and kin), tok is nil: the first access
// token is minted, by one process, and a grant that is there already is left as it is. So
// workers may call it whenever they start.
func (c *Coordinator) Connect(ctx context.Context, tenant string, tok *oauth2.Token) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	if c.cfg.Provider.Mints && (tok == nil || tok.AccessToken == "") {
		return c.enroll(ctx, k)
	}
	if tok == nil || tok.AccessToken == "" {
		return errors.New("refresh: Connect: the token has no access token")
	}
	if tok.RefreshToken == "" && !c.cfg.Provider.Mints {
		return errors.New("refresh: Connect: the token has no refresh token, so it cannot be kept alive: ask for offline access (scope or parameter of the provider) when sending the tenant to consent")
	}
	_, err := c.cache.Connect(ctx, k, c.locker.Name(), func(now int64) tokencache.Pair {
		return c.consented(tok, now)
	})
	if err != nil {
		return c.about(k, err)
	}
	c.log.Info().Str("tenant", tenant).Msg("connected")
	return nil
}

// enroll mints the first access token of a grant that needs no consent. One that has a grant
// already is left as it is: workers may call this whenever they start.
func (c *Coordinator) enroll(ctx context.Context, k tokencache.Key) error {
	pin := c.cache.Pin(k)
	defer pin.Unpin()
	_ = pin.Confirmed(ctx) // else the lease's end is waited for
	for ctx.Err() == nil {
		news, told := pin.Changed(), pin.Told()
		if _, there, err := c.enrolled(ctx, k); there || err != nil {
			return err
		}
		lease, err := c.locker.Try(ctx, c.cache.LockKey(k))
		var held *lock.HeldError
		switch {
		case errors.As(err, &held): // another worker is about it
			pin.SetLeaseHeld(held.For+slack, told)
			pause(ctx, pin.LeaseHeld(), news)
		case err != nil:
			return c.about(k, err)
		default:
			return c.enrollUnder(ctx, lease, k)
		}
	}
	return left(ctx, k)
}

// enrolled is the grant as it is, and whether it needs nothing.
func (c *Coordinator) enrolled(ctx context.Context, k tokencache.Key) (s *tokencache.Snapshot, there bool, err error) {
	s, err = c.read(ctx, k)
	switch {
	case errors.Is(err, tokencache.ErrNone):
		return nil, false, nil
	case err != nil:
		return nil, false, c.about(k, err)
	}
	return s, s.State == tokencache.Active, nil
}

func (c *Coordinator) enrollUnder(ctx context.Context, lease *lock.Lease, k tokencache.Key) error {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
		defer cancel()
		_ = lease.Release(ctx)
		_ = c.cache.Released(ctx, k, 0)
	}()
	s, there, err := c.enrolled(ctx, k) // whoever had the lease before may have minted since
	if there || err != nil {
		return err
	}
	return c.mintFirst(ctx, k, s)
}

// mintFirst needs no claim: nothing is spent by a second one.
func (c *Coordinator) mintFirst(ctx context.Context, k tokencache.Key, before *tokencache.Snapshot) error {
	app, leave, err := c.admittedToMint(ctx, k)
	if err != nil {
		return c.about(k, err)
	}
	defer leave()
	g := provider.Grant{App: k.App, Tenant: k.Tenant}
	if before != nil {
		g.Generation = before.Generation
	}
	start := time.Now()
	p, failed := c.exchange(c.cfg.ExchangeTimeout, g)
	if failed != nil {
		c.learned(app, failed)
		return c.about(k, &Error{Kind: kindOf(failed.Class), Code: failed.Code, Status: failed.Status, RetryAfter: min(failed.RetryAfter, maxPause), Err: failed})
	}
	c.accepted(tokencache.Acceptance{Read: true})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	_, err = c.cache.Connect(ctx, k, c.locker.Name(), func(now int64) tokencache.Pair {
		return c.pair(&tokencache.Snapshot{Key: k}, p, now-time.Since(start).Milliseconds()-1)
	})
	if err != nil {
		return c.about(k, err)
	}
	return nil
}

// admittedToMint waits for the budget and for the app's circuit. The caller calls leave.
func (c *Coordinator) admittedToMint(ctx context.Context, k tokencache.Key) (app admission, leave func(), _ error) {
	for ctx.Err() == nil && c.waiting.Err() == nil {
		done, err := c.approach(ctx, c.applicant(k.Tenant, nil), true, c.waiting.Done())
		switch {
		case err != nil:
			return app, nil, err
		case done == nil:
			continue
		}
		leave, err := c.paced(ctx, func() bool { return true })
		if leave == nil || err != nil {
			done()
			return app, nil, orLeft(err, ctx, k)
		}
		app, ok, err := c.admitted(c.applicant(k.Tenant, nil))
		if ok {
			return app, func() { leave(); done() }, nil
		}
		leave()
		done()
		if err != nil {
			return app, nil, err
		}
	}
	if err := context.Cause(c.waiting); err != nil {
		return app, nil, err
	}
	return app, nil, left(ctx, k)
}

func orLeft(err error, ctx context.Context, k tokencache.Key) error {
	if err != nil {
		return err
	}
	return left(ctx, k)
}

func (c *Coordinator) consented(tok *oauth2.Token, now int64) tokencache.Pair {
	// Expiry was made from expires_in by this machine's clock, and is undone by it.
	var life time.Duration
	if tok.Expiry.IsZero() {
		life = c.profile.Lifetime(0)
	} else {
		life = time.Until(tok.Expiry)
	}
	expires := now + life.Milliseconds()
	scope, _ := tok.Extra("scope").(string)
	return tokencache.Pair{
		AccessToken: tok.AccessToken, RefreshToken: tok.RefreshToken, TokenType: tok.TokenType, Scope: scope,
		IssuedAt: now, ExpiresAt: expires,
		RefreshAt:             refreshAt(c.profile, now, expires, jitter()),
		RefreshTokenExpiresAt: refreshTokenExpiry(c.profile, saidLifetime(tok), now, now, 0),
	}
}

// saidLifetime is the refresh token's lifetime as a consent's answer tells it.
func saidLifetime(tok *oauth2.Token) time.Duration {
	for _, name := range []string{"refresh_token_expires_in", "x_refresh_token_expires_in", "refresh_expires_in"} {
		var seconds float64
		switch v := tok.Extra(name).(type) {
		case float64:
			seconds = v
		case json.Number:
			seconds, _ = v.Float64()
		case string:
			seconds, _ = strconv.ParseFloat(v, 64)
		}
		if seconds > 0 && seconds < 1e9 {
			return time.Duration(seconds * float64(time.Second))
		}
	}
	return 0
}

// Disconnect ends the grant, for instance when the tenant uninstalls the app. Whatever
// an exchange under way still brings is refused. It does not revoke the token at the
// provider (RFC 7009).
func (c *Coordinator) Disconnect(ctx context.Context, tenant string) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	if err := c.cache.Disconnect(ctx, k, c.locker.Name()); err != nil {
		return c.about(k, err)
	}
	c.log.Info().Str("tenant", tenant).Msg("disconnected")
	return nil
}
