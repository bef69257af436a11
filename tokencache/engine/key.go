package engine

import "context"

func (g Grant) keys() keys { return g.c.names.grant(g.key) }

func (app App) keys() appKeys { return app.c.names.app(app.name) }

// AppKey is the key of an app's own state, and the channel on which its changes are
// published.
func (app App) AppKey() string { return app.keys().state() }

// RateKey is the key of an app's budget of requests, and the beginning of others about it.
func (app App) RateKey() string { return app.keys().rate() }

// LockKey is the key of the grant's lock, for a Locker.
func (g Grant) LockKey() string { return g.keys().lock() }

// EventsChannel is the channel on which every state change of the grant is published.
func (g Grant) EventsChannel() string { return g.keys().events() }

// Fit asks whether this Redis, and this client's user, can do what the grant needs in its life, in one
// round trip. The error is an ErrUnfit; any other says that nothing is known. Rights without which the
// rest works are said in the log. thorough asks in a transaction, of which a proxy may know nothing.
func (g Grant) Fit(ctx context.Context, thorough bool) error { return g.c.db.fit(ctx, g.key, thorough) }
