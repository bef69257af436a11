package redistest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Dump returns everything stored under the keys that match a SCAN pattern, as
// one text: a line with each key and its type, then its content byte for byte. A
// test puts a canary into its secrets and looks for it here.
func Dump(t testing.TB, rdb redis.UniversalClient, match string) string {
	t.Helper()
	ctx := context.Background()
	keys, err := scan(ctx, rdb, match)
	if err != nil {
		t.Fatalf("redistest: scan %q: %v", match, err)
	}
	var out strings.Builder
	for _, key := range keys {
		kind, content, err := content(ctx, rdb, key)
		if err != nil {
			t.Fatalf("redistest: dump %q: %v", key, err)
		}
		fmt.Fprintf(&out, "%s (%s)\n%s\n", key, kind, content)
	}
	return out.String()
}

// scan returns the matching keys in order, each once: SCAN may repeat itself, and
// a Cluster client asks one node only.
func scan(ctx context.Context, rdb redis.UniversalClient, match string) ([]string, error) {
	var mu sync.Mutex // ForEachMaster runs in parallel
	seen := map[string]bool{}
	one := func(ctx context.Context, node redis.Cmdable) error {
		mu.Lock()
		defer mu.Unlock()
		keys := node.Scan(ctx, 0, match, 1000).Iterator()
		for keys.Next(ctx) {
			seen[keys.Val()] = true
		}
		return keys.Err()
	}
	var err error
	if c, ok := rdb.(*redis.ClusterClient); ok {
		err = c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return one(ctx, node) })
	} else {
		err = one(ctx, rdb)
	}
	return slices.Sorted(maps.Keys(seen)), err
}

func content(ctx context.Context, rdb redis.UniversalClient, key string) (kind, text string, err error) {
	if kind, err = rdb.Type(ctx, key).Result(); err != nil {
		return "", "", err
	}
	switch kind {
	case "none": // expired since the scan
	case "string":
		text, err = rdb.Get(ctx, key).Result()
	case "hash":
		text, err = sorted(rdb.HGetAll(ctx, key).Result())
	case "list":
		text, err = lines(rdb.LRange(ctx, key, 0, -1).Result())
	case "set":
		text, err = lines(rdb.SMembers(ctx, key).Result())
	case "zset":
		text, err = lines(rdb.ZRangeWithScores(ctx, key, 0, -1).Result())
	case "stream":
		text, err = lines(rdb.XRange(ctx, key, "-", "+").Result())
	default:
		err = fmt.Errorf("no way to read a %s", kind)
	}
	if errors.Is(err, redis.Nil) {
		err = nil // expired since TYPE
	}
	return kind, text, err
}

func lines[T any](items []T, err error) (string, error) {
	var out strings.Builder
	for _, item := range items {
		fmt.Fprintln(&out, item)
	}
	return out.String(), err
}

func sorted(fields map[string]string, err error) (string, error) {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(&out, "%s: %s\n", name, fields[name])
	}
	return out.String(), err
}
