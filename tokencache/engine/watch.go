package engine

import (
	"slices"
	"strings"
	"sync"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Change is one state change of a grant, as the journal calls it: "connect", "commit",
// "fail", "reauthorize", "reauth_due", "suspect", "restore", "disconnect".
type Change struct {
	grant.Key
	Kind   string
	Record grant.Record // as it was then
	At     int64        // Redis' clock, unix ms
}

// ChangesChannel is the channel on which the state changes of all grants of an app are
// published, without their pairs.
func (app App) ChangesChannel() string { return app.keys().Changes() }

// OnChange has f called for every state change of an app's grants that any process makes,
// as long as this one is subscribed; for one's own also twice. f runs on the subscriber's
// goroutine among others, and must not block. stop ends it.
func (app App) OnChange(f func(Change)) (stop func()) {
	channel := app.ChangesChannel()
	w, _ := app.c.watchers.LoadOrStore(app.name, &watchers[Change]{})
	remove := w.add(f, func() { app.c.hub.Add(channel) })
	return func() { remove(func() { app.c.hub.Remove(channel) }) }
}

func (c *Cache) notifyChange(ch Change) {
	if w, ok := c.watchers.Load(ch.App); ok {
		w.notify(ch)
	}
}

// receiveChange takes what was published on a ChangesChannel: the channel of the grant, and its
// event. It reports whether the channel is one.
func (c *Cache) receiveChange(channel, payload string) bool {
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
	c.notifyChange(Change{Key: k, Kind: ev.Kind, Record: ev.Record, At: ev.Now})
	return true
}

// watchers are those who are told something, in no order.
type watchers[T any] struct {
	mu   sync.Mutex // guards list, which is never changed in place
	list []*func(T)
}

// add adds f; first runs before, if it is the only one.
func (w *watchers[T]) add(f func(T), first func()) (stop func(last func())) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) == 0 {
		first()
	}
	w.list = append(slices.Clip(w.list), &f)
	return func(last func()) {
		w.mu.Lock()
		defer w.mu.Unlock()
		n := len(w.list)
		w.list = slices.DeleteFunc(slices.Clone(w.list), func(g *func(T)) bool { return g == &f })
		if n == 1 && len(w.list) == 0 {
			last()
		}
	}
}

func (w *watchers[T]) notify(t T) {
	w.mu.Lock()
	list := w.list
	w.mu.Unlock()
	for _, f := range list {
		(*f)(t)
	}
}

func (w *watchers[T]) none() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.list) == 0
}

// kindOf is the kind of a change that a script has made to base, from its answer; empty for none.
func kindOf(op string, base *Snapshot, a answer) string {
	switch {
	case a.snap == nil:
		return ""
	case op == "reject" && a.snap.Reason != "" && a.snap.Reason != base.Reason:
		return "suspect" // also where that was all, and no exchange may be forced
	case a.status != string(grant.OutcomeOK) || op == "reject":
		return ""
	case op == "fail" && a.snap.State == grant.Reauthorize:
		return "reauthorize"
	}
	return op
}
