package inspect

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// scratchTenant is the tenant in the names of scratch keys. No key of a grant of that name is touched.
const scratchTenant = "doctor"

// Denied names what workers of an app need and this client's user may not do: "command key", each. Redis is
// asked by its own rules (ACL), and nothing is executed. The error is grant.ErrUnfit where the question itself
// is refused, or the server is too old to answer it.
func (in *Inspector) Denied(ctx context.Context, app string) ([]string, error) {
	denied, err := in.db.Denied(ctx, grant.Key{App: app, Tenant: scratchTenant})
	if err != nil {
		return nil, fmt.Errorf("tokencache: rights: %w", said(err))
	}
	return denied, nil
}

// Scratch returns how the names of keys begin in which the rights of an app's workers can be tried. They hold no
// grant, and no reader of grants finds them.
func (in *Inspector) Scratch(app string) string {
	return string(in.names.Grant(grant.Key{App: app, Tenant: scratchTenant})) + "scratch:"
}

// Heartbeats returns how the channels of the processes' heartbeats begin.
func (in *Inspector) Heartbeats() string { return in.names.Heartbeats() }

// Trials returns how the channels begin in which it can be tried whether a push arrives. They begin as Heartbeats
// says, and who listens there counts as no process.
func (in *Inspector) Trials() string { return in.names.Trials() }

// Processes returns how many processes listen to their own heartbeat: those that work for the grants below this
// prefix, as far as they are connected just now.
func (in *Inspector) Processes(ctx context.Context) (int, error) {
	n, err := store.Bounded(ctx, in.timeout, func(ctx context.Context) (int, error) {
		nodes, err := in.nodes(ctx)
		seen := map[string]struct{}{}
		for _, node := range nodes {
			channels, failed := node.PubSubChannels(ctx, in.names.Heartbeats()+"*").Result()
			if failed != nil && err == nil {
				err = failed
			}
			for _, channel := range channels {
				if !strings.HasPrefix(channel, in.names.Runs()) && !strings.HasPrefix(channel, in.names.Trials()) {
					seen[channel] = struct{}{}
				}
			}
		}
		return len(seen), err
	})
	if err != nil {
		return 0, fmt.Errorf("tokencache: processes: %w", said(err))
	}
	return n, nil
}

// WithoutPair returns those of the grants of which Redis has no sealed pair. Of each pair one byte is read,
// which is a digit of its consent's time. The error says what is not known; it names a right where one is
// missing.
func (in *Inspector) WithoutPair(ctx context.Context, grants []grant.Key) ([]grant.Key, error) {
	keys := make([]string, len(grants))
	for i, k := range grants {
		keys[i] = in.names.Grant(k).Secret()
	}
	first, err := store.Spread(ctx, in.db.Redis, keys, func(p redis.Pipeliner, i int) *redis.StringCmd { return p.GetRange(ctx, keys[i], 0, 0) })
	var without []grant.Key
	for i, got := range first {
		if got != nil && got.Val() == "" {
			without = append(without, grants[i])
		}
	}
	if err != nil {
		err = fmt.Errorf("tokencache: pairs: %w", said(err))
	}
	return without, err
}
