// Package keep brings to Redis what this process alone has: the pairs above all, which must not be lost, and
// failures, for which others wait.
package keep

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

const (
	// keepPause is how rarely what must not be lost is tried again, at most; less where a claim must
	// be put off meanwhile.
	keepPause = 30 * time.Second
	// closingPause is the same while Close waits.
	closingPause = 500 * time.Millisecond
	// commitWait is how long callers wait for Redis to take a change before they get their
	// result from memory.
	commitWait = time.Second
)

// Keeper stores what this process alone has.
type Keeper struct {
	Work         *work.Group
	ClaimTimeout time.Duration // within half of it what must not be lost is tried again
	Patience     time.Duration // for which Persist goes on
	Log          zerolog.Logger

	kept kept
}

// Empty is closed once nothing is left that Keep goes on with.
func (k *Keeper) Empty() <-chan struct{} { return k.kept.empty() }

// Keeps returns how many things Redis has not taken, and Keep goes on with.
func (k *Keeper) Keeps() int { return k.kept.count() }

// Left is an error that names everything that Keep goes on with; nil for nothing.
func (k *Keeper) Left() error { return k.kept.left() }

// Pending returns how much Keep has failed to store, and goes on with.
func Pending(k *Keeper) (n int) {
	k.kept.mu.Lock()
	defer k.kept.mu.Unlock()
	for _, one := range k.kept.what {
		if one.err != nil {
			n++
		}
	}
	return n
}

// Keeping is something that exists here alone until Redis takes it: a pair, above all.
type Keeping struct {
	Grant   engine.Grant
	Tenant  string
	What    string // for people
	Attempt func(context.Context) error
	Between func()                // after a failed attempt; may be nil
	Late    func(context.Context) // after one that nobody has waited for; may be nil
	Done    func()                // at the end; may be nil
}

// Keep stores what must not be lost. It returns when the first attempt has ended or takes too long; after
// a failure it goes on trying in the background, for as long as the process lives: the grant stays in
// memory as long. Close waits for it, for CommitPatience. Only after nil may the caller read what
// Attempt wrote.
func (k *Keeper) Keep(what Keeping) error {
	first, left := make(chan error, 1), &atomic.Bool{}
	end := k.kept.add(what.What)
	pin := what.Grant.Pin()
	go func() {
		defer end()
		defer pin.Unpin()
		if what.Done != nil {
			defer what.Done()
		}
		k.keepOn(what, first, left)
	}()
	err := firstOf(first)
	if err == nil {
		return nil
	}
	left.Store(true)
	select {
	case err = <-first: // just now
	default:
	}
	return err
}

func (k *Keeper) keepOn(what Keeping, first chan<- error, left *atomic.Bool) {
	backoff := policy.Backoff{Most: min(keepPause, k.ClaimTimeout/2)}
	for n := 1; ; n++ {
		err := tryIt(what.Attempt)
		if n == 1 {
			first <- err
		}
		if err == nil {
			if left.Load() {
				k.Log.Info().Str("tenant", what.Tenant).Int("attempt", n).Msg("Redis took it at last")
				if what.Late != nil {
					ctx, cancel := context.WithTimeout(context.Background(), work.RedisTimeout)
					defer cancel()
					what.Late(ctx)
				}
			}
			return
		}
		k.kept.noteFailure(what.What, err)
		if errors.Is(err, redis.ErrClosed) {
			k.Log.Error().Err(err).Str("tenant", what.Tenant).Msg("given up: somebody has closed the Redis client, and this was not stored")
			return
		}
		if what.Between != nil {
			what.Between()
		}
		wake := k.Work.Waiting.Done()
		if k.Work.Waiting.Err() != nil { // Close waits
			wake, backoff.Most = nil, min(backoff.Most, closingPause)
		}
		timer := time.NewTimer(backoff.Next(rand.Float64()))
		select {
		case <-timer.C:
		case <-wake:
			timer.Stop()
		}
	}
}

// Persist stores what others wait for. It returns when the first attempt has ended or takes too long;
// after a failure it goes on trying in the background, bounded by Patience. Close waits for
// it. Only after nil may the caller read what attempt wrote.
func (k *Keeper) Persist(g engine.Grant, tenant string, attempt func(context.Context) error) error {
	first := make(chan error, 1)
	pin := g.Pin()
	k.Work.Go(func() {
		defer pin.Unpin()
		k.keepTrying(tenant, attempt, first)
	})
	return firstOf(first)
}

func firstOf(first <-chan error) error {
	slow := time.NewTimer(commitWait)
	defer slow.Stop()
	select {
	case err := <-first:
		return err
	case <-slow.C:
		return work.ErrSlow
	}
}

func (k *Keeper) keepTrying(tenant string, attempt func(context.Context) error, first chan<- error) {
	end := time.Now().Add(k.Patience)
	backoff := policy.Backoff{Most: 2 * time.Second}
	for n := 1; ; n++ {
		err := tryIt(attempt)
		pause := backoff.Next(rand.Float64())
		if n == 1 {
			first <- err
		}
		switch {
		case err == nil && n > 1:
			k.Log.Info().Str("tenant", tenant).Int("attempt", n).Msg("Redis took it at last")
			return
		case err == nil:
			return
		case time.Now().Add(pause).After(end):
			k.Log.Warn().Err(err).Str("tenant", tenant).Dur("patience_ms", k.Patience).
				Msg("given up: Redis did not take a change of this grant")
			return
		}
		time.Sleep(pause)
	}
}

// tryIt makes one attempt at a change.
func tryIt(attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), work.RedisTimeout)
	defer cancel()
	return attempt(ctx)
}
