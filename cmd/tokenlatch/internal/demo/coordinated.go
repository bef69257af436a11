package demo

import (
	"context"
	"errors"
	"net/http"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// coordinated is tokenlatch itself: in a worker it hands out tokens, in the parent it
// stores consents and tells how the grants are.
type coordinated struct {
	*refresh.Coordinator
	rdb *redis.Client
}

func openCoordinated(s setup) (*coordinated, error) {
	p, err := s.newProvider()
	if err != nil {
		return nil, err
	}
	rdb, err := openRedis(s.Redis)
	if err != nil {
		return nil, err
	}
	// The demo's tokens are worth nothing; yours belong sealed, by tokencache/seal.
	cache, err := tokencache.New(rdb, tokencache.Config{Prefix: s.Prefix, AEAD: tokencache.Plaintext})
	if err != nil {
		return nil, err
	}
	cfg := s.config(p)
	cfg.Cache, cfg.Locker = cache, lock.New(lock.Config{TTL: leaseTTL, Name: s.holder()}, rdb)
	c, err := refresh.New(cfg)
	if err != nil {
		return nil, err
	}
	return &coordinated{Coordinator: c, rdb: rdb}, nil
}

func newCoordinated(s setup) (tokens, error) { return openCoordinated(s) }

func (c *coordinated) token(ctx context.Context, tenant string) (string, error) {
	tok, err := c.Token(ctx, tenant)
	if err != nil {
		return "", err
	}
	return tok.AccessToken, nil
}

func (c *coordinated) transport(tenant, _ string, base http.RoundTripper) http.RoundTripper {
	return c.Transport(tenant, base)
}

func (c *coordinated) close(ctx context.Context) error {
	return errors.Join(c.Close(ctx), c.rdb.Close())
}

func (c *coordinated) consent(ctx context.Context, tenant string, tok *oauth2.Token) error {
	return c.Connect(ctx, tenant, tok)
}

// look reads one grant. dead is final here: tokencache says so itself.
func (c *coordinated) look(ctx context.Context, tenant string) (grant, error) {
	st, err := c.Status(ctx, tenant)
	if err != nil {
		return grant{}, err
	}
	g := grant{
		epoch: st.Epoch.UnixMilli(), generation: st.Generation,
		dead: st.State != tokencache.Active, reason: st.Reason, fingerprint: st.RefreshTokenFingerprint,
		left: st.ExpiresAt.Sub(st.Now), due: !st.Now.Before(st.RefreshAt),
		holder: holderPID(st.ClaimBy), by: holderPID(st.By),
		again: st.UnresolvedPresentations > 1, backoff: st.RetryAt.After(st.Now),
	}
	if st.ClaimBy != "" {
		g.claim = st.ClaimUntil.Sub(st.Now)
	}
	return g, nil
}
