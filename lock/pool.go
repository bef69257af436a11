package lock

import (
	"context"
	"errors"
	"sync"
	"time"

	redsync "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// pool is a Redsync pool for one acquisition. It asks for the lock with SET NX
// GET (Redis 7.0), which answers two questions that SETNX leaves open:
//
//   - Was it us? go-redis repeats a SET whose reply was lost; the repeat finds
//     our own value and would be taken for somebody else's lock.
//   - Who has it? The value names the holder, with no further round trip.
type pool struct {
	redsync.Pool
	rdb redis.UniversalClient

	mu    sync.Mutex
	taken string // value found instead of ours
}

func newPool(rdb redis.UniversalClient) *pool {
	return &pool{Pool: goredis.NewPool(rdb), rdb: rdb}
}

// Get implements the Redsync pool.
func (p *pool) Get(ctx context.Context) (redsync.Conn, error) {
	c, err := p.Pool.Get(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, ctx: ctx, pool: p}, nil
}

func (p *pool) takenBy() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

type conn struct {
	redsync.Conn
	ctx  context.Context
	pool *pool
}

// SetNX reports whether name now holds value.
func (c *conn) SetNX(name, value string, expiry time.Duration) (bool, error) {
	found, err := c.pool.rdb.Do(c.ctx, "set", name, value, "nx", "get", "px", expiry.Milliseconds()).Text()
	if errors.Is(err, redis.Nil) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if found == value {
		return true, nil
	}
	c.pool.mu.Lock()
	c.pool.taken = found
	c.pool.mu.Unlock()
	return false, nil
}

// Eval skips the clean-up of an acquisition that provably set nothing here: a
// waiter would pay two commands for it.
func (c *conn) Eval(script *redsync.Script, keysAndArgs ...any) (any, error) {
	if c.pool.takenBy() != "" {
		return int64(0), nil
	}
	return c.Conn.Eval(script, keysAndArgs...)
}
