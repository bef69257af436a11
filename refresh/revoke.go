package refresh

import (
	"context"
	"errors"
	"fmt"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// DisconnectOption alters what Disconnect does.
type DisconnectOption uint8

// Revoke also revokes the grant's token at the provider (RFC 7009), if the Exchanger is a
// provider.Revoker. The TokenEndpoint of package provider is one; it needs Profile.RevokeURL.
const Revoke DisconnectOption = 1

// codeNotRevoked is of a grant that is disconnected here, and lives on at the provider.
const codeNotRevoked = "not_revoked"

var errNoToken = errors.New("its token cannot be read here")

// revoke revokes what a grant had before it was disconnected. The grant is gone here in any case.
func (c *Coordinator) revoke(ctx context.Context, k tokencache.Key, s *engine.Snapshot) error {
	if s == nil || s.State == tokencache.Disconnected {
		return nil
	}
	g := provider.Grant{App: k.App, Tenant: k.Tenant, Generation: s.Generation,
		AccessToken: s.Pair.AccessToken.Reveal(), RefreshToken: s.Pair.RefreshToken.Reveal(), Scope: s.Pair.Scope, Extra: s.Pair.Extra}
	err := errNoToken
	if g.AccessToken != "" || g.RefreshToken != "" {
		err = c.revoker.at(ctx, g)
	}
	if err == nil {
		c.log.Info().Str("tenant", k.Tenant).Msg("revoked at the provider")
		return nil
	}
	return notRevoked(k, err)
}

func notRevoked(k tokencache.Key, why error) *Error {
	e := &Error{App: k.App, Tenant: k.Tenant, Kind: ErrUnavailable, Code: codeNotRevoked,
		Err: fmt.Errorf("disconnected here, but its token may live on at the provider; revoke it there by hand: %w", why)}
	var failed *provider.Error
	if errors.As(why, &failed) {
		e.Status = failed.Status
	}
	if errors.Is(why, errNoRevoker) || failed != nil && failed.Class == provider.AppRefused {
		e.Kind = ErrClientConfig
	}
	return e
}
