package lock

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	redsync "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// pool is a Redsync pool for one acquisition, of one node. It asks for the lock with SET NX
// GET (Redis 7.0), which answers two questions that SETNX leaves open:
//
//   - Was it us? go-redis repeats a SET whose reply was lost; the repeat finds
//     our own value and would be taken for somebody else's lock.
//   - Who has it? The value names the holder, with no further round trip.
type pool struct {
	redsync.Pool
	rdb     redis.UniversalClient
	node    int
	votes   *votes
	ttl     time.Duration
	settled chan struct{} // closed when SET has its answer

	mu    sync.Mutex // guards what follows
	held  bool       // by a value that is not ours
	taken string     // that value
}

// votes are the rounds of one acquisition: its SET, and what is asked of the lease afterwards.
type votes struct {
	doubts doubts
	grace  time.Duration
	set    *round
	eval   atomic.Pointer[round]
}

func newVotes(d doubts, grace time.Duration) *votes {
	v := &votes{doubts: d, grace: grace, set: newRound(d, grace)}
	v.next()
	return v
}

// next begins the next round of scripts.
func (v *votes) next() { v.eval.Store(newRound(v.doubts, v.grace)) }

func newPool(rdb redis.UniversalClient, node int, v *votes, ttl time.Duration) *pool {
	return &pool{Pool: goredis.NewPool(rdb), rdb: rdb, node: node, votes: v, ttl: ttl, settled: make(chan struct{})}
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

type conn struct {
	redsync.Conn
	ctx  context.Context
	pool *pool
}

// SetNX reports whether name now holds value. It goes on when nobody waits any more: a node that is
// slow is to have the key too.
func (c *conn) SetNX(name, value string, expiry time.Duration) (bool, error) {
	return ask(c.ctx, c.pool.votes.set, c.pool.node, func() (bool, error) {
		defer close(c.pool.settled)
		return c.setNX(name, value, expiry)
	}, func(ok bool) bool { return ok })
}

func (c *conn) setNX(name, value string, expiry time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), c.pool.ttl)
	defer cancel()
	found, err := c.pool.rdb.Do(ctx, "set", name, value, "nx", "get", "px", expiry.Milliseconds()).Text()
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
	round := c.pool.votes.eval.Load()
	if _, held := c.pool.takenBy(); held {
		round.note(c.pool.node, false, nil)
		return int64(0), nil
	}
	return ask(c.ctx, round, c.pool.node, func() (any, error) {
		<-c.pool.settled
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), c.pool.ttl)
		defer cancel()
		own, err := c.pool.Pool.Get(ctx)
		if err != nil {
			return nil, err
		}
		return own.Eval(script, keysAndArgs...)
	}, func(got any) bool { return got == int64(1) })
}
