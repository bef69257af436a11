package engine

import (
	"fmt"
	"strings"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// names spells every key and channel of one deployment. It is the prefix.
type names string

// proof is the key of what a sender signs with, see publish.lua. It is the database's birth mark, too.
func (n names) proof() string { return string(n) + ":proof" }

// masters is the key of when each master was first seen.
func (n names) masters() string { return string(n) + ":masters" }

// heartbeats is how the channels of this deployment's heartbeats begin.
func (n names) heartbeats() string { return string(n) + ":heartbeat:" }

// changes is how the channels of the changes of all grants of an app begin.
func (n names) changes() string { return string(n) + ":events:" }

// grants is the pattern of the records of an app.
func (n names) records(app string) string {
	return string(n) + ":{" + grant.Escape(app) + ":*}:grant"
}

// grant is how the names of one grant begin. The hash tag {app:tenant} puts all of them into one
// Cluster slot.
func (n names) grant(k grant.Key) keys { return keys(string(n) + ":{" + k.String() + "}:") }

// app is how the names of one app are spelled.
func (n names) app(name string) appKeys { return appKeys{string(n), grant.Escape(name)} }

// isApp returns what follows in the name of an app's state.
func (n names) isApp(name string) (app string, ok bool) {
	return strings.CutPrefix(name, string(n)+":app:")
}

// grantOf is the grant of an events channel.
func (n names) grantOf(channel string) (grant.Key, bool) {
	name, ok := strings.CutPrefix(channel, string(n)+":{")
	if !ok {
		return grant.Key{}, false
	}
	name, ok = strings.CutSuffix(name, "}:events")
	if !ok {
		return grant.Key{}, false
	}
	app, tenant, ok := strings.Cut(name, ":")
	return grant.Key{App: grant.Unescape(app), Tenant: grant.Unescape(tenant)}, ok
}

// tenantOf is the tenant of an app's record.
func (n names) tenantOf(app, record string) string {
	name := strings.TrimPrefix(record, string(n)+":{"+grant.Escape(app)+":")
	return grant.Unescape(strings.TrimSuffix(name, "}:grant"))
}

// keys is how every name of a grant begins.
type keys string

func (ks keys) grant() string   { return string(ks) + "grant" }
func (ks keys) secret() string  { return string(ks) + "secret" }
func (ks keys) spare() string   { return string(ks) + "spare" }
func (ks keys) unread() string  { return string(ks) + "unread" }
func (ks keys) lock() string    { return string(ks) + "lock" }
func (ks keys) journal() string { return string(ks) + "journal" }
func (ks keys) events() string  { return string(ks) + "events" } // a channel

// appKeys are the names of an app.
type appKeys struct{ prefix, app string }

// state is the key of the app's own state, and the channel on which its changes are published.
func (a appKeys) state() string { return a.prefix + ":app:" + a.app }

// rate is the key of the app's budget of requests, and the beginning of others about it.
func (a appKeys) rate() string { return a.prefix + ":rate:" + a.app }

// inflight is the key of the exchanges in flight.
func (a appKeys) inflight() string { return a.prefix + ":inflight:" + a.app }

// due is the key of one shard of the due set.
func (a appKeys) due(shard int) string { return fmt.Sprintf("%s:due:%s:%02d", a.prefix, a.app, shard) }

// turn is the key of whose turn it is to do something.
func (a appKeys) turn(what string) string { return a.prefix + ":turn:" + a.app + ":" + what }

// changes is the channel of the changes of all its grants.
func (a appKeys) changes() string { return a.prefix + ":events:" + a.app }
