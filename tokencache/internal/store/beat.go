package store

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Beat sends a heartbeat the way that commands go. On a Cluster the number of listeners is that of
// one node, and is not told.
func (st *Store) Beat(ctx context.Context, channel, nonce string) (listeners int64, err error) {
	if _, cluster := st.Redis.(*redis.ClusterClient); cluster {
		return -1, heartbeatScript.Run(ctx, st.Redis, []string{channel}, nonce).Err()
	}
	return st.Redis.Publish(ctx, channel, nonce).Result()
}
