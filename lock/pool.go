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
	rdb     redis.UniversalClient
	ttl     time.Duration
	settled chan struct{} // closed when SET has its answer

	mu    sync.Mutex // guards what follows
	held  bool       // by a value that is not ours
	taken string     // that value
}

func newPool(rdb redis.UniversalClient, ttl time.Duration) *pool {
	return &pool{Pool: goredis.NewPool(rdb), rdb: rdb, ttl: ttl, settled: make(chan struct{})}
}

// Get implements the Redsync pool.
func (p *pool) Get(ctx context.Context) (redsync.Conn, error) {
	c, err := p.Pool.Get(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, ctx: ctx, pool: p}, nil
}

func (p *pool) takenBy() (value string, held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken, p.held
}

// within waits for f until ctx ends. A deadline alone does not do: go-redis sits on a
// silent connection for its ReadTimeout, 5 s, unless ContextTimeoutEnabled.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		value, err := f()
		got <- answer{value, err}
	}()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

type conn struct {
	redsync.Conn
	ctx  context.Context
	pool *pool
}

// SetNX reports whether name now holds value.
func (c *conn) SetNX(name, value string, expiry time.Duration) (bool, error) {
	return within(c.ctx, func() (bool, error) {
		defer close(c.pool.settled)
		return c.setNX(name, value, expiry)
	})
}

func (c *conn) setNX(name, value string, expiry time.Duration) (bool, error) {
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
	c.pool.held, c.pool.taken = true, found
	c.pool.mu.Unlock()
	return false, nil
}

// Eval skips the clean-up of an acquisition that provably set nothing here: a
// waiter would pay two commands for it. Else it goes on when nobody waits any more, for
// as long as the key could live: a SET under way must not outlive its clean-up.
func (c *conn) Eval(script *redsync.Script, keysAndArgs ...any) (any, error) {
	if _, held := c.pool.takenBy(); held {
		return int64(0), nil
	}
	return within(c.ctx, func() (any, error) {
		<-c.pool.settled
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), c.pool.ttl)
		defer cancel()
		own, err := c.pool.Pool.Get(ctx)
		if err != nil {
			return nil, err
		}
		return own.Eval(script, keysAndArgs...)
	})
}
