package apps

import (
	"strings"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// ChangesChannel is the channel on which the state changes of all grants of an app are
// published, without their pairs.
func (app App) ChangesChannel() string { return app.keys().Changes() }

// OnChange has f called for every state change of an app's grants that any process makes,
// as long as this one is subscribed; for one's own also twice. f runs on the subscriber's
// goroutine among others, and must not block. stop ends it.
func (app App) OnChange(f func(Change)) (stop func()) {
	channel := app.ChangesChannel()
	w, _ := app.all.watchers.LoadOrStore(app.name, &watchers[Change]{})
	remove := w.add(f, func() { app.all.hub.Add(channel) })
	return func() { remove(func() { app.all.hub.Remove(channel) }) }
}

// Notify tells of a change of a grant.
func (c *Apps) Notify(ch Change) {
	if w, ok := c.watchers.Load(ch.App); ok {
		w.notify(ch)
	}
}

// ReceiveChange takes what was published on a ChangesChannel: the channel of the grant, and its
// event. It reports whether the channel is one.
func (c *Apps) ReceiveChange(channel, payload string) bool {
	if !strings.HasPrefix(channel, c.names.Changes()) {
		return false
	}
	from, text, _ := strings.Cut(payload, "\n")
	k, known := c.names.GrantOf(from)
	if !known {
		return true // newly subscribed
	}
	ev, err := grant.ParseEvent(text + "\n\n")
	if err != nil {
		c.log.Warn().Err(err).Str("channel", channel).Msg("change not understood")
		return true
	}
	c.Notify(Change{Key: k, Kind: ev.Kind, Record: ev.Record, At: ev.Now})
	return true
}
