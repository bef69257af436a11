package store

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Nodes are the Redis that have grants.
func (st *Store) Nodes(ctx context.Context) (nodes []redis.Cmdable, err error) {
	cluster, ok := st.Redis.(*redis.ClusterClient)
	if !ok {
		return []redis.Cmdable{st.Redis}, nil
	}
	turn := make(chan struct{}, 1) // ForEachMaster calls at the same time
	err = cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		turn <- struct{}{}
		nodes = append(nodes, node)
		<-turn
		return nil
	})
	return nodes, err
}
