package redistest

import (
	"context"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// setup names the commands that clients send on their own, when they connect
// or look around, and the two with which [Commands] counts.
var setup = regexp.MustCompile(`^(hello|auth|select|ping|info|command|readonly|(client|config|command|cluster)\|.*)$`)

// Commands runs fn and returns how often the server executed each command
// meanwhile, by any client, those called inside Lua scripts included: one EVALSHA
// whose script does a HGET counts as both. Names are lower case,
// subcommands are "xgroup|create". Connection setup is left out.
//
// It resets the server's statistics, so the server has to be an [Own] one.
func Commands(t testing.TB, rdb redis.UniversalClient, fn func()) map[string]int {
	t.Helper()
	if c, ok := rdb.(*redis.Client); ok && c.Options().Addr == os.Getenv("REDIS_ADDR") {
		t.Fatal("redistest: the server in REDIS_ADDR is shared: count commands on one from Own")
	}
	ctx := context.Background()
	if err := rdb.ConfigResetStat(ctx).Err(); err != nil {
		t.Fatalf("redistest: reset the command statistics: %v", err)
	}
	fn()
	text, err := rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		t.Fatalf("redistest: read the command statistics: %v", err)
	}
	return commandCalls(text)
}

// Total adds up what [Commands] counted.
func Total(calls map[string]int) int {
	sum := 0
	for _, n := range calls {
		sum += n
	}
	return sum
}

// commandCalls reads lines like "cmdstat_set:calls=3,usec=7,…".
func commandCalls(text string) map[string]int {
	calls := map[string]int{}
	for field, stats := range infoFields(text) {
		name := strings.ToLower(strings.TrimPrefix(field, "cmdstat_"))
		first, _, _ := strings.Cut(stats, ",")
		n, _ := strconv.Atoi(strings.TrimPrefix(first, "calls="))
		if n > 0 && !setup.MatchString(name) { // 0: rejected before it ran
			calls[name] = n
		}
	}
	return calls
}
