package refresh

import (
	"context"
	"errors"
	"net/http"

	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
)

// Reject reports that an API answered 401 to an access token (RFC 6750 §3.1,
// invalid_token), and waits until a newer one is there: after nil, Token returns another
// than the one that was refused. If that is the grant's current one, one refresh is made
// across the fleet, however many report it; if not, a newer one is there already.
//
// A fresh access token (up to 10 minutes old) that is refused too forces one more refresh at
// once, the next ones only 1, 2, 4, 8, 16 and 30 minutes (and up to a quarter more) after
// the one before, or once the token is 10 minutes old. A refusal before that makes the
// grant "suspect": the error is of kind ErrUnavailable with that code, status 401 and
// RetryAfter. An API that refuses every token costs at most 10 exchanges in the first hour,
// then 6 an hour. Token goes on serving meanwhile: other APIs may well accept what this one
// refuses. What they refuse waits too; [Coordinator.Refresh] does not. The row is
// forgotten an hour after its last wait, and by a new consent.
//
// Otherwise errors are those of Token. accessToken is the token alone, without "Bearer".
func (c *Coordinator) Reject(ctx context.Context, tenant, accessToken string) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	if accessToken == "" {
		return errors.New("refresh: Reject: no access token: give exactly the one that was refused")
	}
	s, err := c.flights.Lookup(ctx, k)
	if err != nil {
		return c.answer(k, err)
	}
	if s.Pair.AccessToken.Reveal() == "" {
		if s, err = c.await(ctx, k, policy.Want{}); err != nil { // it says why
			return err
		}
	}
	if s.Pair.AccessToken.Reveal() != accessToken {
		c.seen.app.Counted(observe.Rejects, observe.Newer)
		return nil
	}
	newer := flight.NewerThan(s)
	newer.Refused = true
	s, err = c.await(ctx, k, newer)
	if err == nil && s.Pair.AccessToken.Reveal() == accessToken {
		return &Error{App: k.App, Tenant: k.Tenant, Kind: ErrUnavailable, Code: policy.ReasonSuspect,
			Status: http.StatusUnauthorized, RetryAfter: policy.FirstRetry, Err: errSameToken}
	}
	return err
}
