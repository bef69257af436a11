package refresh

import (
	"errors"
	"net/http"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

var errUnusable = errors.New("the provider's access token cannot be sent in a header: it, or its token_type, holds control characters or bytes outside ASCII; its refresh token is kept")

// unusableRow is what retryIn takes for a provider that does it again.
const unusableRow = 20

// unusable is what comes of a pair that is stored, since it is the only living one, and whose
// access token nobody can send. Each try spends a refresh token and brings perhaps the
// same again: the second follows soon, the others every 15 to 30 minutes.
func (f *flight) unusable(before, stored *engine.Snapshot) (*engine.Snapshot, error) {
	f.c.log.Error().Str("tenant", f.key.Tenant).Int64("generation", stored.Generation).
		Msg("the provider's new access token cannot be sent in a header; the refresh token is kept")
	s, err := f.claim(stored) // presents nothing: a failure is published under a claim
	if s == nil || err != nil {
		return nil, err
	}
	row := int64(1)
	if !(provider.Pair{AccessToken: before.Pair.AccessToken.Reveal(), TokenType: before.Pair.TokenType}).Usable() {
		row = unusableRow
	}
	e := &provider.Error{Class: provider.Refused, Code: "unusable_access_token", Status: http.StatusOK, Err: errUnusable}
	return f.publish(s, e, grant.Failure{
		ID: engine.NewID(), Verdict: grant.Unspent, Error: errorText(e), Retry: retryIn(row, e, jitter()),
	})
}
