package engine

import (
	"context"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

func (g Grant) keys() store.Keys { return g.c.names.Grant(g.key) }

// LockKey is the key of the grant's lock, for a Locker.
func (g Grant) LockKey() string { return g.keys().Lock() }

// EventsChannel is the channel on which every state change of the grant is published.
func (g Grant) EventsChannel() string { return g.keys().Events() }

// Fit asks whether this Redis, and this client's user, can do what the grant needs in its life, in one
// round trip. The error is an ErrUnfit; any other says that nothing is known. Rights without which the
// rest works are said in the log. thorough asks in a transaction, of which a proxy may know nothing.
func (g Grant) Fit(ctx context.Context, thorough bool) error { return g.c.db.Fit(ctx, g.key, thorough) }

// Unfit returns err as a grant.ErrUnfit if it says that an operator must mend the Redis, or what leads
// to it; nil for any other.
func Unfit(err error) error { return store.Unfit(err) }
