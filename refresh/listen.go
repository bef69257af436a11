package refresh

import "context"

// Events returns a channel of what happens from now on. The channel is closed when ctx ends or the
// coordinator is closed. This process hears of the others' changes once it has subscribed, a
// moment later. A reader that is more than 4,096 events behind misses the oldest.
func (c *Coordinator) Events(ctx context.Context) <-chan Event {
	out := make(chan Event)
	ctx, cancel := context.WithCancel(ctx)
	ended := c.events.listen(ctx, func(e Event) {
		select {
		case out <- e:
		case <-ctx.Done():
		}
	})
	go func() {
		<-ended
		cancel()
		close(out)
	}()
	return out
}
