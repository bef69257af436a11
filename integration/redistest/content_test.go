package redistest

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestCommandsCountsWhatScriptsCall(t *testing.T) {
	rdb := Own(t).Client(t)
	script := redis.NewScript(`redis.call('HSET', KEYS[1], 'a', 1); return redis.call('HGET', KEYS[1], 'a')`)
	must(t, script.Load(ctx, rdb).Err())
	calls := Commands(t, rdb, func() {
		must(t, script.Run(ctx, rdb, []string{"k"}).Err())
		must(t, script.Run(ctx, rdb, []string{"k"}).Err())
		must(t, rdb.Exists(ctx, "x").Err())
	})
	want := map[string]int{"evalsha": 2, "hset": 2, "hget": 2, "exists": 1}
	for name, n := range want {
		if calls[name] != n {
			t.Errorf("%s: %d, want %d", name, calls[name], n)
		}
	}
	if Total(calls) != 7 {
		t.Errorf("%v: total %d, want 7", calls, Total(calls))
	}
}

func TestCommandsLeavesOutConnectionSetup(t *testing.T) {
	s := Own(t)
	rdb := s.Client(t)
	calls := Commands(t, rdb, func() { must(t, s.Client(t).Ping(ctx).Err()) })
	if len(calls) != 0 {
		t.Fatalf("counted %v", calls)
	}
}

func TestClusterAnswersForEverySlot(t *testing.T) {
	c := StartCluster(t)
	rdb := c.Client(t)
	for _, letter := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		must(t, rdb.Set(ctx, letter, "canary-"+letter, 0).Err())
	}
	for _, node := range c.Nodes {
		if n := node.Client(t).DBSize(ctx).Val(); n == 0 || n == 26 {
			t.Errorf("%s holds %d of 26 keys", node.Addr(), n)
		}
	}
	if got := strings.Count(Dump(t, rdb, "*"), "canary-"); got != 26 {
		t.Errorf("Dump shows %d of 26 values", got)
	}
}

func TestAReplicaThatTakesOverHasItsMastersSlots(t *testing.T) {
	c := StartCluster(t)
	c.AddReplicas(t)
	for i, replica := range c.Replicas {
		if c.apart(replica) {
			t.Errorf("replica %d does not know the cluster yet", i)
		}
	}
	c.TakeOver(t, 0)
	rdb := c.Replicas[0].Client(t)
	info, err := rdb.ClusterInfo(ctx).Result()
	must(t, err)
	if size := infoFields(info)["cluster_size"]; size != "3" {
		t.Errorf("%s nodes have slots, want 3", size)
	}
}

// backends run one law on real Redis and on miniredis.
func backends(t *testing.T, law func(t *testing.T, rdb *redis.Client)) {
	t.Run("redis", func(t *testing.T) { law(t, Start(t).Client(t)) })
	t.Run("miniredis", func(t *testing.T) { law(t, Miniredis(t)) })
}

func TestDumpShowsValuesOfEveryType(t *testing.T) {
	backends(t, func(t *testing.T, rdb *redis.Client) {
		prefix := Prefix(t)
		must(t, rdb.Set(ctx, prefix+"string", "canary1\x00\xff", 0).Err())
		must(t, rdb.HSet(ctx, prefix+"hash", "canary2", "canary3").Err())
		must(t, rdb.RPush(ctx, prefix+"list", "canary4").Err())
		must(t, rdb.SAdd(ctx, prefix+"set", "canary5").Err())
		must(t, rdb.ZAdd(ctx, prefix+"zset", redis.Z{Score: 6543, Member: "canary6"}).Err())
		must(t, rdb.XAdd(ctx, &redis.XAddArgs{Stream: prefix + "stream", Values: []string{"canary7", "canary8"}}).Err())
		must(t, rdb.Set(ctx, Prefix(t)+"other", "foreign", 0).Err())
		text := Dump(t, rdb, prefix+"*")
		for _, want := range []string{"canary1\x00\xff", "canary2", "canary3", "canary4", "canary5", "canary6", "6543", "canary7", "canary8", prefix + "stream"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in:\n%s", want, text)
			}
		}
		if strings.Contains(text, "foreign") {
			t.Errorf("other keys in:\n%s", text)
		}
	})
}

func TestTimeToLiveRunsOut(t *testing.T) {
	backends(t, func(t *testing.T, rdb *redis.Client) {
		key := Prefix(t)
		must(t, rdb.Set(ctx, key, "v", 100*time.Millisecond).Err())
		await(t, "the key to expire", func() bool { return rdb.Exists(ctx, key).Val() == 0 })
	})
}

func TestServerTimeFollowsTheWallClock(t *testing.T) {
	backends(t, func(t *testing.T, rdb *redis.Client) {
		script := redis.NewScript(`return redis.call('TIME')[1]`)
		before := time.Now().Add(-2 * time.Second).Unix()
		sec, err := script.Run(ctx, rdb, nil).Int64()
		if after := time.Now().Add(2 * time.Second).Unix(); err != nil || sec < before || sec > after {
			t.Fatalf("TIME in a script: %d, %v; want %d to %d", sec, err, before, after)
		}
	})
}
