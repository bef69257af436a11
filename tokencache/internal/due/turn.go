package due

import (
	"context"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// TakeTurn reports whether this process is the one that may do something which one of the
// fleet does, every so often.
func (d Set) TakeTurn(ctx context.Context, what string, every time.Duration) (bool, error) {
	key := d.keys().Turn(what)
	ok, err := store.Bounded(ctx, store.NodePatience, func(ctx context.Context) (bool, error) {
		return d.all.db.Redis.SetNX(ctx, key, grant.Clip(d.by), every).Result()
	})
	if err == nil && !ok { // nobody's turn lasts longer: Redis' clock was set back, or somebody set it by hand
		err = d.all.db.Redis.ExpireLT(ctx, key, every).Err()
	}
	return ok, err
}

// ShortenTurn lets the next one have the turn sooner.
func (d Set) ShortenTurn(ctx context.Context, what string, to time.Duration) error {
	return d.all.db.Redis.PExpire(ctx, d.keys().Turn(what), to).Err()
}
