package doctor

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

var topology = []Check{
	{
		ID: "topology.role", What: "the address leads to a master, in the way that the server is run", Remedy: "give the address of the master, or of the Sentinels (redis-sentinel://), or of the Cluster (redis-cluster://)",
		Wrong: "a failover is under way", examine: func(x *exam) verdict {
			return x.byInfo(func(info map[string]string) verdict { return role(info, x.kind()) })
		},
	},
	{
		ID: "topology.sentinels", What: "three Sentinels or more, of which enough agree", Remedy: "run three Sentinels, on machines of their own",
		Wrong: "the Sentinels cannot be reached from this machine", examine: sentinels,
	},
	{
		ID: "topology.cluster", What: "all slots are served, and one node that is away stops its own grants only", Remedy: "cluster-require-full-coverage no; bring the missing node back",
		Wrong: "a failover is under way", examine: cluster,
	},
}

// kind returns how the address says that Redis is run.
func (x *exam) kind() string {
	if _, is := x.Redis.(*redis.ClusterClient); is {
		return "cluster"
	}
	if len(x.Sentinels) > 0 {
		return "sentinel"
	}
	return "standalone"
}

func role(info map[string]string, kind string) verdict {
	mode := cmp.Or(info["redis_mode"], info["server_mode"]) // Valkey
	switch {
	case info["role"] == "slave":
		return fail("it is a replica of %s: it takes no writes", printable(info["master_host"]+":"+info["master_port"]))
	case mode == "cluster" && kind != "cluster":
		return fail("it is a node of a Cluster, and the address says that it is alone")
	case mode == "standalone" && kind == "cluster":
		return fail("it is no Cluster, and the address says that it is one")
	case info["role"] == "":
		return skip("the server does not say its role")
	}
	return ok("a master, %s", kind)
}

// fewSentinels cannot outvote one that is parted from the others.
const fewSentinels = 3

func sentinels(x *exam) verdict {
	if len(x.Sentinels) == 0 {
		return skip("the address names no Sentinel")
	}
	var silent []string
	most, agree := 0, error(nil)
	for _, addr := range x.Sentinels {
		s := redis.NewSentinelClient(&redis.Options{Addr: addr, DialTimeout: x.Timeout, ReadTimeout: x.Timeout, MaxRetries: -1})
		others, err := s.Sentinels(x.ctx, x.Master).Result()
		if err == nil {
			most, agree = max(most, 1+len(others)), s.CkQuorum(x.ctx, x.Master).Err()
		} else {
			silent = append(silent, addr)
		}
		_ = s.Close()
	}
	switch {
	case most == 0:
		return skip("no Sentinel answers: %s", some(silent))
	case agree != nil && !denied(agree):
		return fail("too few Sentinels agree to replace a master: %s", line(agree))
	case most < fewSentinels:
		return warn("%s: three are needed to outvote one that is parted from the others", plural(most, "Sentinel watches", "Sentinels watch"))
	case len(silent) > 0:
		return warn("Sentinels do not answer: %s", some(silent))
	}
	return ok("%d Sentinels watch %s", most, printable(x.Master))
}

func cluster(x *exam) verdict {
	if x.kind() != "cluster" {
		return skip("it is no Cluster")
	}
	return x.each(func(n *node) verdict {
		text, err := n.rdb.ClusterInfo(x.ctx).Result()
		if err != nil {
			return unknown(err)
		}
		v := clusterState(infoOf(text))
		if full, known := n.setting(x.ctx, "cluster-require-full-coverage"); v.result == OK && known && full == "yes" {
			return warn("cluster-require-full-coverage yes: one node that is away stops all grants")
		}
		return v
	})
}

func clusterState(info map[string]string) verdict {
	assigned, served := info["cluster_slots_assigned"], info["cluster_slots_ok"]
	if info["cluster_state"] != "ok" || served != "16384" {
		return fail("cluster_state:%s, %s of 16384 slots are assigned, %s are served", printable(info["cluster_state"]), printable(assigned), printable(served))
	}
	size := strings.TrimSpace(info["cluster_size"])
	return ok("%s masters serve all slots", fmt.Sprint(printable(size)))
}
