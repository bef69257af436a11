package refresh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/internal/exchange"
	"github.com/tokenlatch/tokenlatch/refresh/internal/pair"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Connect stores the pair of a new consent: what oauth2.Config.Exchange returned after
// the tenant authorized the app. It wins over everything older, also over an exchange
// that is under way. Of the answer's further members only "scope" and the refresh
// token's lifetime are kept.
//
// A repeat changes nothing: a caller that got an error (the reply of Redis was lost, perhaps) may call
// Connect again with the same token, whatever has happened in between. A token whose refresh token
// this fleet has redeemed already is refused (tokencache.ErrSpent): what is stored is newer. So is
// one whose consent Disconnect has ended since; the error is of kind ErrNotConnected then.
//
// The pair of a consent that another one replaces within ten minutes is kept: callbacks can come in
// the other order, and the provider may have ended the one that comes last. It is tried before the
// grant is declared dead.
//
// Where no consent is needed (provider.ClientCredentials and kin), tok is nil: the first access
// token is minted, by one process, and a grant that is there already is left as it is. So
// workers may call it whenever they start.
func (c *Coordinator) Connect(ctx context.Context, tenant string, tok *oauth2.Token, opts ...ConnectOption) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	if err := c.readyForMore(ctx, k); err != nil {
		return c.about(k, err)
	}
	if c.cfg.Provider.Mints && (tok == nil || tok.AccessToken == "") {
		return c.enroll(ctx, k)
	}
	first, err := c.firstPair("Connect", tok, opts)
	if err != nil {
		return err
	}
	_, err = c.app.Grant(k.Tenant).Connect(ctx, first, c.acked)
	switch {
	case errors.Is(err, tokencache.ErrSpent):
		return fmt.Errorf("refresh: %s: Connect: keep what is stored; if that is dead, the tenant must consent anew: %w", k, err)
	case err != nil:
		return c.about(k, err)
	}
	c.log.Info().Str("tenant", tenant).Msg("connected")
	return nil
}

// ConnectOption alters what Connect and Import store.
type ConnectOption func(*connecting)

type connecting struct{ extra map[string]any }

// WithExtra keeps further members of the provider's answer with the grant, such as instance_url:
// Token's Extra tells them from the first token on. Members of the answers to refreshes are kept by
// themselves. A refresh token among them is dropped.
func WithExtra(members map[string]any) ConnectOption {
	return func(c *connecting) { c.extra = members }
}

// ImportResult is what Import has done.
type ImportResult string

const (
	Imported ImportResult = "imported"
	// Exists: the tenant has a grant, or has disconnected one; it is left as it is.
	Exists ImportResult = "exists"
)

// Import is Connect for grants that are moved here from elsewhere: it stores the pair of a tenant
// that has no grant, and never touches one that has. So an import that was broken off can be run
// again as a whole, also while the grants that it brought are refreshed already. Where you do not
// know tok.Expiry, set it to now.
//
// It asks the other processes first whether they remember a grant that Redis has lost.
func (c *Coordinator) Import(ctx context.Context, tenant string, tok *oauth2.Token, opts ...ConnectOption) (ImportResult, error) {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return "", err
	}
	first, err := c.firstPair("Import", tok, opts)
	if err != nil {
		return "", err
	}
	if err := c.readyForMore(ctx, k); err != nil {
		return "", c.about(k, err)
	}
	_, err = c.app.Grant(k.Tenant).Import(ctx, first, c.acked)
	switch {
	case errors.Is(err, engine.ErrExists):
		return Exists, nil
	case err != nil:
		return "", c.about(k, err)
	}
	return Imported, nil
}

// firstPair is how the first pair of a grant is made, given Redis' time; or what is wrong with tok.
func (c *Coordinator) firstPair(call string, tok *oauth2.Token, opts []ConnectOption) (func(now int64) grant.Pair, error) {
	if tok == nil || tok.AccessToken == "" {
		return nil, fmt.Errorf("refresh: %s: the token has no access token", call)
	}
	if tok.RefreshToken == "" && !c.cfg.Provider.Mints {
		return nil, fmt.Errorf("refresh: %s: the token has no refresh token, so it cannot be kept alive: ask for offline access (scope or parameter of the provider) when sending the tenant to consent", call)
	}
	var with connecting
	for _, o := range opts {
		o(&with)
	}
	extra, err := pair.Storable(with.extra)
	if err != nil {
		return nil, fmt.Errorf("refresh: %s: WithExtra: %w", call, err)
	}
	return func(now int64) grant.Pair {
		return c.pairs.OfConsent(tok, extra, now)
	}, nil
}

// enroll mints the first access token of a grant that needs no consent. One that has a grant
// already is left as it is: workers may call this whenever they start.
func (c *Coordinator) enroll(ctx context.Context, k tokencache.Key) error {
	pin := c.app.Grant(k.Tenant).Pin()
	defer pin.Unpin()
	_ = pin.Confirmed(ctx) // else the lease's end is waited for
	for ctx.Err() == nil {
		news, told := pin.Changed(), pin.LeaseNews()
		if _, there, err := c.enrolled(ctx, k); there || err != nil {
			return err
		}
		if e := c.refused.standing(k.Tenant); e != nil {
			return c.about(k, e)
		}
		lease, err := c.locker.Try(ctx, c.app.Grant(k.Tenant).LockKey())
		var held *lock.HeldError
		switch {
		case errors.As(err, &held): // another worker is about it
			pin.SetLeaseHeld(held.For+policy.Slack, told)
			work.Pause(ctx, pin.LeaseHeld(), news)
		case err != nil:
			return c.about(k, err)
		default:
			return c.enrollUnder(ctx, lease, k)
		}
	}
	return left(ctx, k)
}

