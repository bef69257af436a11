package engine

import (
	"context"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Link is this process's way to Redis, as far as its own heartbeat tells. It costs nothing to ask.
type Link struct {
	Live    bool  // a heartbeat has come back within 6 s, over the subscriber connection
	Reached bool  // one has ever come back
	Wanted  bool  // there is something to listen to, so that a connection is there or is being made
	Why     error // the last connection ended; nil if none has
}

// Link returns how this process's subscriber connection is. It is the same for all apps of a Cache.
func (app App) Link() Link {
	session := app.c.hub.Session()
	return Link{Live: session%2 == 0, Reached: session > 1, Wanted: app.c.hub.Running(), Why: app.c.hub.Why()}
}

// Ping asks Redis whether it answers, for a second at most. On a Cluster one node is asked.
func (app App) Ping(ctx context.Context) error {
	_, err := store.Bounded(ctx, store.NodePatience, func(ctx context.Context) (string, error) { return app.c.rdb.Ping(ctx).Result() })
	return err
}
