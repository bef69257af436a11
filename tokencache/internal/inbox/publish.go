package inbox

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Publish publishes a message about a grant. It returns how many listen where it was sent to.
func (g Grant) Publish(ctx context.Context, body string) (listeners int64, err error) {
	channel := g.keys().Events()
	message := g.c.proof.Sign(ctx, channel, body)
	node, addr, err := g.c.db.NodeOf(ctx, g.keys().Grant())
	if err == nil {
		listeners, err = node.Publish(ctx, channel, message).Result()
	}
	g.c.db.NoteError(err)
	if err != nil && addr != "" {
		return g.c.rdb.Publish(ctx, channel, message).Result() // any node will do
	}
	return listeners, err
}

// Ask asks the other processes for a grant of which Redis has no record, as after a
// restart without its data: every process that remembers it restores it. It reports whether
// anybody may be listening.
//
// epoch, generation and rev are what the caller knows; only who knows another consent, or a
// newer state, answers.
func (g Grant) Ask(ctx context.Context, epoch, generation, rev int64) (bool, error) {
	n, err := g.Publish(ctx, grant.AskEvent(g.c.clock.Told(), epoch, generation, rev, g.c.id))
	if _, cluster := g.c.rdb.(*redis.ClusterClient); cluster {
		return err == nil, err // the count is that of one node
	}
	if g.c.hub.SessionOf(g.keys().Events()) != 0 {
		n-- // this process listens too
	}
	return n > 0, err
}
