package refresh

import (
	"context"
	"fmt"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/tokencache"
)

// TokenSource is for SDKs that want an [oauth2.TokenSource]. Its Token is [Coordinator.Token]
// with the ctx given here, which ends all waiting: use one that lives as long as the SDK's
// client, not a request's.
//
// Use Client or Transport where you can:
//
//   - [oauth2.NewClient] and [oauth2.ReuseTokenSource], which many SDKs call, keep a token
//     until its Expiry. One that was replaced before (a forced refresh, a 401, a provider
//     whose refresh kills the old one) goes on being used by them for so long.
//   - Such an SDK does nothing about a 401. Call [Coordinator.Reject] with the token that
//     was refused, then send the call again.
func (c *Coordinator) TokenSource(ctx context.Context, tenant string) oauth2.TokenSource {
	return &source{grant: c.key(tenant), ctx: ctx, token: c.handle(tenant)}
}

type source struct {
	grant tokencache.Key
	ctx   context.Context
	token func(context.Context) (*oauth2.Token, error)
}

func (s *source) Token() (*oauth2.Token, error) { return s.token(s.ctx) }

// Format names the grant, whatever the verb: a ctx prints the values in it.
func (s *source) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "refresh.TokenSource(%s)", s.grant)
}
