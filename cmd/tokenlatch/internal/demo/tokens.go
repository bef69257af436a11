package demo

import (
	"context"
	"errors"
	"net/http"
)

// tokens is where a worker gets its access tokens.
type tokens interface {
	token(ctx context.Context, tenant string) (string, error)
	// transport sends requests with the tenant's token, which token has just returned.
	transport(tenant, token string, base http.RoundTripper) http.RoundTripper
	close(ctx context.Context) error
}

// Why a webhook's call fails, beside the errors of package refresh.
var (
	errAPI          = errors.New("the API did not answer")
	errUnauthorized = errors.New("the API refused the token")
	errRevoked      = errors.New("invalid_grant") // said to a naive worker
)
