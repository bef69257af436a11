package refresh

import (
	"context"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// feed hands what happens to those who listen.
type feed struct {
	app  engine.App
	name string // of this process
	log  zerolog.Logger

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
	late  bool          // it has missed events, and has not caught up since
}

func newFeed(app engine.App, name string, log zerolog.Logger, onEvent func(Event)) *feed {
	fd := &feed{app: app, name: name, log: log, listeners: make(map[*listener]struct{}), seen: make(map[string]struct{})}
	if onEvent != nil {
		fd.listen(context.Background(), onEvent)
	}
	return fd
}

// listen calls f with every event from now on, one at a time, until ctx ends or close. The
// channel is closed then.
func (fd *feed) listen(ctx context.Context, f func(Event)) (ended <-chan struct{}) {
	done := make(chan struct{})
	l := &listener{wake: make(chan struct{}, 1)}
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.ended {
		close(done)
		return done
	}
	if len(fd.listeners) == 0 {
		fd.stopListening()
		fd.stop = []func(){fd.app.OnChange(fd.onGrant), fd.app.OnApp(fd.onApp)}
	}
	fd.listeners[l] = struct{}{}
	fd.work.Go(func() {
		defer close(done)
		for fd.hand(ctx, l, f) {
			select {
			case <-l.wake:
			case <-ctx.Done():
			}
		}
	})
	return done
}

// hand hands a listener what has come, and reports whether more may come.
func (fd *feed) hand(ctx context.Context, l *listener, f func(Event)) bool {
	for {
		fd.mu.Lock()
		queue, ended := l.queue, fd.ended
		l.queue, l.late = nil, false
		if ctx.Err() != nil || ended && len(queue) == 0 {
			delete(fd.listeners, l)
			fd.mu.Unlock()
			return false
		}
		fd.mu.Unlock()
		if len(queue) == 0 {
			return true
		}
		for _, e := range queue {
			f(e)
		}
	}
}

// close lets the listeners end when they have been told all.
func (fd *feed) close(ctx context.Context) error {
	fd.mu.Lock()
	fd.ended = true
	for l := range fd.listeners {
		l.rouse()
	}
	fd.stopListening()
	fd.mu.Unlock()
	told := make(chan struct{})
	go func() {
		fd.work.Wait()
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
func (fd *feed) stopListening() {
	for _, stop := range fd.stop {
		stop()
	}
	fd.stop = nil
}

func (l *listener) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// publish queues an event for all, unless it came before. It never blocks: the subscriber
// connection waits for it.
func (fd *feed) publish(e Event) {
	e.Mine = e.By == fd.name && e.Kind != EventStalled
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if _, ok := fd.seen[e.ID]; ok || len(fd.listeners) == 0 {
		return
	}
	place := &fd.order[fd.n%len(fd.order)]
	delete(fd.seen, *place)
	*place, fd.n = e.ID, fd.n+1
	fd.seen[e.ID] = struct{}{}
	for l := range fd.listeners {
		if len(l.queue) >= behind {
			l.queue = l.queue[1:]
			if !l.late {
				fd.log.Error().Msg("a listener is too far behind: it misses the oldest events")
			}
			l.late = true
		}
		l.queue = append(l.queue, e)
		l.rouse()
	}
}

func (fd *feed) onGrant(ch engine.Change) {
	if kind, ok := grantEvents[ch.Kind]; ok {
		fd.publish(grantEvent(kind, ch.Key, &ch.Record, ch.At))
	}
}

// reportLast is for a grant that Run has come by, sooner than it is due: it tells its last change,
// should the process that made it have died over that.
func (fd *feed) reportLast(s *engine.Snapshot) {
	for _, e := range lastEvents(s) {
		fd.publish(e)
	}
}

func (fd *feed) onApp(ch engine.AppChange) {
	if kind, ok := appEvents[ch.Kind]; ok {
		fd.publish(appEvent(kind, ch.State))
	}
	if kind, ok := hostEvents[ch.Kind]; ok {
		fd.publish(hostEvent(kind, ch.State, ch.State.About))
	}
}

// reportApp tells a process that was not there when it happened that a circuit is open, that
// the provider is down, or that too many grants have died.
func (fd *feed) reportApp(s *engine.AppState) {
	if s.Open {
		fd.publish(appEvent(EventCircuitOpen, s))
	}
	for host, h := range s.Hosts {
		if h.Open {
			fd.publish(hostEvent(EventCircuitOpen, s, host))
		}
	}
	if s.DownAt != 0 {
		fd.publish(appEvent(EventProviderDown, s))
	}
	if policy.MassDies(s.MassAt, s.Now()) {
		fd.publish(appEvent(EventMassDeath, s))
	}
}
