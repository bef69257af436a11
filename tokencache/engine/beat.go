package engine

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// beat sends a heartbeat the way that commands go. On a Cluster the number of listeners is that of
// one node, and is not told.
func (st *store) beat(ctx context.Context, channel, nonce string) (listeners int64, err error) {
	if _, cluster := st.rdb.(*redis.ClusterClient); cluster {
		return -1, heartbeatScript.Run(ctx, st.rdb, []string{channel}, nonce).Err()
	}
	return st.rdb.Publish(ctx, channel, nonce).Result()
}
