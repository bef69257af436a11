package refresh

import (
	"context"
	"fmt"
)

// Close ends the coordinator. Callers that wait get an error; exchanges in flight are
// finished and their pairs committed, for which Close waits until ctx ends. Its error
// says that some were still under way then; they go on as long as the process lives.
func (c *Coordinator) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.close(errClosed)
	drained := make(chan struct{})
	go func() {
		c.work.Wait()
		c.economy.close()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done():
		return fmt.Errorf("refresh: close: exchanges or commits are still under way, let the process live: %w", context.Cause(ctx))
	}
	if err := c.events.close(ctx); err != nil {
		return err
	}
	if err := c.cache.Forget(ctx, c.cfg.App); err != nil {
		return fmt.Errorf("refresh: close: %w", err)
	}
	return nil
}
