package refresh

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// EventKind says what has happened.
type EventKind string

// The kinds of events. Those up to EventSuspect are about a grant, the others about the app.
const (
	EventConnected    EventKind = "connected"
	EventDisconnected EventKind = "disconnected"
	EventRefreshed    EventKind = "refreshed"   // a new pair is stored
	EventFailed       EventKind = "failed"      // an exchange failed; it will be tried again
	EventReauthorize  EventKind = "reauthorize" // the tenant must consent again: Reason says why
	EventReauthDue    EventKind = "reauth_due"  // its refresh token ends at RefreshTokenExpiresAt, whatever is done
	EventRestored     EventKind = "restored"    // Redis had lost the grant's newest state
	EventSuspect      EventKind = "suspect"     // an API refuses one access token after the other

	EventCircuitOpen   EventKind = "circuit_open"   // the provider refuses the client: the operator must act
	EventCircuitClosed EventKind = "circuit_closed" // it accepts it again
	EventThrottled     EventKind = "throttled"      // the provider wants a pause of all the app's exchanges
	EventMassDeath     EventKind = "mass_death"     // too many grants die at once: not believed, the operator must look
	EventDataLost      EventKind = "data_lost"      // Redis has lost the app's data; workers give back what they remember
)

// Event is one thing that has happened, for metrics, mails and pages. It holds no token.
//
// Redis pushes it with the change itself, in one step, to every process that listens: one
// change comes to all of them, with the same ID. To act exactly once, let the ID decide, for
// instance by SET NX in Redis. The process that made the change gets it also without a
// subscriber connection. What nobody could hear, since the one listener died over it, Run
// finds in the grant when it comes by, if that is still its last change.
type Event struct {
	Kind EventKind
	// ID is the same in all processes, and of no other change.
	ID  string
	App string
	// Tenant is empty for events about the app.
	Tenant string
	// At is when it happened, by Redis' clock.
	At time.Time
	// By is the process that made the change: lock.Config.Name.
	By string
	// Generation of the pair that is stored.
	Generation int64
	// Reason is why the tenant must reauthorize or is suspect, e.g. "lost_response".
	Reason string
	// Error is the failed exchange: class/code/status.
	Error string
	// RetryAt is when it is tried again; zero where that does not help.
	RetryAt time.Time
	// ExpiresAt and RefreshTokenExpiresAt are the pair's; zero where nobody knows.
	ExpiresAt, RefreshTokenExpiresAt time.Time
}

var grantEvents = map[string]EventKind{
	"connect": EventConnected, "disconnect": EventDisconnected, "commit": EventRefreshed, "fail": EventFailed,
	"reauthorize": EventReauthorize, "reauth_due": EventReauthDue, "restore": EventRestored, "suspect": EventSuspect,
}

var appEvents = map[string]EventKind{
	"open": EventCircuitOpen, "closed": EventCircuitClosed, "throttled": EventThrottled, "mass_death": EventMassDeath,
	"data_lost": EventDataLost,
}

// Events returns a channel of what happens from now on, until ctx ends or the coordinator
// is closed; then it is closed. What other processes do is heard as soon as this one's
// subscription stands, a moment later. A reader that is thousands of events behind misses the oldest.
func (c *Coordinator) Events(ctx context.Context) <-chan Event {
	out := make(chan Event)
	ctx, cancel := context.WithCancel(ctx)
	ended := c.events.listen(ctx, func(e Event) {
		select {
		case out <- e:
		case <-ctx.Done():
		}
	})
	go func() {
		<-ended
		cancel()
		close(out)
	}()
	return out
}

// events hands what happens to those who listen.
type events struct {
	c *Coordinator

	mu        sync.Mutex // guards what follows
	listeners map[*listener]struct{}
	stop      []func()            // being told, since there are listeners
	seen      map[string]struct{} // IDs of the last events: each comes by several ways
	order     [4096]string
	n         int
	ended     bool
	work      sync.WaitGroup
}

// behind is how many events a listener may be behind.
const behind = 4096

// listener is one who listens, and what it has not been told yet.
type listener struct {
	queue []Event
	wake  chan struct{} // has room for one
}

func newEvents(c *Coordinator) *events {
	ev := &events{c: c, listeners: make(map[*listener]struct{}), seen: make(map[string]struct{})}
	if c.cfg.OnEvent != nil {
		ev.listen(context.Background(), c.cfg.OnEvent)
	}
	return ev
}

// listen calls f with every event from now on, one at a time, until ctx ends or close. The
// channel is closed then.
func (ev *events) listen(ctx context.Context, f func(Event)) (ended <-chan struct{}) {
	done := make(chan struct{})
	l := &listener{wake: make(chan struct{}, 1)}
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if ev.ended {
		close(done)
		return done
	}
	if len(ev.listeners) == 0 {
		ev.stopListening()
		ev.stop = []func(){ev.c.app.OnChange(ev.onGrant), ev.c.app.OnApp(ev.onApp)}
	}
	ev.listeners[l] = struct{}{}
	ev.work.Go(func() {
		defer close(done)
		for ev.hand(ctx, l, f) {
			select {
			case <-l.wake:
			case <-ctx.Done():
			}
		}
	})
	return done
}