// enrolled is the grant as it is, and whether it needs nothing.
func (c *Coordinator) enrolled(ctx context.Context, k tokencache.Key) (s *engine.Snapshot, there bool, err error) {
	s, err = c.read(ctx, k)
	switch {
	case errors.Is(err, tokencache.ErrNone):
		return nil, false, nil
	case err != nil:
		return nil, false, c.about(k, err)
	}
	if there = s.State == tokencache.Active; there && c.cfg.Replicas > 0 { // perhaps an earlier call has said that they have not
		if err := c.app.Grant(k.Tenant).Acknowledged(ctx, c.acked); err != nil {
			return nil, false, c.about(k, err)
		}
	}
	return s, there, nil
}

func (c *Coordinator) enrollUnder(ctx context.Context, lease *lock.Lease, k tokencache.Key) error {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), work.RedisTimeout)
		defer cancel()
		_ = lease.Release(ctx)
		_ = c.app.Grant(k.Tenant).Released(ctx, 0)
	}()
	s, there, err := c.enrolled(ctx, k) // the holder before may have minted since
	if there || err != nil {
		return err
	}
	return c.mintFirst(ctx, k, s)
}

// mintFirst needs no claim: nothing is spent by a second one.
func (c *Coordinator) mintFirst(ctx context.Context, k tokencache.Key, before *engine.Snapshot) error {
	if e := c.refused.standing(k.Tenant); e != nil { // those who waited for the lease with this one
		return c.about(k, e)
	}
	app, leave, err := c.admitToMint(ctx, k)
	if err != nil {
		return c.about(k, err)
	}
	defer leave()
	g := provider.Grant{App: k.App, Tenant: k.Tenant}
	if before != nil {
		g.Generation = before.Generation
	}
	start := time.Now()
	p, failed := c.mint(g)
	if failed != nil {
		c.noteFailure(app, failed)
		return c.about(k, c.refused.note(k.Tenant, failed))
	}
	c.refused.forget(k.Tenant)
	c.noteAcceptance(engine.Acceptance{Read: true})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), work.RedisTimeout)
	defer cancel()
	_, err = c.app.Grant(k.Tenant).Connect(ctx, func(now int64) grant.Pair {
		return c.pairs.OfAnswer(pair.Before{Tenant: k.Tenant}, p, now-time.Since(start).Milliseconds()-1)
	}, c.acked)
	if err != nil {
		return c.about(k, err)
	}
	return nil
}

// mint is an exchange that spends nothing: nobody waits for an Exchanger that ignores its ctx.
func (c *Coordinator) mint(g provider.Grant) (provider.Pair, *provider.Error) {
	x, run := c.exchanges.Prepare(exchange.Limits{Send: c.cfg.ExchangeTimeout}, g)
	if err := c.work.Begin(run); err != nil {
		x.End(context.Canceled)
		return provider.Pair{}, &provider.Error{Class: provider.Unsent, Code: "closed", Err: err}
	}
	hung := time.NewTimer(c.cfg.ClaimTimeout)
	defer hung.Stop()
	select {
	case <-x.Answered:
		return x.Pair, x.Failure
	case <-hung.C:
		return provider.Pair{}, &provider.Error{Class: provider.Ambiguous, Code: policy.CodeHangs, Err: exchange.ErrHangs}
	}
}

// admitToMint waits for the budget and for the app's circuit. The caller calls leave.
func (c *Coordinator) admitToMint(ctx context.Context, k tokencache.Key) (app admission, leave func(), _ error) {
	for ctx.Err() == nil && c.work.Waiting.Err() == nil {
		done, err := c.approach(ctx, c.applicant(k.Tenant, nil), true, c.work.Waiting.Done())
		switch {
		case err != nil:
			return app, nil, err
		case done == nil:
			continue
		}
		leave, err := c.pace(ctx, func() bool { return true })
		if leave == nil || err != nil {
			done()
			return app, nil, orLeft(err, ctx, k)
		}
		app, ok, err := c.admit(c.applicant(k.Tenant, nil))
		if ok {
			return app, func() { leave(); done() }, nil
		}
		leave()
		done()
		if err != nil {
			return app, nil, err
		}
	}
	if err := context.Cause(c.work.Waiting); err != nil {
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

// Disconnect ends the grant, for instance when the tenant uninstalls the app. Whatever
// an exchange under way still brings is refused. It does not revoke the token at the
// provider (RFC 7009).
func (c *Coordinator) Disconnect(ctx context.Context, tenant string) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	if err := c.app.Grant(k.Tenant).Disconnect(ctx, c.acked); err != nil {
		return c.about(k, err)
	}
	c.log.Info().Str("tenant", tenant).Msg("disconnected")
	return nil
}
