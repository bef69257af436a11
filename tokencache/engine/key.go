package engine

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
