package apps

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Place is an app's place in memory.
type Place struct {
	all           *Apps
	name, channel string
	state         atomic.Pointer[State]

	told watchers[StateChange]

	given  atomic.Int64 // of the loss of Redis' data after which this process has given all back: when that was
	giving atomic.Bool

	runs  sync.Mutex // guards what follows, and the order in which the hub is told
	renew int        // how many Runs there are in this process

	mu      sync.Mutex // guards what follows, and the order in which state advances
	changed chan struct{}
}

// Name is the app's name.
func (a *Place) Name() string { return a.name }

// Peek is the app's state in memory if that is coherent, see package memory; else nil.
func (a *Place) Peek() *State {
	s := a.state.Load()
	if s != nil && s.session != 0 && s.session == a.all.hub.Session() && !s.doubtful() {
		return s
	}
	return nil
}

// State is the app's state: from memory if that is coherent, else from Redis in one round
// trip.
func (a *Place) State(ctx context.Context) (*State, error) {
	if s := a.Peek(); s != nil {
		return s, nil
	}
	session, sent := a.all.hub.SessionOf(a.channel), mono.Now()
	type reading struct {
		now    int64
		fields map[string]string
	}
	got, err := store.Insist(ctx, a.all.db, func() (reading, error) {
		var fields *redis.MapStringStringCmd
		// By the exact time: it says whether this is older than what was pushed meanwhile.
		now, err := a.all.db.Together(ctx, a.channel, true, func(p redis.Pipeliner) { fields = p.HGetAll(ctx, a.channel) })
		if err != nil {
			return reading{}, err
		}
		return reading{now, fields.Val()}, fields.Err()
	})
	a.all.db.Watchers.Took("app_state", sent)
	if err != nil {
		a.all.db.NoteError(err)
		return nil, fmt.Errorf("tokencache: state of app %s: %w", a.name, err)
	}
	at, _ := a.all.clock.Observe(sent, mono.Now(), got.now)
	s := &State{App: a.name, asOf: got.now, now: got.now, at: at, session: session}
	s.fill(got.fields)
	return a.take(s, sent), nil
}

// adopt takes s into memory unless memory is newer, and returns what memory holds then. Redis'
// clock tells, not the count of changes: a circuit that Redis has lost is opened again by the
// next refusal, need not be restored, and counts from one again.
func (a *Place) adopt(s *State, sent mono.Time) *State {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.state.Load()
	late := old != nil && sent <= old.taken && old.asOf-s.asOf < clock.BelievedWithin.Milliseconds() // else Redis' clock was set back
	if late && (s.asOf < old.asOf || s.asOf == old.asOf && s.Rev < old.Rev) {
		return old
	}
	s.taken = mono.Now()
	a.state.Store(s)
	a.news()
	return s
}

// take is adopt, and tells of the news that Redis has lost the app's data, by whichever road they come: what was
// pushed may have been missed. For a process that knew nothing of the app they are none.
func (a *Place) take(s *State, sent mono.Time) *State {
	before := a.state.Load()
	s = a.adopt(s, sent)
	if s.lostSince(before) {
		a.all.OnLoss(a)
		if before != nil {
			a.told.notify(StateChange{dataLost, s})
		}
	}
	return s
}

// Invalidate makes memory incoherent until it is read again.
func (a *Place) Invalidate() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.state.Load(); old != nil {
		s := *old
		s.session = 0
		a.state.Store(&s)
	}
	a.news()
}

// news wakes everybody who waits. Called with mu held.
func (a *Place) news() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// change runs a script that changes the state of an app, or of a host of it, and takes the result into memory.
// made is the kind of change that it was; empty if nothing changed.
func (a *Place) change(ctx context.Context, op string, s *redis.Script, host string, args ...any) (made, status string, _ *State, err error) {
	session, sent := a.all.hub.SessionOf(a.channel), mono.Now()
	got, err := a.all.db.Publish(ctx, s, []string{a.channel}, append(args, host)...).Slice()
	a.all.db.Watchers.Took("app_change", sent)
	var r store.Reply
	if err == nil {
		r, err = store.ScriptReply(got)
	}
	if err != nil {
		a.all.db.NoteError(err)
		return "", "", nil, fmt.Errorf("tokencache: %s app %s: %w", op, a.name, err)
	}
	at, _ := a.all.clock.Observe(sent, mono.Now(), r.Now)
	state := &State{App: a.name, asOf: r.Now, now: r.Now, at: at, session: session}
	state.parse(r.Text)
	if state.changeID == args[0] {
		a.told.notify(StateChange{state.change, state})
		made = strings.TrimPrefix(state.change, ofHost)
	}
	if op == dataLost { // the process that notices it gives back what it remembers anyway
		before := a.state.Load()
		if state = a.adopt(state, sent); made == "" && state.lostSince(before) { // another one was first
			a.told.notify(StateChange{dataLost, state})
		}
		return made, r.Status, state, nil
	}
	return made, r.Status, a.take(state, sent), nil
}

// dataLost is the change by which a process says that Redis has lost its data.
const dataLost = "data_lost"
