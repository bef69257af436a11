package engine

import "github.com/tokenlatch/tokenlatch/tokencache/grant"

// keys is how every Redis name of a grant begins. The hash tag {app:tenant} puts all of them
// into one Cluster slot.
type keys string

func (g Grant) keys() keys { return keys(g.c.prefix + ":{" + g.key.String() + "}:") }

func (ks keys) grant() string   { return string(ks) + "grant" }
func (ks keys) secret() string  { return string(ks) + "secret" }
func (ks keys) spare() string   { return string(ks) + "spare" }
func (ks keys) unread() string  { return string(ks) + "unread" }
func (ks keys) lock() string    { return string(ks) + "lock" }
func (ks keys) journal() string { return string(ks) + "journal" }
func (ks keys) events() string  { return string(ks) + "events" } // a channel

// heartbeats is how the channels of this deployment's heartbeats begin.
func (c *Cache) heartbeats() string { return c.prefix + ":heartbeat:" }

// AppKey is the key of an app's own state, and the channel on which its changes are
// published.
func (app App) AppKey() string { return app.c.prefix + ":app:" + grant.Escape(app.name) }

// RateKey is the key of an app's budget of requests, and the beginning of others about it.
func (app App) RateKey() string { return app.c.prefix + ":rate:" + grant.Escape(app.name) }

// LockKey is the key of the grant's lock, for a Locker.
func (g Grant) LockKey() string { return g.keys().lock() }

// EventsChannel is the channel on which every state change of the grant is published.
func (g Grant) EventsChannel() string { return g.keys().events() }
