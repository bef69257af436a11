package refresh

import "context"

// Reject reports that an API answered 401 to an access token (RFC 6750 §3.1,
// invalid_token), and waits until a newer one is there: after nil, Token returns another
// than the one that was refused. If that is the grant's current one, one refresh is made
// across the fleet, however many report it; if not, a newer one is there already.
//
// A fresh access token that is refused too forces one more refresh at once. From then on
// the grant is "suspect": the error is of kind ErrUnavailable with that code, status 401
// and RetryAfter, and refusals force a refresh only 1, 2, 4, 8, 16 and 30 minutes (and up
// to a quarter more) after the one before. An API that refuses every token costs at most 7
// exchanges in the first hour, then 2 an hour. Token goes on serving meanwhile: other APIs
// may well accept what this one refuses. Otherwise errors are those of Token.
func (c *Coordinator) Reject(ctx context.Context, tenant, accessToken string) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	s, err := c.current(ctx, k)
	if err == nil && s.Pair.AccessToken == "" {
		s, err = c.await(ctx, k, want{}) // its error says why
	}
	if err != nil {
		return err
	}
	if s.Pair.AccessToken != accessToken {
		return nil
	}
	_, err = c.await(ctx, k, want{after: position{s.Epoch, s.Generation}, refused: true})
	return err
}
