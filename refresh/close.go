package refresh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/engine"

	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
)

// Close ends the coordinator. Callers that wait get an error. Close waits for the exchanges in
// flight until ctx ends. If Redis has not taken a pair, Close tries to store it again at once, for
// CommitPatience at most. If Redis has lost its data, Close gives back what this process
// remembers.
//
// The error says what was still under way, names each grant whose pair only this process has, and
// names what Redis did not take. This work goes on as long as the process lives, and Close may be
// called again.
func (c *Coordinator) Close(ctx context.Context) error {
	c.work.Close()
	drained := make(chan struct{})
	go func() {
		c.work.Wait()
		c.tools.Economy.Close()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("refresh: close: exchanges or commits are still under way, let the process live: %w", context.Cause(ctx)), c.tools.Keeper.Left())
	}
	patience := time.NewTimer(c.cfg.CommitPatience)
	defer patience.Stop()
	select {
	case <-c.tools.Keeper.Empty():
	case <-patience.C:
	case <-ctx.Done():
	}
	left := c.tools.Keeper.Left()
	// This process may have the only copy of what Redis has lost. Redis away is no reason to stay; a
	// reader of Events that hangs is none to lose it.
	rescued := errors.Join(left, rescue(ctx, c.app))
	if err := c.events.close(ctx); err != nil {
		return errors.Join(rescued, err)
	}
	defer c.seen.ended()
	if err := c.app.Forget(ctx); err != nil {
		return errors.Join(rescued, fmt.Errorf("refresh: close: %w", err))
	}
	return rescued
}

func rescue(ctx context.Context, app engine.App) error {
	ctx, cancel := context.WithTimeout(ctx, work.RedisTimeout)
	defer cancel()
	if err := app.Rescue(ctx); err != nil {
		return fmt.Errorf("refresh: close: Redis has lost its data, and does not take back what this process remembers: %w", err)
	}
	return nil
}

// AcceptLoss says that an operator accepts what Redis has lost: see the event data_lost. If there
// is a backup, restore it before. After AcceptLoss, a tenant counts as not connected again if no
// worker remembers its grant, and you may ask that customer to consent.
func (c *Coordinator) AcceptLoss(ctx context.Context) error {
	if err := c.app.AcceptLoss(ctx); err != nil {
		return fmt.Errorf("refresh: app %s: AcceptLoss: %w", c.cfg.App, err)
	}
	return nil
}
