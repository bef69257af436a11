package engine

import (
	"context"
	_ "embed"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/heartbeat.lua
var heartbeatLua string

var heartbeatScript = redis.NewScript(heartbeatLua)

// beat sends a heartbeat the way that commands go. On a Cluster the number of listeners is that of
// one node, and is not told.
func (c *Cache) beat(ctx context.Context, channel, nonce string) (listeners int64, err error) {
	if _, cluster := c.rdb.(*redis.ClusterClient); cluster {
		return -1, heartbeatScript.Run(ctx, c.rdb, []string{channel}, nonce).Err()
	}
	return c.rdb.Publish(ctx, channel, nonce).Result()
}
