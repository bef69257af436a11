package refresh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

const (
	// keepPause is how rarely what must not be lost is tried again, at most; less where a claim must
	// be put off meanwhile.
	keepPause = 30 * time.Second
	// closingPause is the same while Close waits.
	closingPause = 500 * time.Millisecond
)

// keeping is something that exists here alone until Redis takes it: a pair, above all.
type keeping struct {
	key     tokencache.Key
	what    string // for people
	attempt func(context.Context) error
	between func()                // after a failed attempt; may be nil
	late    func(context.Context) // after one that nobody has waited for; may be nil
	done    func()                // at the end; may be nil
}

// keep stores what must not be lost. It returns when the first attempt has ended or takes too long; after
// a failure it goes on trying in the background, for as long as the process lives: the grant stays in
// memory as long. Close waits for it, for CommitPatience. Only after nil may the caller read what
// attempt wrote.
func (c *Coordinator) keep(k keeping) error {
	first, left := make(chan error, 1), &atomic.Bool{}
	end := c.kept.add(k.what)
	pin := c.app.Grant(k.key.Tenant).Pin()
	go func() {
		defer end()
		defer pin.Unpin()
		if k.done != nil {
			defer k.done()
		}
		c.keepOn(k, first, left)
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

func (c *Coordinator) keepOn(k keeping, first chan<- error, left *atomic.Bool) {
	backoff := policy.Backoff{Most: min(keepPause, c.cfg.ClaimTimeout/2)}
	for n := 1; ; n++ {
		err := tryIt(k.attempt)
		if n == 1 {
			first <- err
		}
		if err == nil {
			if left.Load() {
				c.log.Info().Str("tenant", k.key.Tenant).Int("attempt", n).Msg("Redis took it at last")
				if k.late != nil {
					ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
					defer cancel()
					k.late(ctx)
				}
			}
			return
		}
		c.kept.noteFailure(k.what, err)
		if errors.Is(err, redis.ErrClosed) {
			c.log.Error().Err(err).Str("tenant", k.key.Tenant).Msg("given up: somebody has closed the Redis client, and this was not stored")
			return
		}
		if k.between != nil {
			k.between()
		}
		wake := c.waiting.Done()
		if c.waiting.Err() != nil { // Close waits
			wake, backoff.Most = nil, min(backoff.Most, closingPause)
		}
		timer := time.NewTimer(backoff.Next(random()))
		select {
		case <-timer.C:
		case <-wake:
			timer.Stop()
		}
	}
}

// kept is what exists here alone.
type kept struct {
	mu   sync.Mutex // guards what follows
	what map[string]*keptOne
	none chan struct{} // closed when there is nothing; nil while nobody asks
}

type keptOne struct {
	n   int
	err error // of the last attempt
}

func (k *kept) add(what string) (end func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.what == nil {
		k.what = make(map[string]*keptOne)
	}
	if k.what[what] == nil {
		k.what[what] = &keptOne{}
	}
	k.what[what].n++
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.what[what].n--; k.what[what].n == 0 {
			delete(k.what, what)
		}
		if len(k.what) == 0 && k.none != nil {
			close(k.none)
			k.none = nil
		}
	}
}

func (k *kept) noteFailure(what string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.what[what].err = err
}

// empty is closed once there is nothing.
func (k *kept) empty() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.what) == 0 {
		now := make(chan struct{})
		close(now)
		return now
	}
	if k.none == nil {
		k.none = make(chan struct{})
	}
	return k.none
}

// left is an error that names everything that there is; nil for nothing.
func (k *kept) left() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	var causes []error
	for what, one := range k.what {
		all = append(all, what)
		causes = append(causes, one.err)
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return fmt.Errorf("refresh: close: Redis has not taken what only this process has; it is tried on while the process lives: %s: %w", strings.Join(all, "; "), errors.Join(causes...))
}

// underway are the generations whose refresh token this process has presented, or is about to, and
// whose outcome is not stored: it does not present them again.
type underway struct {
	mu  sync.Mutex // guards all
	all map[generation]int
}

type generation struct {
	tenant            string
	epoch, generation int64
}

func generationOf(s *engine.Snapshot) generation {
	return generation{s.Tenant, s.Epoch, s.Generation}
}

func (u *underway) add(s *engine.Snapshot) (done func()) {
	g := generationOf(s)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = make(map[generation]int)
	}
	u.all[g]++
	return sync.OnceFunc(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.all[g]--; u.all[g] == 0 {
			delete(u.all, g)
		}
	})
}

func (u *underway) has(s *engine.Snapshot) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all[generationOf(s)] > 0
}
