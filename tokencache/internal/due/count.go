package due

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// sampled is in how many of the shards CountDue counts.
const sampled = 4

// CountDue reckons how many grants of an app are due within each of the times from now. It
// counts in a few shards: tenants are spread evenly. The error says that none of them answers.
func (d Set) CountDue(ctx context.Context, now int64, within ...time.Duration) ([]int64, error) {
	keys := d.sample()
	counts, err := store.Spread(ctx, d.all.db.Redis, slices.Repeat(keys, len(within)), func(p redis.Pipeliner, i int) *redis.IntCmd {
		return p.ZCount(ctx, keys[i%len(keys)], "-inf", grant.Millis(now+within[i/len(keys)].Milliseconds()))
	})
	sums := make([]int64, len(within))
	for i := range sums {
		var known bool
		if sums[i], known = reckon(counts[i*len(keys) : (i+1)*len(keys)]); !known {
			return nil, err
		}
	}
	return sums, nil
}

// sample is the due sets of a few shards.
func (d Set) sample() []string {
	first := rand.N(Shards)
	keys := make([]string, sampled)
	for i := range keys {
		keys[i] = d.keys().Due((first + i) % Shards)
	}
	return keys
}

// reckon returns how many all shards have, by those of the sample that have answered.
func reckon(counts []*redis.IntCmd) (sum int64, known bool) {
	shards := int64(0)
	for _, n := range counts {
		if n != nil {
			sum += n.Val()
			shards++
		}
	}
	if shards == 0 {
		return 0, false
	}
	return sum * Shards / shards, true
}

// CountGrants reckons how many grants of an app there are of which something is due at some
// time, from a few of the shards.
func (d Set) CountGrants(ctx context.Context) (int64, error) {
	keys := d.sample()
	counts, err := store.Spread(ctx, d.all.db.Redis, keys, func(p redis.Pipeliner, i int) *redis.IntCmd { return p.ZCard(ctx, keys[i]) })
	sum, known := reckon(counts)
	if !known {
		return 0, fmt.Errorf("tokencache: count grants of app %s: %w", d.app, err)
	}
	return sum, nil
}
