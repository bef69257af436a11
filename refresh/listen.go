package refresh

import "context"

// Events returns a channel of what happens from now on, until ctx ends or the coordinator
// is closed; then it is closed. What other processes do is heard as soon as this one's
// subscription stands, a moment later. A reader that is thousands of events behind misses the oldest.
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
