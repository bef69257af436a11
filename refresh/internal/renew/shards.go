package renew

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// resting are the shards that failed a moment ago.
func (r *Run) resting() (shards []int) {
	for shard, until := range r.rests {
		if time.Now().Before(until) {
			shards = append(shards, shard)
		}
	}
	return shards
}

// rest leaves a shard alone for a while, if it is not already.
func (r *Run) rest(shard int) {
	if now := time.Now(); now.After(r.rests[shard]) {
		r.rests[shard] = now.Add(policy.AskAgain)
	}
}

// mend begins anew the due sets whose keys are of another type; what was in them is found by a repair.
func (r *Run) mend(ctx context.Context, next *[engine.DueShards]time.Duration, err error) {
	if !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return
	}
	for shard, at := range next {
		if at != engine.DueUnknown || time.Now().Before(r.rests[shard]) {
			continue
		}
		if mended, _ := r.Flights.App.MendDue(ctx, shard); mended {
			r.Flights.Log.Error().Int("shard", shard).Msg("the key of a due set was of another type: somebody else has written it; the set is made anew, from the grants")
			next[shard] = engine.DueNever
			poke(r.mended)
		}
	}
}
