package refresh

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/tokencache"
)

// TokenSource returns an [oauth2.TokenSource], for SDKs that want one. Its Token calls [Coordinator.Token]
// with the ctx given here. Use a ctx that lives as long as the SDK's client, not the ctx of one
// request: when it ends, no call waits for a token any more.
//
// Use Client or Transport where you can, for two reasons:
//
//   - Many SDKs call [oauth2.NewClient] or [oauth2.ReuseTokenSource]. These use a token until its
//     Expiry, even if it was replaced before (by a forced refresh, after a 401, or because the
//     provider's refresh kills the old one). Give [ShortLived] against that.
//   - Such an SDK does nothing about a 401. Call [Coordinator.Reject] with the token that
//     was refused, then send the call again.
func (c *Coordinator) TokenSource(ctx context.Context, tenant string, opts ...SourceOption) oauth2.TokenSource {
	return &source{grant: c.key(tenant), ctx: ctx, token: c.handle(tenant), short: slices.Contains(opts, ShortLived)}
}

// SourceOption alters what TokenSource returns.
type SourceOption uint8

// ShortLived makes each token of a TokenSource seem to end a second after it was asked for.
// [oauth2.ReuseTokenSource] takes a token for expired ten seconds before its end. So it asks for a
// token for each call, and an SDK never goes on with one that was replaced. Asking costs nothing
// while the grant is in memory.
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
