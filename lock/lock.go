package lock

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
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
	// graceShare of the TTL is what a server that does not answer may hold up the others.
	graceShare = 0.025
	// splitShare of the TTL is for how long one asks again after split votes.
	splitShare = 0.1
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
	doubts  func() doubts // of the clients' servers; a func, which whoever prints a Locker does not look into
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
	d := make(doubts, len(clients))
	return &Locker{ttl: max(cfg.TTL, minTTL), name: cfg.Name, clients: clients, doubts: func() doubts { return d }}
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

// TTL returns how long a lease lives without extension.
func (l *Locker) TTL() time.Duration { return l.ttl }

// Name is the holder's name that others see.
func (l *Locker) Name() string { return l.name }

// Try asks for the lease of key, and never waits for a holder. With several servers it asks again, for
// a fraction of a second, while other processes have votes and none has a majority. The error is a
// *HeldError, a Redis error, or the cause of ctx if that ends first. If ctx ends first, Try gives back
// a lease that arrives later.
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

// try asks for the lease; of several servers it asks again, a few times, if the votes are split.
//
//  1. Of three servers one is dead. A and B want the same lease at the same time.
//  2. Each gets it of one server: none has a majority, and nobody holds the lease.
//  3. Both give back what they have, and ask again after a short time, each after another one.
func (l *Locker) try(ctx context.Context, key string) (*Lease, error) {
	start, met := time.Now(), map[string]time.Time{}
	for pause := splitPause; ; pause = min(pause+splitPause, 8*splitPause) {
		lease, nodes, err := l.ask(ctx, key)
		if lease != nil || !errors.Is(err, ErrHeld) {
			return lease, err
		}
		votes, most, since := map[string]int{}, 0, time.Now()
		for _, n := range nodes {
			value, held := n.takenBy()
			if !held {
				continue
			}
			votes[value]++
			most = max(most, votes[value])
			if at, known := met[value]; !known {
				met[value] = time.Now()
			} else if at.Before(since) {
				since = at
			}
		}
		split, patience := most < len(nodes)/2+1, time.Duration(float64(l.ttl)*splitShare)
		if !split || time.Since(start) > patience {
			// A vote that is not given back is one of somebody who has died over it.
			return nil, l.held(ctx, key, nodes, split && time.Since(since) < patience/2)
		}
		time.Sleep(splitPause + rand.N(pause))
	}
}

// splitPause is far longer than a server takes to answer.
const splitPause = 10 * time.Millisecond

// ask asks once. The error is ErrHeld, for the caller to say by whom, or Redis'.
func (l *Locker) ask(ctx context.Context, key string) (*Lease, []*pool, error) {
	value := l.name + "/" + crand.Text()
	votes := newVotes(l.doubts(), time.Duration(float64(l.ttl)*graceShare))
	nodes := make([]*pool, len(l.clients))
	pools := make([]redsyncredis.Pool, len(l.clients))
	for i, rdb := range l.clients {
		nodes[i] = newPool(rdb, i, votes, l.ttl)
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
		return newLease(ctx, mutex, votes, l.ttl), nil, nil
	}
	var all *redsync.ErrTaken
	var one *redsync.ErrNodeTaken
	switch {
	case errors.As(err, &all), errors.As(err, &one) && !l.outvoted(err):
		return nil, nodes, ErrHeld
	case strings.Contains(err.Error(), "WRONGTYPE"):
		return nil, nil, fmt.Errorf("lock: the key %s is of another type than a lock: somebody else has written it; delete it: %w", key, err)
	}
	return nil, nil, fmt.Errorf("lock: try %s: %w", key, err)
}

// outvoted reports whether a majority has not answered: then it is not known who has the lease.
func (l *Locker) outvoted(err error) bool {
	var failed int
	var count func(error)
	count = func(err error) {
		if _, ok := err.(*redsync.RedisError); ok {
			failed++
			return
		}
		if all, ok := err.(interface{ Unwrap() []error }); ok {
			for _, err := range all.Unwrap() {
				count(err)
			}
		}
	}
	count(err)
	return failed > (len(l.clients)-1)/2
}

// held reports who has the key and for how long, from the node where it lives longest. After a split
// vote nobody may have it: then it is free soon.
func (l *Locker) held(ctx context.Context, key string, nodes []*pool, split bool) error {
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
	if split {
		h.For = min(h.For, l.ttl/10)
	}
	return h
}

// within waits for f until ctx ends.
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

// holder is the name in a lock value, which ends in a slash and a nonce.
func holder(value string) string {
	if i := len(value) - nonceLen - 1; i > 0 && strings.HasPrefix(value[i:], "/") {
		return value[:i]
	}
	return value
}
