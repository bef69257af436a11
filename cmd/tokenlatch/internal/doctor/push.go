package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// lateAt is how long a push may take: waiters have their token that much later.
const lateAt = 100 * time.Millisecond

var push = []Check{{
	ID: "push.arrives", What: "what is published is received within 100 ms", Remedy: "allow the channels (permissions.keys); look for a proxy that knows no pub/sub",
	Wrong: "this machine is not where the workers run", examine: arrives,
}}

func arrives(x *exam) verdict {
	ctx, cancel := context.WithTimeout(x.ctx, 2*x.Timeout)
	defer cancel()
	took, err := roundTrips(ctx, x.nodes, x.Inspector.Trials()+rand.Text(), x.Timeout)
	switch {
	case denied(err):
		return verdict{Failure, "the channel is not allowed: " + line(err), "ACL SETUSER " + x.user() + " &" + x.Inspector.Heartbeats() + "* +publish +subscribe"}
	case err != nil:
		return fail("no push arrives: %s", line(err))
	}
	slices.Sort(took)
	if median := took[len(took)/2]; median > lateAt {
		return warn("a push takes %s", ms(median))
	} else {
		return ok("a push takes %s from publish to receipt", ms(median))
	}
}

// roundTrips returns how long messages take from the last node to one who listens at the first.
func roundTrips(ctx context.Context, nodes []*node, channel string, timeout time.Duration) (took []time.Duration, err error) {
	listener, is := nodes[0].rdb.(interface {
		Subscribe(context.Context, ...string) *redis.PubSub
	})
	if !is {
		return nil, fmt.Errorf("%s: no subscriber", nodes[0].addr)
	}
	ps := listener.Subscribe(ctx, channel)
	defer ps.Close()
	if _, err := ps.ReceiveTimeout(ctx, timeout); err != nil {
		return nil, err
	}
	for range 5 {
		nonce, start := rand.Text(), time.Now()
		if err := nodes[len(nodes)-1].rdb.Publish(ctx, channel, nonce).Err(); err != nil {
			return nil, err
		}
		for heard := ""; heard != nonce; {
			got, err := ps.ReceiveTimeout(ctx, timeout)
			if err != nil {
				return nil, err
			}
			if m, is := got.(*redis.Message); is {
				heard = m.Payload
			}
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}
