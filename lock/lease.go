package lock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
)

// Lease is a held lock. It is extended in the background until Release, or until
// it is lost.
type Lease struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	ttl    time.Duration
	mutex  *redsync.Mutex // owned by keep until done is closed, then by Release
	votes  *votes
	done   chan struct{}
	once   sync.Once
	err    error // of the one release
}

func newLease(ctx context.Context, mutex *redsync.Mutex, votes *votes, ttl time.Duration) *Lease {
	ctx, cancel := context.WithCancelCause(ctx)
	le := &Lease{
		ctx: ctx, cancel: cancel, ttl: ttl, mutex: mutex, votes: votes,
		done: make(chan struct{}),
	}
	// The timer, not Redis, decides when trust ends: go-redis may sit in a dead
	// connection well past the lease. redsync counts Until from before the request.
	trust := time.AfterFunc(time.Until(mutex.Until()), func() { cancel(ErrLost) })
	go le.keep(trust)
	return le
}

// Context ends with cause ErrLost when trust ends, and with context.Canceled
// after Release.
func (le *Lease) Context() context.Context { return le.ctx }

func (le *Lease) keep(trust *time.Timer) {
	defer close(le.done)
	defer trust.Stop()
	tick := time.NewTicker(le.ttl / 3)
	defer tick.Stop()
	for {
		select {
		case <-le.ctx.Done():
			return
		case <-tick.C:
			le.extend(trust)
		}
	}
}

func (le *Lease) extend(trust *time.Timer) {
	ctx, cancel := context.WithTimeout(le.ctx, le.ttl/3)
	defer cancel()
	le.votes.next()
	ok, err := le.mutex.ExtendContext(ctx)
	if ok {
		// A timer that has already fired has ended the lease; Reset cannot revive it.
		trust.Reset(time.Until(le.mutex.Until()))
		return
	}
	var taken *redsync.ErrTaken
	if errors.As(err, &taken) {
		le.cancel(ErrLost) // the key is gone or another's
	}
	// Else Redis did not answer: the next tick tries again while trust lasts.
}

// Release gives the lease back and ends Context. It works on a ctx that has
// already ended, takes at most a third of the TTL (but at least a second), and
// answers ErrLost if the lease had ended before. Further calls repeat the answer.
func (le *Lease) Release(ctx context.Context) error {
	le.once.Do(func() { le.err = le.release(ctx) })
	return le.err
}

func (le *Lease) release(ctx context.Context) error {
	le.cancel(context.Canceled) // ends keep, also while it waits for Redis
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(le.ttl/3, time.Second))
	defer cancel()
	<-le.done
	le.votes.next()
	ok, err := le.mutex.UnlockContext(ctx)
	var taken *redsync.ErrTaken
	switch {
	case errors.Is(context.Cause(le.ctx), ErrLost):
		return ErrLost // even if the key was still there to delete
	case ok:
		return nil
	case errors.Is(err, redsync.ErrLockAlreadyExpired), errors.As(err, &taken):
		return ErrLost
	default:
		return fmt.Errorf("lock: release %s: %w", le.mutex.Name(), err)
	}
}
