// Package store is Redis, and no memory of a grant: the spelling of every key, the Lua scripts, which
// node of a Cluster has a key, what replicas have acknowledged, and what an operator must mend.
package store

import (
	"context"
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v4"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// Store is Redis: what runs scripts and reads, and knows which node to ask. It remembers nothing of a grant.
type Store struct {
	Redis redis.UniversalClient
	Names Names
	log   zerolog.Logger
	// Proof is what a script that publishes signs with; see publish.lua.
	Proof func(ctx context.Context) string
	// Watchers are told how long operations take, among other things.
	Watchers watchers

	rides    rides
	plainLua atomic.Bool // the server knows no first line with flags

	saidUnpublished atomic.Bool // that this user may not publish
	slots           slotMap
	lines           *xsync.Map[string, *line]    // by server
	sent            *xsync.Map[string, struct{}] // scripts, by hash, whose text this process has sent to Redis
}

func New(rdb redis.UniversalClient, n Names, log zerolog.Logger) *Store {
	return &Store{
		Redis: rdb, Names: n, log: log, rides: rides{Redis: rdb}, slots: slotMap{rdb: rdb},
		lines: xsync.NewMap[string, *line](), sent: xsync.NewMap[string, struct{}](),
	}
}

// Secret reads one sealed pair, or no more of it than any pair can have.
func (st *Store) Secret(ctx context.Context, key string) ([]byte, error) {
	return st.rides.secret(ctx, key)
}
