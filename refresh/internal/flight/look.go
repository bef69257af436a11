package flight

import (
	"context"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// unreachable is how long a caller that could be served from memory waits for Redis.
const unreachable = time.Second

// patience is that for one caller: the token is to be there while its deadline leaves time to use it.
func patience(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(unreachable, time.Until(end)/2)
	}
	return unreachable
}

// FirstLook returns what a flight sees when it first looks, or what is known meanwhile. The flight
// goes on and does what is due.
func (fl *Flights) FirstLook(ctx context.Context, k tokencache.Key) (*engine.Snapshot, error) {
	if s := fl.App.Grant(k.Tenant).Peek(); s != nil && s.Valid() {
		return s, nil
	}
	f, err := fl.join(ctx, k, Want{})
	if err != nil {
		return nil, err
	}
	silent := time.NewTimer(patience(ctx))
	defer silent.Stop()
	select {
	case <-f.looked:
	case <-ctx.Done():
		return nil, work.Left(ctx, k)
	case <-silent.C:
		return nil, work.ErrSlow
	}
	return fl.afterLook(ctx, f)
}

// afterLook returns what is known of a flight's grant once the flight has looked: what was pushed
// meanwhile, what it saw if that was lately, else what Redis says now.
func (fl *Flights) afterLook(ctx context.Context, f *flight) (*engine.Snapshot, error) {
	if s := f.grant.Peek(); s != nil {
		return s, nil
	}
	if time.Since(f.lookedAt) < unreachable {
		mem := f.grant.Recall()
		if mem != nil && f.first != nil && policy.PositionOf(&f.first.Record).Before(&mem.Record) {
			return mem, nil // generations never go backwards in a process's eyes
		}
		return f.first, f.firstErr
	}
	ctx, cancel := context.WithTimeoutCause(ctx, unreachable, work.ErrSlow)
	defer cancel()
	return work.Call(ctx, fl.Work, f.grant.Read)
}
