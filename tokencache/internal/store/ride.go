package store

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// rides lets callers who read secrets at the same time share round trips: the CPU that a round trip
// costs is most of what a cold token costs. Up to maxRides are under way at once. A caller that comes
// meanwhile waits for the first of them to end, and reads for all who wait like it, too.
type rides struct {
	Redis redis.UniversalClient

	mu      sync.Mutex
	flying  int
	waiting []*ride
}

// maxRides are more than a process without load has under way, where waiting would only cost time, and
// few enough for a busy one to share: a caller waits for a round trip at most, and less with two of them.
const maxRides = 2

// ride is what one caller reads.
type ride struct {
	key   string
	ready chan []*ride // gets nil when the ride is over, or all for whom its caller is to read
	value []byte
	err   error
}

// secret reads one sealed pair, or no more of it than any pair can have.
func (r *rides) secret(ctx context.Context, key string) ([]byte, error) {
	if _, single := r.Redis.(*redis.Client); !single {
		return r.Redis.GetRange(ctx, key, 0, grant.MaxSealed).Bytes() // nobody waits for another's node
	}
	r.mu.Lock()
	if r.flying < maxRides {
		r.flying++
		r.mu.Unlock()
		defer r.next()
		return r.Redis.GetRange(ctx, key, 0, grant.MaxSealed).Bytes()
	}
	own := &ride{key: key, ready: make(chan []*ride, 1)}
	r.waiting = append(r.waiting, own)
	r.mu.Unlock()
	if all := <-own.ready; all != nil {
		defer r.next()
		r.share(ctx, own, all)
	}
	return own.value, own.err
}

// share reads for all of them in one round trip, which is not cut short by the end of its caller.
func (r *rides) share(ctx context.Context, own *ride, all []*ride) {
	reads := make([]*redis.StringCmd, len(all))
	defer func() { // also if a hook of the client panics
		for i, one := range all {
			if one.err = errNotRead; reads[i] != nil {
				one.value, one.err = reads[i].Bytes()
			}
			if one != own {
				one.ready <- nil
			}
		}
	}()
	_, _ = r.Redis.Pipelined(context.WithoutCancel(ctx), func(p redis.Pipeliner) error { // each command has its error
		for i, one := range all {
			reads[i] = p.GetRange(ctx, one.key, 0, grant.MaxSealed)
		}
		return nil
	})
}

var errNotRead = errors.New("tokencache: the caller that was to read for others has panicked")

// next gives the place of a ride that has ended to those who wait.
func (r *rides) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		r.flying--
		return
	}
	r.waiting[0].ready <- r.waiting
	r.waiting = nil
}
