package redistest

import (
	"context"
	"crypto/rand"
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
// subcommands are "xgroup|create". Connection setup is left out, and so are heartbeats: what is
// published on channels like "tl:heartbeat:…".
//
// It resets the server's statistics, so the server has to be an [Own] one.
func Commands(t testing.TB, rdb redis.UniversalClient, fn func()) map[string]int {
	t.Helper()
	if c, ok := rdb.(*redis.Client); ok && c.Options().Addr == os.Getenv("REDIS_ADDR") {
		t.Fatal("redistest: the server in REDIS_ADDR is shared: count commands on one from Own")
	}
	ctx := context.Background()
	heartbeats := countHeartbeats(t, rdb)
	if err := rdb.ConfigResetStat(ctx).Err(); err != nil {
		t.Fatalf("redistest: reset the command statistics: %v", err)
	}
	fn()
	text, err := rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		t.Fatalf("redistest: read the command statistics: %v", err)
	}
	calls := commandCalls(text)
	if n := heartbeats(); calls["publish"] > n {
		calls["publish"] -= n
	} else {
		delete(calls, "publish")
	}
	return calls
}

// countHeartbeats counts heartbeats from now on, until the function is called that it returns.
func countHeartbeats(t testing.TB, rdb redis.UniversalClient) func() int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	t.Cleanup(cancel)
	sub := rdb.PSubscribe(ctx, "*:heartbeat:*")
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatalf("redistest: listen to heartbeats: %v", err)
	}
	return func() int {
		t.Helper()
		defer sub.Close()
		last := "redistest:heartbeat:" + rand.Text()
		if err := rdb.Publish(ctx, last, "").Err(); err != nil {
			t.Fatalf("redistest: count the heartbeats: %v", err)
		}
		for n := 0; ; n++ {
			m, err := sub.ReceiveMessage(ctx)
			if err != nil {
				t.Fatalf("redistest: count the heartbeats: %v", err)
			}
			if m.Channel == last {
				return n
			}
		}
	}
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
