package refresh

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

const (
	revokeTries = 3
	revokePause = 500 * time.Millisecond // then twice as long
	// lateRevocation bounds the revocation for which no caller waits.
	lateRevocation = 30 * time.Second
)

var errNoRevoker = errors.New("the Exchanger has no Revoke: see provider.Revoker")

// revoker revokes at the provider.
type revoker struct {
	provider provider.Provider
	work     *work.Group
	log      zerolog.Logger
}

// late revokes a pair that an exchange brought after its grant had been disconnected with Revoke.
func (r *revoker) late(g provider.Grant) {
	r.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), lateRevocation)
		defer cancel()
		if err := r.at(ctx, g); err != nil {
			r.log.Error().Err(err).Str("tenant", g.Tenant).Msg("a pair came after its tenant was disconnected, and could not be revoked at the provider: revoke it there by hand")
			return
		}
		r.log.Info().Str("tenant", g.Tenant).Msg("a pair came after its tenant was disconnected: revoked at the provider")
	})
}

// at asks the Exchanger, and the Fallback if the first is refused. Revoking twice is harmless, so it
// is tried again.
func (r *revoker) at(ctx context.Context, g provider.Grant) error {
	err := errNoRevoker
	for _, e := range []provider.Exchanger{r.provider.Exchanger, r.provider.Fallback} {
		one, ok := e.(provider.Revoker)
		if !ok {
			continue
		}
		err = revokeWith(ctx, one, g)
		var failed *provider.Error
		if !errors.As(err, &failed) || failed.Class != provider.AppRefused {
			return err
		}
	}
	return err
}

func revokeWith(ctx context.Context, r provider.Revoker, g provider.Grant) error {
	for try, pause := 1, revokePause; ; try, pause = try+1, 2*pause {
		err := r.Revoke(ctx, g)
		var failed *provider.Error
		final := errors.As(err, &failed) && (failed.Class == provider.AppRefused || failed.Class == provider.Refused || failed.Class == provider.Reauthorize)
		if err == nil || final || try == revokeTries || failed != nil && failed.RetryAfter > policy.FirstRetry {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
