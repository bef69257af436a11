package doctor

import (
	"fmt"
	"strings"
)

var durability = []Check{
	{
		ID: "durability.aof", What: "appendonly yes: a Redis that starts again has its grants", Remedy: "appendonly yes, in redis.conf and by CONFIG SET",
		Wrong: "a cloud service keeps the data in another way", examine: func(x *exam) verdict { return x.byInfo(aof) },
	},
	{
		ID: "durability.fsync", What: "appendfsync everysec or always", Remedy: "appendfsync everysec",
		Wrong: "a cloud service keeps the data in another way", examine: fsync,
	},
	{
		ID: "durability.saved", What: "the last write of the AOF, its last rewrite and the last RDB were stored", Remedy: "look at the disk of the Redis server: room, rights, errors",
		Wrong: "it has been mended since, and nothing was written yet", examine: func(x *exam) verdict { return x.byInfo(saved) },
	},
	{
		ID: "durability.eviction", What: "maxmemory-policy noeviction: an evicted grant is lost", Remedy: "maxmemory-policy noeviction; a cache of yours belongs into another Redis",
		Wrong: "the server does not say what a cloud service has set", examine: func(x *exam) verdict { return x.byInfo(eviction) },
	},
	{
		ID: "durability.memory", What: "maxmemory is set, and less than three quarters of it are in use", Remedy: "set maxmemory to twice what the grants need (tokenlatch help costs), below what the machine has",
		Wrong: "the limit is one of the container or the machine", examine: func(x *exam) verdict { return x.byInfo(memory) },
	},
	{
		ID: "durability.replicas", What: "each master has a replica that is in step", Remedy: "add a replica, and set Config.Replicas where it can take the master's place",
		Wrong: "the machine's disk outlives it, and you accept the time to start again", examine: func(x *exam) verdict { return x.byInfo(replicas) },
	},
}

func aof(info map[string]string) verdict {
	switch {
	case info["aof_enabled"] == "1":
		return ok("the AOF is on")
	case info["aof_enabled"] == "":
		return skip("the server does not say whether it has an AOF")
	}
	return fail("the AOF is off: a restart loses what came after the last RDB, and each lost grant costs a consent")
}

func fsync(x *exam) verdict {
	return x.each(func(n *node) verdict {
		if n.info["aof_enabled"] == "0" {
			return skip("there is no AOF")
		}
		switch value, known := n.setting(x.ctx, "appendfsync"); {
		case !known:
			return skip("CONFIG GET appendfsync is not allowed to this user")
		case value == "no":
			return warn("appendfsync no: a machine that fails loses up to half a minute")
		default:
			return ok("appendfsync %s", printable(value))
		}
	})
}

func saved(info map[string]string) verdict {
	var bad []string
	for _, name := range []string{"aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"} {
		if value := info[name]; value != "" && value != "ok" {
			bad = append(bad, name+":"+printable(value))
		}
	}
	if len(bad) > 0 {
		return fail("Redis could not write to its disk: %s", strings.Join(bad, ", "))
	}
	return ok("the last writes to disk were stored")
}

func eviction(info map[string]string) verdict {
	policy := printable(info["maxmemory_policy"])
	switch {
	case info["maxmemory_policy"] == "":
		return skip("the server does not say its maxmemory-policy")
	case info["maxmemory_policy"] == "noeviction":
		return ok("maxmemory-policy noeviction")
	case number(info, "maxmemory") == 0:
		return warn("maxmemory-policy %s would evict grants, once maxmemory is set", policy)
	}
	return fail("maxmemory-policy %s evicts grants when memory is full", policy)
}

func memory(info map[string]string) verdict {
	used, most := number(info, "used_memory"), number(info, "maxmemory")
	if info["used_memory"] == "" {
		return skip("the server does not say how much memory it uses")
	}
	if most == 0 {
		return warn("maxmemory is not set: when the machine's memory is full the kernel ends Redis")
	}
	share := float64(used) / float64(most)
	text := fmt.Sprintf("%d %% of maxmemory (%s of %s MB) are in use", int(100*share), megabytes(used), megabytes(most))
	switch {
	case share >= 0.9:
		return fail("%s: soon no grant can be refreshed", text)
	case share >= 0.75:
		return warn("%s", text)
	}
	return ok("%s", text)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }

// lagAt is how many seconds ago a replica may have spoken last.
const lagAt = 10

func replicas(info map[string]string) verdict {
	n := number(info, "connected_slaves")
	if n == 0 {
		return warn("there is no replica: with this machine the grants are gone")
	}
	for i := range n {
		said := info[fmt.Sprintf("slave%d", i)]
		if !strings.Contains(said, "state=online") {
			return warn("a replica is not in step: %s", printable(said))
		}
		lag := int64(0)
		_, after, _ := strings.Cut(said, "lag=")
		_, _ = fmt.Sscanf(after, "%d", &lag)
		if lag > lagAt {
			return warn("a replica was last heard %d s ago", lag)
		}
	}
	return ok("%s in step", plural(int(n), "replica is", "replicas are"))
}
