package refresh

import (
	"context"
	"errors"
	"math/rand/v2"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Token returns a valid access token. If the stored one has expired, it waits for a refresh.
// The token carries no refresh token. Callers share it: do not change it. If a caller's ctx
// ends, only that caller stops waiting: the refresh goes on.
//
// Token returns an access token that is still valid whatever became of its renewal, even if the
// tenant must authorize the app again ([Coordinator.Status] tells that earlier). The exception is
// a token that an API has refused: see [Coordinator.Reject].
//
// The error is an *Error of kind ErrReauthorize, ErrClientConfig, ErrUnavailable or
// ErrNotConnected, or the cause with which ctx ended.
func (c *Coordinator) Token(ctx context.Context, tenant string) (*oauth2.Token, error) {
	if tok := c.grants.Fresh(tenant); tok != nil {
		c.seen.hot.Add()
		return tok, nil
	}
	return c.token(ctx, c.key(tenant))
}

// token is Token for a pair that is not known to be fresh.
func (c *Coordinator) token(ctx context.Context, k tokencache.Key) (*oauth2.Token, error) {
	if s := c.app.Grant(k.Tenant).Peek(); s != nil && s.Valid() {
		c.flights.MaybeRenew(k, s)
		c.seen.hot.Add()
		return s.Token(), nil
	}
	s, err := c.await(ctx, k, policy.Want{})
	if err != nil {
		return nil, err
	}
	c.flights.MaybeRenew(k, s)
	return s.Token(), nil
}

// await waits until a flight has brought what is wanted.
func (c *Coordinator) await(ctx context.Context, k tokencache.Key, w policy.Want) (*engine.Snapshot, error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	ride := c.seen.ride()
	s, err := c.flights.Await(ctx, k, flight.Want{Want: w}, ride)
	c.seen.tell(ctx, ride, k.Tenant, w == policy.Want{}, s, err)
	if err != nil {
		return nil, c.answer(k, err)
	}
	return s, nil
}

// handle is Token for one tenant, without the look-up while the token is hot.
func (c *Coordinator) handle(tenant string) func(context.Context) (*oauth2.Token, error) {
	hot, k := c.grants.Handle(tenant), c.key(tenant)
	return func(ctx context.Context) (*oauth2.Token, error) {
		if tok := hot.Fresh(); tok != nil {
			c.seen.hot.Add()
			return tok, nil
		}
		return c.token(ctx, k)
	}
}

// TryToken is Token for callers that must not wait, such as a queue that can run the job again
// later. It reads Redis at most once, and waits for that a second at most. If a refresh is
// needed, it starts one and returns an *Error of kind ErrPending. RetryAfter says when to call
// again: about a second after the refresh began, and later if its claim has been standing for
// longer. Each caller gets another RetryAfter, so that a queue's jobs do not all call at once.
func (c *Coordinator) TryToken(ctx context.Context, tenant string) (*oauth2.Token, error) {
	if tok := c.grants.Fresh(tenant); tok != nil {
		c.seen.hot.Add()
		return tok, nil
	}
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return nil, err
	}
	peeked := c.app.Grant(tenant).Peek()
	s, err := c.flights.FirstLook(ctx, k)
	if err != nil {
		if mem := c.flights.Recall(k); mem != nil && !errors.Is(err, tokencache.ErrNone) {
			c.seen.app.Counted(observe.Served, observe.FromMemory)
			return mem.Token(), nil
		}
		return nil, c.about(k, err)
	}
	v := c.tools.View(s, 0)
	switch d := policy.Decide(v, policy.Want{}); d.Act {
	case policy.ActServe:
		c.flights.MaybeRenew(k, s)
		c.seen.countServed(s == peeked, observe.FromRedis)
		return s.Token(), nil
	case policy.ActGiveUp:
		return nil, c.about(k, d.Trouble)
	}
	if t := c.tools.Economy.Stopped(c.tools.Economy.Applicant(k.Tenant, s)); t != nil { // there is nothing to wait for
		return nil, c.about(k, t)
	}
	var why error
	if v.Claim.Unresolved() {
		why = policy.Standing(&v.Record, v.Opens)
	}
	return nil, &Error{App: k.App, Tenant: k.Tenant, Kind: ErrPending, RetryAfter: policy.PendingFor(v, rand.Float64()), Err: why}
}

// Refresh forces a new pair, however fresh the stored one is, and waits for it. If a refresh is
// under way already, it waits for that one.
func (c *Coordinator) Refresh(ctx context.Context, tenant string) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	s, err := c.flights.Lookup(ctx, k)
	if err != nil {
		return c.answer(k, err)
	}
	_, err = c.await(ctx, k, flight.NewerThan(s))
	return err
}

// Status reads the grant's state from Redis, for people. The error is of kind
// ErrNotConnected where there is none; a disconnected grant has a Status.
func (c *Coordinator) Status(ctx context.Context, tenant string) (tokencache.Status, error) {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return tokencache.Status{}, err
	}
	s, err := c.app.Grant(k.Tenant).Status(ctx)
	if errors.Is(err, tokencache.ErrNone) { // or Redis has lost it
		if _, unknown := c.app.AppState(ctx); unknown != nil {
			err = unknown
		}
	}
	if err != nil {
		return tokencache.Status{}, c.about(k, err)
	}
	return s, nil
}