// hand hands a listener what has come, and reports whether more may come.
func (ev *events) hand(ctx context.Context, l *listener, f func(Event)) bool {
	for {
		ev.mu.Lock()
		queue, ended := l.queue, ev.ended
		l.queue = nil
		if ctx.Err() != nil || ended && len(queue) == 0 {
			delete(ev.listeners, l)
			ev.mu.Unlock()
			return false
		}
		ev.mu.Unlock()
		if len(queue) == 0 {
			return true
		}
		for _, e := range queue {
			f(e)
		}
	}
}

// close lets the listeners end when they have been told all.
func (ev *events) close(ctx context.Context) error {
	ev.mu.Lock()
	ev.ended = true
	for l := range ev.listeners {
		l.rouse()
	}
	ev.stopListening()
	ev.mu.Unlock()
	told := make(chan struct{})
	go func() {
		ev.work.Wait()
		close(told)
	}()
	select {
	case <-told:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("refresh: close: OnEvent, or a reader of Events, does not end: %w", context.Cause(ctx))
	}
}

// stopListening ends being told. Called with mu held.
func (ev *events) stopListening() {
	for _, stop := range ev.stop {
		stop()
	}
	ev.stop = nil
}

func (l *listener) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// publish queues an event for all, unless it came before. It never blocks: the subscriber
// connection waits for it.
func (ev *events) publish(e Event) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if _, ok := ev.seen[e.ID]; ok || len(ev.listeners) == 0 {
		return
	}
	place := &ev.order[ev.n%len(ev.order)]
	delete(ev.seen, *place)
	*place, ev.n = e.ID, ev.n+1
	ev.seen[e.ID] = struct{}{}
	for l := range ev.listeners {
		if len(l.queue) >= behind {
			l.queue = l.queue[1:]
			ev.c.log.Warn().Msg("a listener is too far behind: it misses the oldest events")
		}
		l.queue = append(l.queue, e)
		l.rouse()
	}
}

func (ev *events) onGrant(ch engine.Change) {
	if kind, ok := grantEvents[ch.Kind]; ok {
		ev.publish(grantEvent(kind, ch.Key, &ch.Record, ch.At))
	}
}

// reportLast is for a grant that Run has come by, sooner than it is due: it tells its last change,
// should the process that made it have died over that.
func (ev *events) reportLast(s *engine.Snapshot) {
	for _, e := range lastEvents(s) {
		ev.publish(e)
	}
}

// lastEvents is what a grant's record says of its last changes.
func lastEvents(s *engine.Snapshot) []Event {
	r := &s.Record
	var last []Event
	add := func(kind EventKind, at int64) { last = append(last, grantEvent(kind, s.Key, r, at)) }
	switch {
	case r.State == tokencache.Disconnected:
		add(EventDisconnected, r.Epoch)
	case r.State == tokencache.Reauthorize:
		add(EventReauthorize, r.ErrorAt)
	case r.ErrorAt != 0:
		add(EventFailed, r.ErrorAt)
	case r.Reason != "":
		add(EventSuspect, s.Now())
	case r.IssuedAt <= r.Epoch:
		add(EventConnected, r.Epoch)
	default:
		add(EventRefreshed, r.IssuedAt)
	}
	if r.State == tokencache.Active && r.WarnedAt != 0 {
		add(EventReauthDue, r.WarnedAt)
	}
	return last
}

func grantEvent(kind EventKind, k tokencache.Key, r *grant.Record, at int64) Event {
	which := r.CommitID
	switch kind {
	case EventReauthDue:
		which = strconv.FormatInt(r.WarnedAt, 10)
	case EventSuspect:
		which = r.Reason
	case EventRestored:
		which = strconv.FormatInt(r.Rev, 10)
	}
	return Event{
		Kind: kind, ID: fmt.Sprintf("%s/%d/%d/%s/%s", k, r.Epoch, r.Generation, which, kind),
		App: k.App, Tenant: k.Tenant, At: redisTime(at), By: r.By, Generation: r.Generation,
		Reason: r.Reason, Error: r.Error, RetryAt: redisTime(r.RetryAt),
		ExpiresAt: redisTime(r.ExpiresAt), RefreshTokenExpiresAt: redisTime(r.RefreshTokenExpiresAt),
	}
}

func (ev *events) onApp(ch engine.AppChange) {
	if kind, ok := appEvents[ch.Kind]; ok {
		ev.publish(appEvent(kind, ch.State))
	}
}

// reportApp tells a process that was not there when it happened that the circuit is open, or
// that too many grants have died.
func (ev *events) reportApp(s *engine.AppState) {
	if s.Open {
		ev.publish(appEvent(EventCircuitOpen, s))
	}
	if massDies(s) {
		ev.publish(appEvent(EventMassDeath, s))
	}
}

func appEvent(kind EventKind, s *engine.AppState) Event {
	e := Event{Kind: kind, App: s.App, At: redisTime(s.Now()), By: s.By, Error: s.Error}
	which := s.OpenedAt
	switch kind {
	case EventCircuitOpen:
		e.At, e.RetryAt = redisTime(s.OpenedAt), redisTime(s.ProbeAt)
	case EventMassDeath:
		e.At, e.RetryAt, which = redisTime(s.MassAt), redisTime(s.MassTryAt), s.MassAt
	case EventThrottled:
		e.RetryAt, which = redisTime(s.ThrottledUntil), s.ThrottledUntil
	case EventDataLost:
		e.At, e.Error, which = redisTime(s.LostAt), "", s.LostAt
	}
	e.ID = fmt.Sprintf("%s/%d/%s", s.App, which, kind)
	return e
}

func redisTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
