package refresh

import (
	"context"
	"errors"

	"github.com/tokenlatch/tokenlatch/tokencache"
)

// Reject reports that an API answered 401 to an access token. If that is the grant's
// current one, one refresh is made across the fleet; else a newer one is there already.
// After nil, Token returns a token newer than the one that was refused.
func (c *Coordinator) Reject(ctx context.Context, tenant, accessToken string) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	s, err := c.look(ctx, k)
	if errors.Is(err, tokencache.ErrNone) {
		s, err = c.await(ctx, k, want{}) // another process may remember it
	}
	if err != nil {
		return c.about(k, err)
	}
	if s.Pair.AccessToken != accessToken {
		return nil
	}
	_, err = c.await(ctx, k, want{after: position{s.Epoch, s.Generation}})
	return err
}
