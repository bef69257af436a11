package holder

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/internal/economy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
)

// longestLease is longer than a lease lives without being extended.
const longestLease = time.Minute

var errHeldElsewhere = errors.New("another process refreshes this grant")

// StoodBack reports whether an exchange was not made since nobody waited for it.
func StoodBack(err error) bool {
	return errors.Is(err, economy.ErrNoPlace) || errors.Is(err, errHeldElsewhere)
}

// lead tries the lease once, when the app's state allows an exchange, and has work done under it. The error
// is work.ErrAgain if the grant must be looked at again.
func (h *Holder) lead(ctx context.Context, a economy.Applicant, news <-chan struct{}, ready func() error, do func(*lock.Lease) error) error {
	done, err := h.Economy.Approach(ctx, a, !h.callers.Absent(), news)
	if err != nil {
		return err
	}
	h.probed = sync.OnceFunc(done)
	defer h.probed()
	if err := ready(); err != nil {
		return err
	}
	lease, err := h.tryLease(ctx)
	if err != nil {
		return err
	}
	end := func() { h.release(lease) } // also after a panic that somebody recovers: this process would extend it for good
	defer func() { end() }()
	if err := h.Judge.Fit(ctx, h.key.Tenant); err != nil { // only the holder asks
		return err
	}
	if err = do(lease); !errors.Is(err, work.ErrAgain) && !errors.Is(err, economy.ErrNoPlace) { // else the next round may want it
		end = func() { h.spent = lease }
	}
	return err
}

// tryLease tries the lease once. The error is work.ErrAgain if somebody else holds it.
func (h *Holder) tryLease(ctx context.Context) (*lock.Lease, error) {
	told := h.Pin.LeaseNews()
	ended := h.Observe.Redis("lease")
	lease, err := h.Locker.Try(ctx, h.grant.LockKey())
	ended()
	var held *lock.HeldError
	if !errors.As(err, &held) {
		return lease, err
	}
	if held.For > longestLease {
		// Redis' clock was set back. A holder that lives extends it.
		held.For = longestLease
		if err := h.grant.CapLease(ctx, longestLease); err != nil {
			return nil, err
		}
	}
	h.Pin.SetLeaseHeld(held.For+policy.Slack, told)
	if h.callers.Absent() { // somebody is about it
		return nil, &policy.Trouble{Code: "lease_held", Retry: max(policy.FirstRetry, held.For/2), Why: errHeldElsewhere}
	}
	return nil, work.ErrAgain
}

// LetGo gives back a lease that has done its work, after a moment.
func (h *Holder) LetGo(after time.Duration) {
	if h.spent != nil {
		time.Sleep(after)
		h.release(h.spent)
	}
}

func (h *Holder) release(lease *lock.Lease) {
	if err := lease.Release(context.Background()); err != nil {
		if !errors.Is(err, lock.ErrLost) {
			h.Log.Debug().Err(err).Str("tenant", h.key.Tenant).Msg("lease not released; it runs out by itself")
		}
		return
	}
	// A process that tried it a moment ago believes that it is held for a whole TTL.
	ctx, cancel := context.WithTimeout(context.Background(), work.RedisTimeout)
	defer cancel()
	_ = h.grant.NotifyReleased(ctx, h.due)
}

// heartbeat tells the waiters every third of the lease that it is still held, so that
// none of them has to ask. The returned function stops it.
func (h *Holder) heartbeat(lease *lock.Lease) (stop func()) {
	ctx, cancel := context.WithCancel(lease.Context())
	ttl := h.Locker.TTL()
	h.Work.Go(func() {
		tick := time.NewTicker(ttl / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = h.grant.Alive(ctx, ttl) // waiters without it look for themselves
			}
		}
	})
	return cancel
}
