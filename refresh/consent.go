package refresh

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/internal/pair"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// Connect stores the pair of a new consent: what oauth2.Config.Exchange returned after the tenant
// authorized the app. It wins over everything older, also over an exchange that is under way.
// With the pair it keeps those members of the answer that say where the API is and who consented
// (see Profile.KeepExtra), and those that WithExtra gives.
//
// A repeat changes nothing. So after an error (perhaps only the reply of Redis was lost) a caller
// may call Connect again with the same token, whatever has happened in between. Connect refuses a
// token whose refresh token this fleet has redeemed already (tokencache.ErrSpent): what is stored
// is newer. It also refuses a token whose consent Disconnect has ended since: that error is of
// kind ErrNotConnected.
//
// Callbacks of two consents can arrive in the wrong order, and the provider may have ended the
// one that arrives last. So if another consent replaces this one within ten minutes, its pair is
// kept, and tried before the grant is declared dead.
//
// Where no consent is needed (provider.ClientCredentials, provider.JWTBearer), give a nil tok. One
// process then mints the first access token. A grant that is there already stays as it is. So
// workers may call Connect whenever they start.
func (c *Coordinator) Connect(ctx context.Context, tenant string, tok *oauth2.Token, opts ...ConnectOption) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	if err := c.judge.FitForMore(ctx, tenant); err != nil {
		return c.about(k, err)
	}
	if c.cfg.Provider.Mints && (tok == nil || tok.AccessToken == "") {
		return c.answer(k, c.mint.First(ctx, k, c.app.Grant(tenant)))
	}
	first, err := firstPair("Connect", tok, c.cfg.Provider.Mints, c.tools.Pairs, opts)
	if err != nil {
		return err
	}
	_, err = c.app.Grant(tenant).Connect(ctx, first, c.tools.Acked)
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

// WithExtra keeps further members with the grant: of the provider's answer, or of the consent's
// callback. Token(…).Extra(name) returns them from the first token on. You need not give the
// members that Connect keeps by itself (Profile.KeepExtra), nor those of the answers to refreshes,
// which are all kept. A refresh token among them is dropped.
func WithExtra(members map[string]any) ConnectOption {
	return func(c *connecting) { c.extra = members }
}

// ImportResult is what Import has done.
type ImportResult string

const (
	// Imported: the pair is stored.
	Imported ImportResult = "imported"
	// Exists: the tenant has a grant, or has disconnected one; it is left as it is.
	Exists ImportResult = "exists"
)

// Import is Connect for grants that you move here from another store. It stores the pair of a
// tenant that has no grant, and never changes a grant that exists. So if an import breaks off,
// you can run it again as a whole, also while its grants are refreshed already. If you do not
// know tok.Expiry, set it to now.
//
// Import first asks the other processes whether they remember a grant that Redis has lost.
func (c *Coordinator) Import(ctx context.Context, tenant string, tok *oauth2.Token, opts ...ConnectOption) (ImportResult, error) {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return "", err
	}
	first, err := firstPair("Import", tok, c.cfg.Provider.Mints, c.tools.Pairs, opts)
	if err != nil {
		return "", err
	}
	if err := c.judge.FitForMore(ctx, tenant); err != nil {
		return "", c.about(k, err)
	}
	_, err = c.app.Grant(tenant).Import(ctx, first, c.tools.Acked)
	switch {
	case errors.Is(err, engine.ErrExists):
		return Exists, nil
	case err != nil:
		return "", c.about(k, err)
	}
	return Imported, nil
}

// firstPair returns how the first pair of a grant is made, given Redis' time; or what is wrong with tok.
func firstPair(call string, tok *oauth2.Token, mints bool, pairs *pair.Maker, opts []ConnectOption) (func(now int64) grant.Pair, error) {
	if tok == nil || tok.AccessToken == "" {
		return nil, fmt.Errorf("refresh: %s: the token has no access token", call)
	}
	if tok.RefreshToken == "" && !mints {
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
		return pairs.OfConsent(tok, extra, now)
	}, nil
}

// Disconnect ends the grant, for instance when the tenant uninstalls the app. If an exchange under
// way brings a pair after that, Redis refuses the pair.
//
// With [Revoke] it then also revokes the token at the provider. It cannot revoke a pair that an
// exchange under way brings. If revoking fails, the error is an *Error with the code
// "not_revoked", and the grant is disconnected all the same. A repeat finds no token any more.
func (c *Coordinator) Disconnect(ctx context.Context, tenant string, opts ...DisconnectOption) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	var had *engine.Snapshot
	var unread error
	g := c.app.Grant(tenant)
	if slices.Contains(opts, Revoke) {
		g = g.With(journal.Note{Why: policy.ReasonRevoke})
		had, unread = c.flights.Lookup(ctx, k)
	}
	if err := g.Disconnect(ctx, c.tools.Acked); err != nil {
		return c.about(k, err)
	}
	c.log.Info().Str("tenant", tenant).Msg("disconnected")
	if unread != nil && c.judge.Of(tenant, unread).Who != policy.WhoNotConnected { // else there is nothing to revoke
		return notRevoked(k, unread)
	}
	return c.revoke(ctx, k, had)
}
