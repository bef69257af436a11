package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// naive is what --naive compares with: the pair stands in a shared row, and a worker
// that finds it expired refreshes it and updates the row. Inside one process that is
// done once, as a careful programmer would; between processes nobody asks anybody.
type naive struct {
	rdb      *redis.Client
	prefix   string
	provider provider.Provider

	mu      sync.Mutex // guards flights
	flights map[string]*naiveFlight
}

// naiveRow is the row. Its JSON is the stored form.
type naiveRow struct {
	Access     string    `json:"access_token"`
	Refresh    string    `json:"refresh_token"`
	Expires    time.Time `json:"expires_at"`
	Consent    int64     `json:"consent"`
	Generation int64     `json:"generation"`
}

type naiveFlight struct {
	done chan struct{} // closed when row and err are set
	row  naiveRow
	err  error
}

func openNaive(s setup) (*naive, error) {
	p, err := s.newProvider()
	if err != nil {
		return nil, err
	}
	rdb, err := openRedis(s.Redis)
	if err != nil {
		return nil, err
	}
	return &naive{rdb: rdb, prefix: s.Prefix, provider: p, flights: map[string]*naiveFlight{}}, nil
}

func newNaive(s setup) (tokens, error) { return openNaive(s) }

func (n *naive) transport(_, token string, base http.RoundTripper) http.RoundTripper {
	return bearer{base, token}
}

// bearer adds a token, and leaves a 401 to the caller.
type bearer struct {
	base  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	own := req.Clone(req.Context())
	own.Header.Set("Authorization", "Bearer "+b.token)
	return b.base.RoundTrip(own)
}

func (n *naive) close(context.Context) error { return n.rdb.Close() }

func (n *naive) key(tenant string) string { return n.prefix + ":naive:" + tenant }

func (n *naive) token(ctx context.Context, tenant string) (string, error) {
	row, err := n.read(ctx, tenant)
	if err != nil {
		return "", err
	}
	if time.Now().After(row.Expires) {
		row, err = n.refresh(tenant)
	}
	return row.Access, err
}

// refresh shares one exchange among the callers of this process.
func (n *naive) refresh(tenant string) (naiveRow, error) {
	n.mu.Lock()
	f := n.flights[tenant]
	if f == nil {
		f = &naiveFlight{done: make(chan struct{})}
		n.flights[tenant] = f
		go n.fly(tenant, f)
	}
	n.mu.Unlock()
	<-f.done
	return f.row, f.err
}

func (n *naive) fly(tenant string, f *naiveFlight) {
	ctx, cancel := context.WithTimeout(context.Background(), exchangeTimeout)
	defer cancel()
	f.row, f.err = n.exchange(ctx, tenant)
	n.mu.Lock()
	delete(n.flights, tenant)
	n.mu.Unlock()
	close(f.done)
}

func (n *naive) exchange(ctx context.Context, tenant string) (naiveRow, error) {
	row, err := n.read(ctx, tenant)
	if err != nil || time.Now().Before(row.Expires) {
		return row, err
	}
	pair, err := n.provider.Exchanger.Exchange(ctx, provider.Grant{Tenant: tenant, RefreshToken: row.Refresh})
	var refused *provider.Error
	switch {
	case errors.As(err, &refused) && refused.Class == provider.Reauthorize:
		return row, errRevoked
	case err != nil:
		return row, err
	}
	row.Access, row.Expires = pair.AccessToken, time.Now().Add(pair.ExpiresIn)
	row.Generation++
	if pair.RefreshToken != "" {
		row.Refresh = pair.RefreshToken
	}
	return row, n.write(ctx, tenant, row)
}

func (n *naive) read(ctx context.Context, tenant string) (row naiveRow, err error) {
	text, err := n.rdb.Get(ctx, n.key(tenant)).Bytes()
	if err != nil {
		return row, fmt.Errorf("demo: read the row of %s: %w", tenant, err)
	}
	return row, json.Unmarshal(text, &row)
}

func (n *naive) write(ctx context.Context, tenant string, row naiveRow) error {
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return n.rdb.Set(ctx, n.key(tenant), text, 0).Err()
}

func (n *naive) consent(ctx context.Context, tenant string, tok *oauth2.Token) error {
	row, err := n.read(ctx, tenant)
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	return n.write(ctx, tenant, naiveRow{
		Access: tok.AccessToken, Refresh: tok.RefreshToken, Expires: tok.Expiry,
		Consent: row.Consent + 1, Generation: row.Generation + 1,
	})
}

// look leaves dead unset: nothing in the row says so, the provider must be asked.
func (n *naive) look(ctx context.Context, tenant string) (grant, error) {
	row, err := n.read(ctx, tenant)
	if err != nil {
		return grant{}, err
	}
	return grant{
		epoch: row.Consent, generation: row.Generation, left: time.Until(row.Expires),
		fingerprint: refreshtest.Fingerprint(row.Refresh),
	}, nil
}
