package economy

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// underPrefix is a client for redis_rate, which puts a word of its own in front of every key.
// Without it the limiter's keys begin with the cache's prefix, like all others: a Redis user with
// ~tl:* is enough.
type underPrefix struct{ redis.UniversalClient }

func bare(keys []string) []string {
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = strings.TrimPrefix(key, "rate:")
	}
	return out
}

func (u underPrefix) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return u.UniversalClient.Eval(ctx, script, bare(keys), args...)
}

func (u underPrefix) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	return u.UniversalClient.EvalSha(ctx, sha1, bare(keys), args...)
}
