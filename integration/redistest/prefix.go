package redistest

import (
	"context"
	"crypto/rand"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

var notPlain = regexp.MustCompile(`[^a-zA-Z0-9]+`)

// Prefix returns a beginning for keys that no other test uses, now or in
// another run: letters, digits and dashes, at most 64 bytes. On the shared
// server of REDIS_ADDR the keys under it are removed when the test ends.
func Prefix(t testing.TB) string {
	t.Helper()
	name := notPlain.ReplaceAllString(strings.TrimPrefix(t.Name(), "Test"), "-")
	prefix := name[:min(len(name), 40)] + "-" + strings.ToLower(rand.Text()[:12])
	if addr := os.Getenv("REDIS_ADDR"); addr != "" {
		t.Cleanup(func() { sweep(addr, prefix) })
	}
	return prefix
}

// sweep is a courtesy: what it cannot remove disturbs nobody.
func sweep(addr, prefix string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer rdb.Close()
	for _, match := range []string{prefix + "*"} {
		for keys := rdb.Scan(ctx, 0, match, 1000).Iterator(); keys.Next(ctx); {
			rdb.Unlink(ctx, keys.Val())
		}
	}
}
