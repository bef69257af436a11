package exporter

import (
	"context"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// What a check finds.
const (
	fine = iota
	warning
	failure
)

// Durability returns the checks of what keeps the grants, by INFO of each master; the worst of several counts. What a
// server does not tell is left out.
func Durability(rdb redis.UniversalClient) func(ctx context.Context) map[string]int {
	return func(ctx context.Context) map[string]int {
		worst := map[string]int{}
		_ = eachMaster(ctx, rdb, func(ctx context.Context, node redis.Cmdable) error {
			text, err := node.Info(ctx).Result()
			for id, result := range durability(parse(text)) {
				worst[id] = max(worst[id], result)
			}
			return err
		})
		return worst
	}
}

func eachMaster(ctx context.Context, rdb redis.UniversalClient, visit func(context.Context, redis.Cmdable) error) error {
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return visit(ctx, node) })
	}
	return visit(ctx, rdb)
}

func parse(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// durability judges what INFO says.
func durability(info map[string]string) map[string]int {
	found := map[string]int{}
	judge := func(id, by string, verdict int) {
		if info[by] != "" {
			found[id] = verdict
		}
	}
	number := func(name string) float64 { n, _ := strconv.ParseFloat(info[name], 64); return n }
	judge("durability.aof", "aof_enabled", when(info["aof_enabled"] != "1", failure))
	judge("durability.saved", "rdb_last_bgsave_status", when(info["rdb_last_bgsave_status"] != "ok" || info["aof_last_write_status"] == "err", failure))
	evicts := warning // once maxmemory is set
	if number("maxmemory") > 0 {
		evicts = failure
	}
	judge("durability.eviction", "maxmemory_policy", when(info["maxmemory_policy"] != "noeviction", evicts))
	full := fine
	switch share := number("used_memory") / number("maxmemory"); {
	case number("maxmemory") == 0, share >= 0.75 && share < 0.9:
		full = warning
	case share >= 0.9:
		full = failure
	}
	judge("durability.memory", "used_memory", full)
	judge("durability.replicas", "connected_slaves", when(number("connected_slaves") == 0, warning))
	return found
}

func when(is bool, verdict int) int {
	if is {
		return verdict
	}
	return fine
}
