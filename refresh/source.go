package refresh

import (
	"context"
	"fmt"
	"slices"
	"time"

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
//     whose refresh kills the old one) goes on being used by them for so long: give [ShortLived].
//   - Such an SDK does nothing about a 401. Call [Coordinator.Reject] with the token that
//     was refused, then send the call again.
func (c *Coordinator) TokenSource(ctx context.Context, tenant string, opts ...SourceOption) oauth2.TokenSource {
	return &source{grant: c.key(tenant), ctx: ctx, token: c.handle(tenant), short: slices.Contains(opts, ShortLived)}
}

// SourceOption alters what TokenSource returns.
type SourceOption uint8

// ShortLived makes tokens of a TokenSource end a second after they were asked for, as far as the program
// that asks can tell. So [oauth2.ReuseTokenSource], which takes a token for expired ten seconds ahead, asks
// for each call, and an SDK never goes on with a token that was replaced. Asking costs nothing while the
// grant is in memory.
const ShortLived SourceOption = 1

// shortLife is long enough for the call that the token was asked for to begin.
const shortLife = time.Second

type source struct {
	grant tokencache.Key
	ctx   context.Context
	token func(context.Context) (*oauth2.Token, error)
	short bool
}

func (s *source) Token() (*oauth2.Token, error) {
	tok, err := s.token(s.ctx)
	if err != nil || !s.short {
		return tok, err
	}
	own := *tok // it is shared
	if soon := time.Now().Add(shortLife); own.Expiry.IsZero() || own.Expiry.After(soon) {
		own.Expiry = soon
	}
	own.ExpiresIn = 0
	return &own, nil
}

// Format names the grant, whatever the verb: a ctx prints the values in it.
func (s *source) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "refresh.TokenSource(%s)", s.grant)
}
