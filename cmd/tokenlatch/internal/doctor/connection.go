package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// slowAt is how long a round trip may take: a refresh costs five.
const slowAt = 50 * time.Millisecond

var connection = []Check{
	{
		ID: "connection.answers", What: "Redis answers a PING within 50 ms", Remedy: "run the workers near Redis: a refresh costs five round trips",
		Wrong: "this machine is not where the workers run", examine: answers,
	},
	{
		ID: "connection.version", What: "Redis 7.0 or newer, or Valkey", Remedy: "upgrade the server",
		Wrong: "a proxy or a cloud service states a version of its own", examine: func(x *exam) verdict { return x.byInfo(version) },
	},
	{
		ID: "connection.encrypted", What: "TLS, or no network between", Remedy: "use rediss://, or a tunnel: passwords and sealed pairs cross the network",
		Wrong: "the network between is encrypted already, as by WireGuard or a service mesh", examine: encrypted,
	},
}

func answers(x *exam) verdict {
	return x.each(func(n *node) verdict {
		var took []time.Duration
		for range 5 {
			start := time.Now()
			if err := n.rdb.Ping(x.ctx).Err(); err != nil {
				return fail("PING: %s", line(err))
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		if median := took[len(took)/2]; median > slowAt {
			return warn("a PING takes %s", ms(median))
		} else {
			return ok("a PING takes %s", ms(median))
		}
	})
}

func version(info map[string]string) verdict {
	if is := info["valkey_version"]; is != "" {
		return ok("Valkey %s", is)
	}
	is := info["redis_version"]
	major := 0
	if _, err := fmt.Sscanf(is, "%d.", &major); err != nil {
		return skip("the server does not state its version")
	}
	if major < 7 {
		return fail("Redis %s lacks what the scripts need", is)
	}
	return ok("Redis %s", is)
}

func encrypted(x *exam) verdict {
	switch {
	case x.Encrypted:
		return ok("the connection is encrypted")
	case local(x.Place):
		return ok("no network is between")
	}
	return warn("%s is reached without TLS", x.Place)
}

// local reports whether an address is on this machine.
func local(place string) bool {
	for _, begin := range []string{"unix://", "127.", "localhost:", "[::1]:", "redis://127.", "redis://localhost", "redis://[::1]", "redis-sentinel://127.", "redis-sentinel://localhost", "redis-cluster://127.", "redis-cluster://localhost"} {
		if strings.HasPrefix(place, begin) {
			return true
		}
	}
	return false
}
