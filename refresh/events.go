package refresh

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache"
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
	EventThrottled     EventKind = "throttled"      // the provider wants a pause
)

// Event is one thing that has happened, for metrics, mails and pages. It holds no token.
//
// The process that has made a change gets its event, and so does every other that has the
// grant in memory: one change comes to several processes, with the same ID. That a tenant must
// reauthorize comes also from Run, should the process that found out have died: so
// at least one process gets it. To act exactly once, let the ID decide, for instance by SET NX
// in Redis.
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
	"open": EventCircuitOpen, "closed": EventCircuitClosed, "throttled": EventThrottled,
}

// Events returns a channel of what happens from now on, until ctx ends or the coordinator
// is closed; then it is closed. A reader that is thousands of events behind misses the oldest.
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
		ev.c.cache.OnChange(ev.c.cfg.App, ev.grantChanged)
		ev.c.cache.OnApp(ev.c.cfg.App, ev.appChanged)
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
	ev.mu.Unlock()
	ev.c.cache.OnChange(ev.c.cfg.App, nil)
	ev.c.cache.OnApp(ev.c.cfg.App, nil)
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

func (l *listener) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// tell queues an event for all, unless it came before. It never blocks: the subscriber
// connection waits for it.
func (ev *events) tell(e Event) {
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

func (ev *events) grantChanged(ch tokencache.Change) {
	if kind, ok := grantEvents[ch.Kind]; ok {
		ev.tell(grantEvent(kind, ch.Key, &ch.Record, ch.At))
	}
}

// reauthorize is for a grant that was found in that state.
func (ev *events) reauthorize(s *tokencache.Snapshot) {
	ev.tell(grantEvent(EventReauthorize, s.Key, &s.Record, s.Now()))
}

func grantEvent(kind EventKind, k tokencache.Key, r *tokencache.Record, at int64) Event {
	return Event{
		Kind: kind, ID: fmt.Sprintf("%s/%d/%d/%d/%s", k, r.Epoch, r.Generation, r.Rev, kind),
		App: k.App, Tenant: k.Tenant, At: redisTime(at), By: r.By, Generation: r.Generation,
		Reason: r.Reason, Error: r.Error, RetryAt: redisTime(r.RetryAt),
		ExpiresAt: redisTime(r.ExpiresAt), RefreshTokenExpiresAt: redisTime(r.RefreshTokenExpiresAt),
	}
}

func (ev *events) appChanged(kind string, s *tokencache.AppState) {
	k, ok := appEvents[kind]
	if !ok {
		return
	}
	e := Event{
		Kind: k, ID: fmt.Sprintf("%s/%d/%d/%d/%s", s.App, s.OpenedAt, s.ThrottledUntil, s.Rev, k), App: s.App,
		At: redisTime(s.Now()), By: s.By, Error: s.Error,
	}
	switch k {
	case EventCircuitOpen:
		e.RetryAt = redisTime(s.ProbeAt)
	case EventThrottled:
		e.RetryAt = redisTime(s.ThrottledUntil)
	}
	ev.tell(e)
}

func redisTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
