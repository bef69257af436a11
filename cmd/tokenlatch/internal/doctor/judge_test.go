package doctor

import (
	"strings"
	"testing"
	"time"
)

func TestDoctorJudgesTheAnswerOfINFO(t *testing.T) {
	t.Parallel()
	role := func(kind string) func(map[string]string) verdict {
		return func(info map[string]string) verdict { return role(info, kind) }
	}
	for _, c := range []struct {
		judge  func(map[string]string) verdict
		info   string
		result Result
		says   string
	}{
		{version, "redis_version:7.0.15", OK, "Redis 7.0.15"},
		{version, "redis_version:6.2.1", Failure, "6.2.1"},
		{version, "redis_version:7.2.4 valkey_version:8.1.1", OK, "Valkey 8.1.1"},
		{version, "", Skipped, ""},
		{aof, "aof_enabled:1", OK, ""},
		{aof, "aof_enabled:0", Failure, ""},
		{aof, "", Skipped, ""},
		{saved, "aof_last_write_status:ok rdb_last_bgsave_status:ok", OK, ""},
		{saved, "aof_last_write_status:err", Failure, "aof_last_write_status:err"},
		{saved, "rdb_last_bgsave_status:err", Failure, "rdb"},
		{eviction, "maxmemory_policy:noeviction maxmemory:0", OK, ""},
		{eviction, "maxmemory_policy:allkeys-lru maxmemory:0", Warning, "allkeys-lru"},
		{eviction, "maxmemory_policy:volatile-ttl maxmemory:1", Failure, "volatile-ttl"},
		{memory, "used_memory:10 maxmemory:0", Warning, "not set"},
		{memory, "used_memory:74 maxmemory:100", OK, "74 %"},
		{memory, "used_memory:75 maxmemory:100", Warning, "75 %"},
		{memory, "used_memory:90 maxmemory:100", Failure, "90 %"},
		{memory, "", Skipped, ""},
		{replicas, "connected_slaves:0", Warning, "no replica"},
		{replicas, "connected_slaves:1 slave0:ip=h,port=1,state=online,offset=1,lag=0", OK, "1 replica is"},
		{replicas, "connected_slaves:2 slave0:ip=h,state=online,lag=1 slave1:ip=i,state=wait_bgsave,lag=0", Warning, "ip=i"},
		{replicas, "connected_slaves:1 slave0:ip=h,state=online,lag=11", Warning, "11 s"},
		{role("standalone"), "role:master redis_mode:standalone", OK, "standalone"},
		{role("sentinel"), "role:master redis_mode:standalone", OK, "sentinel"},
		{role("cluster"), "role:master redis_mode:standalone", Failure, "no Cluster"},
		{role("standalone"), "role:master redis_mode:cluster", Failure, "node of a Cluster"},
		{role("standalone"), "role:slave master_host:h master_port:1 redis_mode:standalone", Failure, "h:1"},
		{role("standalone"), "", Skipped, ""},
		{clusterState, "cluster_state:ok cluster_slots_assigned:16384 cluster_slots_ok:16384 cluster_size:3", OK, "3 masters"},
		{clusterState, "cluster_state:fail cluster_slots_assigned:16384 cluster_slots_ok:100", Failure, "100 are served"},
		{clusterState, "cluster_state:ok cluster_slots_assigned:100 cluster_slots_ok:100", Failure, "100 of 16384"},
	} {
		v := c.judge(infoOf(strings.ReplaceAll(c.info, " ", "\n")))
		if v.result != c.result || !strings.Contains(v.text, c.says) {
			t.Errorf("%q: %s, %q, want %s, %q", c.info, v.result, v.text, c.result, c.says)
		}
	}
}

func TestAClockIsOffFromTwoSecondsOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ahead, took time.Duration
		result      Result
		says        string
	}{
		{0, 0, OK, "0.00 ms"},
		{time.Second, 2 * time.Second, OK, "0.00 ms"}, // half of the round trip
		{1900 * time.Millisecond, 0, OK, "ahead of"},
		{3 * time.Second, 0, Warning, "3s ahead of"},
		{-3 * time.Second, 0, Warning, "3s behind"},
	} {
		if v := offset(c.ahead, c.took); v.result != c.result || !strings.Contains(v.text, c.says) {
			t.Errorf("%v, %v: %s, %q", c.ahead, c.took, v.result, v.text)
		}
	}
}

func TestOfSeveralNodesTheWorstIsReported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all  []verdict
		want Result
	}{
		{[]verdict{ok(""), skip("")}, Skipped},
		{[]verdict{skip(""), warn(""), ok("")}, Warning},
		{[]verdict{warn(""), fail("")}, Failure},
	} {
		if got := worst(c.all).result; got != c.want {
			t.Errorf("%v: %s", c.all, got)
		}
	}
}
