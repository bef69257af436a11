package refresh

import (
	"errors"
	"net/http"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

var errUnusable = errors.New("the provider's access token cannot be sent in a header: it, or its token_type, holds control characters or bytes outside ASCII; its refresh token is kept")

// unusable is what comes of a pair that is stored, since it is the only living one, and whose
// access token nobody can send.
func (f *flight) unusable(before, stored *engine.Snapshot) (*engine.Snapshot, error) {
	f.c.log.Error().Str("tenant", f.key.Tenant).Int64("generation", stored.Generation).
		Msg("the provider's new access token cannot be sent in a header; the refresh token is kept")
	s, err := f.claim(stored) // presents nothing: a failure is published under a claim
	if s == nil || err != nil {
		return nil, err
	}
	again := !(provider.Pair{AccessToken: before.Pair.AccessToken.Reveal(), TokenType: before.Pair.TokenType}).Usable()
	e := &provider.Error{Class: provider.Refused, Code: "unusable_access_token", Status: http.StatusOK, Err: errUnusable}
	return f.publish(s, e, grant.Failure{
		Verdict: grant.VerdictClear, Error: policy.ErrorText(e), Retry: policy.RetryUnusable(e, again, random()),
	})
}
