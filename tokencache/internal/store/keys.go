package store

import (
	"fmt"
	"strings"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Names spells every key and channel of one deployment. It is the prefix.
type Names string

// Proof is the key of what a sender signs with, see publish.lua. It is the database's birth mark, too.
func (n Names) Proof() string { return string(n) + ":proof" }

// Masters is the key of when each master was first seen.
func (n Names) Masters() string { return string(n) + ":masters" }

// Heartbeats returns how the channels of this deployment's heartbeats begin.
func (n Names) Heartbeats() string { return string(n) + ":heartbeat:" }

// Runs returns how the channels begin that say who renews: a process that calls Run for an app listens to the
// app's, and nothing is published there.
func (n Names) Runs() string { return n.Heartbeats() + "run:" }

// Trials returns how the channels begin in which doctor tries whether a push arrives. No worker listens to them.
func (n Names) Trials() string { return n.Heartbeats() + "doctor:" }

// Changes returns how the channels of the changes of all grants of an app begin.
func (n Names) Changes() string { return string(n) + ":events:" }

// grants is the pattern of the records of an app.
func (n Names) Records(app string) string {
	return string(n) + ":{" + grant.Escape(app) + ":*}:grant"
}

// Grant returns how the names of one grant begin. The hash tag {app:tenant} puts all of them into one
// Cluster slot.
func (n Names) Grant(k grant.Key) Keys {
	return Keys(string(n) + ":{" + grant.Escape(k.App) + ":" + grant.Escape(k.Tenant) + "}:")
}

// App returns how the names of one app are spelled.
func (n Names) App(name string) AppKeys { return AppKeys{string(n), grant.Escape(name)} }

// IsApp returns what follows in the name of an app's state.
func (n Names) IsApp(name string) (app string, ok bool) {
	return strings.CutPrefix(name, string(n)+":app:")
}

// GrantOf is the grant of an events channel.
func (n Names) GrantOf(channel string) (grant.Key, bool) {
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

// TenantOf is the tenant of an app's record.
func (n Names) TenantOf(app, record string) string {
	name := strings.TrimPrefix(record, string(n)+":{"+grant.Escape(app)+":")
	return grant.Unescape(strings.TrimSuffix(name, "}:grant"))
}

// Keys is how every name of a grant begins.
type Keys string

func (ks Keys) Grant() string { return string(ks) + "grant" }

func (ks Keys) Secret() string { return string(ks) + "secret" }

func (ks Keys) Spare() string { return string(ks) + "spare" }

func (ks Keys) Unread() string { return string(ks) + "unread" }

func (ks Keys) Lock() string { return string(ks) + "lock" }

func (ks Keys) Journal() string { return string(ks) + "journal" }

func (ks Keys) Events() string { return string(ks) + "events" } // a channel

// AppKeys are the names of an app.
type AppKeys struct{ prefix, app string }

// State is the key of the app's own state, and the channel on which its changes are published.
func (a AppKeys) State() string { return a.prefix + ":app:" + a.app }

// Rate is the key of the app's budget of requests, and the beginning of others about it.
func (a AppKeys) Rate() string { return a.prefix + ":rate:" + a.app }

// Inflight is the key of the exchanges in flight.
func (a AppKeys) Inflight() string { return a.prefix + ":inflight:" + a.app }

// Due is the key of one shard of the due set.
func (a AppKeys) Due(shard int) string { return fmt.Sprintf("%s:due:%s:%02d", a.prefix, a.app, shard) }

// Turn is the key of whose turn it is to do something.
func (a AppKeys) Turn(what string) string { return a.prefix + ":turn:" + a.app + ":" + what }

// Changes is the channel of the changes of all its grants.
func (a AppKeys) Changes() string { return a.prefix + ":events:" + a.app }
