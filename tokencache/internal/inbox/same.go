package inbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/server"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
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

// Calm reports whether there is no reason to ask for the proof key, see [proof.Proof.Calm]. It does not know
// where Redis does not tell how many keys there are: a Cluster, a user without INFO.
func (c *Inbox) Calm(ctx context.Context, part int64) bool {
	n, told := c.countKeys(ctx)
	return c.proof.Calm(n, told, c.mem.Known(), part)
}

// countKeys is how many keys the database has, by INFO.
func (c *Inbox) countKeys(ctx context.Context) (n int64, told bool) {
	client, ok := c.rdb.(*redis.Client)
	if !ok {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, proof.Timeout)
	defer cancel()
	text, err := client.Info(ctx, "server", "replication", "keyspace").Result()
	if err != nil {
		return 0, false
	}
	c.sameServer(ctx, text)
	counts, _, _ := strings.Cut(strings.TrimPrefix(store.InfoOf(text)[fmt.Sprint("db", client.Options().DB)], "keys="), ",")
	n, err = strconv.ParseInt(counts, 10, 64)
	return n, err == nil // an empty database is not listed
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
		c.leave(ctx)
	}
}

// leave has go-redis close the connections to a server that has become a replica, one by one: an
// endpoint may lead elsewhere by now. It does so where a write is refused, and this one writes nothing.
func (c *Inbox) leave(ctx context.Context) {
	for range 10 {
		if err := c.rdb.Persist(ctx, c.names.Proof()).Err(); err == nil || ctx.Err() != nil {
			return
		}
	}
}
