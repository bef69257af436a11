package inbox

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/server"
)

// Whether this is still the database that this process knows, on the server that it knows.

// Identify looks whether this is still the database that this process knows, and reports whether Redis
// has lost the data that it knew.
func (c *Inbox) Identify(ctx context.Context) (lost bool, err error) {
	lost, noticed, err := c.proof.Identify(ctx)
	if noticed {
		c.mem.Invalidate()
		c.apps.Invalidate()
		c.log.Error().Msg("Redis has lost its data: this process gives back what it remembers; look at the persistence of Redis")
	}
	return lost, err
}

// lookAtServer asks Redis what it says of itself. A Cluster's nodes are looked at elsewhere, and a user
// without INFO does not learn it.
func (c *Inbox) lookAtServer(ctx context.Context) {
	if client, ok := c.rdb.(*redis.Client); ok {
		ctx, cancel := context.WithTimeout(ctx, proof.Timeout)
		defer cancel()
		if text, err := client.Info(ctx, "server", "replication").Result(); err == nil {
			c.sameServer(ctx, text)
		}
	}
}

// sameServer takes what Redis says of itself every few seconds: memory is not believed where it is another
// server, or no master any more.
func (c *Inbox) sameServer(ctx context.Context, text string) {
	err := c.servers.Same(text)
	if err == nil {
		return
	}
	c.hub.Distrust(err)
	if errors.Is(err, server.ErrReplica) {
		c.Leave(ctx)
	}
}

// Leave has go-redis close the connections to a server that has become a replica, one by one: an
// endpoint may lead elsewhere by now. It does so where a write is refused, and this one writes nothing.
func (c *Inbox) Leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, proof.Timeout)
	defer cancel()
	for range 10 {
		if err := c.rdb.Persist(ctx, c.names.Proof()).Err(); err == nil || ctx.Err() != nil {
			return
		}
	}
}
