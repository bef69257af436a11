package lock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	"github.com/redis/go-redis/v9"
)

const (
	defaultTTL = 10 * time.Second
	minTTL     = 50 * time.Millisecond
	// nonceLen is the length of crypto/rand.Text, which ends every lock value.
	nonceLen = 26
	// maxHost keeps host/pid within the 64 bytes that a record's field may have.
	maxHost = 48
	// requestShare of the TTL is what one round of requests may take. Redsync's
	// own 5 % fails acquisitions on a Redis that is merely slow.
	requestShare = 0.25
)

// Config of a Locker. The zero value works.
type Config struct {
	// TTL is how long a lease lives without extension. Default 10 s, at least 50 ms.
	TTL time.Duration
	// Name is the holder's name that others see. Default host/pid.
	Name string
}

// Locker hands out leases. It is safe for concurrent use.
type Locker struct {
	ttl     time.Duration
	name    string
	clients []redis.UniversalClient
}

// New returns a Locker on one Redis, or on the majority of several independent
// ones. It panics without a client.
func New(cfg Config, clients ...redis.UniversalClient) *Locker {
	if len(clients) == 0 {
		panic("lock: New needs at least one Redis client")
	}
	if cfg.TTL <= 0 {
		cfg.TTL = defaultTTL
	}
	if cfg.Name == "" {
		cfg.Name = HostPID()
	}
	return &Locker{ttl: max(cfg.TTL, minTTL), name: cfg.Name, clients: clients}
}

// HostPID is the default name of a holder: host/pid.
func HostPID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	host = host[:min(len(host), maxHost)]
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// TTL is how long a lease lives without extension.
func (l *Locker) TTL() time.Duration { return l.ttl }

// Name is the holder's name that others see.
func (l *Locker) Name() string { return l.name }

// Try asks once for the lease of key and never waits for a holder. The error is a
// *HeldError, a Redis error, or the cause of ctx if that ends first; in the last
// case a lease that arrives late is given back.
func (l *Locker) Try(ctx context.Context, key string) (*Lease, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	// A ctx that ends between SET and its reply would orphan the key, and a cancel
	// never interrupts go-redis: ask on a ctx of our own, and let the caller leave.
	type answer struct {
		lease *Lease
		err   error
	}
	got := make(chan answer, 1)
	own := context.WithoutCancel(ctx)
	go func() {
		lease, err := l.try(own, key)
		got <- answer{lease, err}
	}()
	select {
	case a := <-got:
		return a.lease, a.err
	case <-ctx.Done():
		go func() {
			if a := <-got; a.lease != nil {
				_ = a.lease.Release(own)
			}
		}()
		return nil, context.Cause(ctx)
	}
}

func (l *Locker) try(ctx context.Context, key string) (*Lease, error) {
	value := l.name + "/" + rand.Text()
	nodes := make([]*pool, len(l.clients))
	pools := make([]redsyncredis.Pool, len(l.clients))
	for i, rdb := range l.clients {
		nodes[i] = newPool(rdb, l.ttl)
		pools[i] = nodes[i]
	}
	mutex := redsync.New(pools...).NewMutex(key,
		redsync.WithExpiry(l.ttl),
		redsync.WithTries(1),
		redsync.WithTimeoutFactor(requestShare),
		redsync.WithGenValueFunc(func() (string, error) { return value, nil }),
	)
	err := mutex.TryLockContext(ctx)
	if err == nil {
		return newLease(ctx, mutex, l.ttl), nil
	}
	var taken *redsync.ErrTaken
	if errors.As(err, &taken) {
		return nil, l.held(ctx, key, nodes)
	}
	if strings.Contains(err.Error(), "WRONGTYPE") {
		return nil, fmt.Errorf("lock: the key %s is of another type than a lock: somebody else has written it; delete it: %w", key, err)
	}
	return nil, fmt.Errorf("lock: try %s: %w", key, err)
}

// held reports who has the key and for how long, from the node where it lives longest.
func (l *Locker) held(ctx context.Context, key string, nodes []*pool) error {
	ctx, cancel := context.WithTimeout(ctx, max(time.Second, time.Duration(float64(l.ttl)*requestShare)))
	defer cancel()
	h := &HeldError{Key: key, For: -1}
	for _, n := range nodes {
		value, held := n.takenBy()
		if !held {
			continue
		}
		left, err := within(ctx, func() (time.Duration, error) { return n.rdb.PTTL(ctx, key).Result() })
		if err != nil || left == -1 {
			left = l.ttl // nobody says how long (-1: somebody set it by hand, without expiry)
		}
		if left = max(left, 0); left > h.For {
			h.By, h.For = holder(value), left
		}
	}
	return h
}

// holder is the name in a lock value, which ends in a slash and a nonce.
func holder(value string) string {
	if i := len(value) - nonceLen - 1; i > 0 && strings.HasPrefix(value[i:], "/") {
		return value[:i]
	}
	return value
}
