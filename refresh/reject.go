package refresh

import (
	"context"
	"errors"
	"net/http"

	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
)

// Reject reports that an API answered 401 to an access token (RFC 6750 §3.1, invalid_token), and
// waits for a newer one: after nil, Token returns another token than the refused one. If the
// refused token is the grant's current one, the fleet makes one refresh, however many callers
// report the token. Otherwise a newer token is there already.
//
// A token is fresh while it is up to 10 minutes old. If an API refuses a fresh token too, that
// forces one more refresh at once. The next ones come only 1, 2, 4, 8, 16 and 30 minutes (and up
// to a quarter more) after the one before, or once the token is 10 minutes old. A refusal before
// that makes the grant "suspect": the error is of kind ErrUnavailable with that code, status 401
// and RetryAfter. So an API that refuses every token costs at most 10 exchanges in the first
// hour, then 6 an hour.
//
// Meanwhile Token goes on serving the token: other APIs may accept it. A Reject of another API
// waits too, but [Coordinator.Refresh] does not. The count begins anew an hour after the last
// wait, and with a new consent.
//
// Other errors are those of Token. accessToken is the token alone, without "Bearer".
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
