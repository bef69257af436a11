package tokencache

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/app_trip.lua
var tripLua string

//go:embed lua/app_probe.lua
var probeLua string

//go:embed lua/app_mend.lua
var mendLua string

//go:embed lua/app_throttle.lua
var throttleLua string

//go:embed lua/app_enter.lua
var enterLua string

//go:embed lua/app_leave.lua
var leaveLua string

var (
	tripScript     = publisher(tripLua)
	probeScript    = publisher(probeLua)
	mendScript     = publisher(mendLua)
	throttleScript = publisher(throttleLua)
	enterScript    = script(enterLua)
	leaveScript    = publisher(leaveLua)
)

// AppState is what the whole fleet knows of one app, at one moment. Times are Redis' clock,
// unix ms; 0 means none. It does not change.
type AppState struct {
	App            string
	Open           bool   // the circuit: the provider refuses the client
	Error          string // class/code/status that opened it, or for which it is throttled
	OpenedAt       int64
	Probes         int64 // refusals in a row
	ProbeAt        int64 // before it nobody tries again
	ProbeBy        string
	ThrottledUntil int64  // before it there are no exchanges
	Born           string // birth mark of the database, since Redis has lost this app's data
	LostAt         int64  // since then a tenant without a grant may have had one; 0 once that is accepted
	By             string
	Rev            int64 // counts the changes

	changeID string

	asOf    int64 // Redis' clock when it was so
	now     int64 // Redis' clock at `at`; never early
	at      mono
	session uint64 // subscription session in which it was read or pushed; 0 none
	taken   mono   // when this process knew it
}

// Now is Redis' time at this moment, unix ms; see [Snapshot.Now].
func (s *AppState) Now() int64 { return s.now + (monotonic() - s.at).Milliseconds() }

// Until is how long it is from now to a time of Redis' clock; never negative.
func (s *AppState) Until(t int64) time.Duration {
	return max(0, s.at+span(t-s.now)-monotonic())
}

// doubtful reports whether a state that stops the app's exchanges is to be read again: an
// operator may have deleted it, which is not pushed.
func (s *AppState) doubtful() bool {
	stopped := s.Open || s.ThrottledUntil > s.Now()
	return stopped && monotonic()-s.taken > readAgainAfter
}

const readAgainAfter = 5 * time.Second

// parse reads the state's text, one line a field.
func (s *AppState) parse(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		field, value, _ := strings.Cut(line, " ")
		s.set(field, value)
	}
}

func (s *AppState) set(name, value string) {
	n, _ := sane(value, maxCounter) // what cannot be true counts as nothing: this state is an economy
	switch name {
	case "circuit":
		s.Open = value == "open"
	case "error":
		s.Error = value
	case "opened_at":
		s.OpenedAt = n
	case "probes":
		s.Probes = n
	case "probe_at":
		s.ProbeAt = n
	case "probe_by":
		s.ProbeBy = value
	case "born":
		s.Born = value
	case "lost_at":
		s.LostAt = n
	case "throttled_until":
		s.ThrottledUntil = n
	case "by":
		s.By = value
	case "rev":
		s.Rev = n
	case "change_id":
		s.changeID = value
	}
}

// app is an app's place in memory.
type app struct {
	name, channel string
	state         atomic.Pointer[AppState]

	told watchers[AppChange]

	mu      sync.Mutex // guards what follows, and the order in which state advances
	changed chan struct{}
}

// AppChange is one change of an app's state: "open" and "closed" of its circuit, "refused" and
// "probe" while it is open, "throttled".
type AppChange struct {
	Kind  string
	State *AppState
}

// app returns an app's place in memory, and listens to its channel from then on.
func (c *Cache) app(name string) *app {
	a, known := c.apps.LoadOrCompute(name, func() (*app, bool) {
		return &app{name: name, channel: c.AppKey(name), changed: make(chan struct{})}, false
	})
	if !known {
		c.hub.add(a.channel)
	}
	return a
}

// forgetApp drops an app's place, unless somebody is told of its changes.
func (c *Cache) forgetApp(name string) {
	if a, ok := c.apps.Load(name); ok && a.told.none() {
		c.apps.Delete(name)
		c.hub.remove(a.channel)
	}
}

// AppState is an app's state: from memory if that is coherent, see [Cache.Peek], else from
// Redis in one round trip.
func (c *Cache) AppState(ctx context.Context, name string) (*AppState, error) {
	a := c.app(name)
	if s := a.state.Load(); s != nil && s.session != 0 && s.session == c.hub.session.Load() && !s.doubtful() {
		return s, nil
	}
	session, sent := c.hub.sessionOf(a.channel), monotonic()
	var fields *redis.MapStringStringCmd
	clock := redis.NewStringSliceCmd(ctx, "time")
	// A transaction, so that on a Cluster the time is that of the same node.
	_, err := c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		fields = p.HGetAll(ctx, a.channel)
		return p.Process(ctx, clock)
	})
	if err != nil {
		return nil, fmt.Errorf("tokencache: state of app %s: %w", name, err)
	}
	now, err := millis(clock.Val())
	if err != nil {
		return nil, fmt.Errorf("tokencache: state of app %s: %w", name, err)
	}
	s := &AppState{App: name, asOf: now, now: now, at: c.clock.observe(sent, monotonic(), now), session: session}
	for field, value := range fields.Val() {
		s.set(field, value)
	}
	return c.adoptApp(a, s, sent), nil
}

// WatchApp makes an app's state coherent in memory.
func (c *Cache) WatchApp(ctx context.Context, name string) error {
	if _, err := c.hub.confirmed(ctx, c.app(name).channel); err != nil {
		return err
	}
	_, err := c.AppState(ctx, name)
	return err
}

// KnownApp is what memory holds of an app, coherent or not; nil for nothing.
func (c *Cache) KnownApp(name string) *AppState {
	if a, ok := c.apps.Load(name); ok {
		return a.state.Load()
	}
	return nil
}

// AppChanged returns a channel that is closed on the next news of an app, or when a place
// among its exchanges in flight becomes free. Take it before looking.
func (c *Cache) AppChanged(name string) <-chan struct{} {
	a := c.app(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// OnApp has f called for every change of an app that this process makes or hears of, for one's
// own also twice. f runs on the subscriber's goroutine among others, and must not block. stop
// ends it.
func (c *Cache) OnApp(name string, f func(AppChange)) (stop func()) {
	remove := c.app(name).told.add(f, func() {})
	return func() { remove(func() {}) }
}

// adopt takes s into memory unless memory is newer, and returns what memory holds then. Redis'
// clock tells, not the count of changes: a circuit that Redis has lost is opened again by the
// next refusal, need not be restored, and counts from one again.
func (a *app) adopt(s *AppState, sent mono) *AppState {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.state.Load()
	if old != nil && sent <= old.taken && (s.asOf < old.asOf || s.asOf == old.asOf && s.Rev < old.Rev) {
		return old
	}
	s.taken = monotonic()
	a.state.Store(s)
	a.news()
	return s
}

// adoptApp is adopt, and acts upon the news that Redis has lost the app's data.
func (c *Cache) adoptApp(a *app, s *AppState, sent mono) *AppState {
	before := a.state.Load()
	s = a.adopt(s, sent)
	c.lossHeard(before, s)
	return s
}

// suspect makes memory incoherent until it is read again.
func (a *app) suspect() {
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
func (a *app) news() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// appPushed takes what was published on an app's channel; empty for a new subscription. It
// reports whether the channel is an app's.
func (c *Cache) appPushed(channel, payload string, at mono) bool {
	name, ok := strings.CutPrefix(channel, c.prefix+":app:")
	if !ok {
		return false
	}
	a, ok := c.apps.Load(unescape(name))
	if !ok {
		return true
	}
	head, lines, _ := strings.Cut(payload, "\n")
	kind, when, _ := strings.Cut(head, " ")
	now, err := sane(when, math.MaxInt64)
	if payload == "" || kind == "free" || err != nil { // empty: newly subscribed
		a.mu.Lock()
		defer a.mu.Unlock()
		a.news()
		return true
	}
	s := &AppState{App: a.name, asOf: now, now: c.clock.arrived(at, now), at: at, session: c.hub.sessionOf(channel)}
	s.parse(lines)
	c.adoptApp(a, s, 0)
	a.told.tell(AppChange{kind, s})
	return true
}

// changeApp runs a script that changes an app's state, and takes the result into memory.
func (c *Cache) changeApp(ctx context.Context, op string, s *redis.Script, name string, args ...any) (status string, _ *AppState, err error) {
	a := c.app(name)
	session, sent := c.hub.sessionOf(a.channel), monotonic()
	got, err := c.publish(ctx, s, []string{a.channel}, args...).Slice()
	var r reply
	if err == nil {
		r, err = scriptReply(got)
	}
	if err != nil {
		return "", nil, fmt.Errorf("tokencache: %s app %s: %w", op, name, err)
	}
	state := &AppState{App: name, asOf: r.now, now: r.now, at: c.clock.observe(sent, monotonic(), r.now), session: session}
	state.parse(r.text)
	if state.changeID == args[0] {
		a.told.tell(AppChange{kindOfApp(op, state), state})
	}
	return r.status, a.adopt(state, sent), nil
}

// kindOfApp is the kind of a change that a script has made, from its answer.
func kindOfApp(op string, s *AppState) string {
	switch {
	case op == "data_lost", op == "loss_accepted":
		return op
	case op == "trip" && s.Probes == 1:
		return "open"
	case op == "trip":
		return "refused"
	case op == "mend":
		return "closed"
	case op == "throttle":
		return "throttled"
	}
	return op
}

// Trip opens an app's circuit, since the provider refused its client, or puts the next probe
// off if it is open. asked is the state under which the exchange was made: one that was under
// way when the circuit opened does not count again. waits are how long after the first, second, … refusal in a row that is;
// the last holds for all that follow.
func (c *Cache) Trip(ctx context.Context, name, id, by, errorText string, asked *AppState, waits ...time.Duration) (*AppState, error) {
	before := int64(0)
	if asked.Open {
		before = asked.OpenedAt
	}
	args := []any{id, clip(by), clip(errorText), before}
	for _, w := range waits {
		args = append(args, w.Milliseconds())
	}
	_, s, err := c.changeApp(ctx, "trip", tripScript, name, args...)
	return s, err
}

// Probe asks for the right to make one exchange although the circuit is open. One at a time
// has it, for hold at most. It is given too if the circuit is closed.
func (c *Cache) Probe(ctx context.Context, name, id, by string, hold time.Duration) (bool, *AppState, error) {
	status, s, err := c.changeApp(ctx, "probe", probeScript, name, id, clip(by), hold.Milliseconds())
	return status == string(OK), s, err
}

// Mend closes the circuit: the provider has accepted the client. asked is the state under
// which the exchange was made; a circuit that was opened after that stays open.
func (c *Cache) Mend(ctx context.Context, name, id, by string, asked *AppState) (*AppState, error) {
	_, s, err := c.changeApp(ctx, "mend", mendScript, name, id, clip(by), asked.OpenedAt)
	return s, err
}

// Throttle stops an app's exchanges for d from now. A longer stop that stands already stays.
func (c *Cache) Throttle(ctx context.Context, name, id, by, errorText string, d time.Duration) (*AppState, error) {
	_, s, err := c.changeApp(ctx, "throttle", throttleScript, name, id, clip(by), clip(errorText), d.Milliseconds())
	return s, err
}

func (c *Cache) inflightKey(name string) string { return c.prefix + ":inflight:" + escape(name) }

// Enter takes a place for one exchange in flight, of which there may be most at once, for at
// most ttl. Without a place, wait is when one of the others has ended for sure.
func (c *Cache) Enter(ctx context.Context, name, id string, most int, ttl time.Duration) (ok bool, wait time.Duration, err error) {
	got, err := enterScript.Run(ctx, c.rdb, []string{c.inflightKey(name)}, id, most, ttl.Milliseconds()).Int64Slice()
	if err != nil || len(got) != 2 {
		return false, 0, fmt.Errorf("tokencache: enter app %s: %w", name, err)
	}
	return got[0] == 1, time.Duration(got[1]) * time.Millisecond, nil
}

// Leave gives a place back, and tells the waiting processes if at least `crowd` were taken.
func (c *Cache) Leave(ctx context.Context, name, id string, crowd int) error {
	return c.publish(ctx, leaveScript, []string{c.inflightKey(name)}, id, crowd, c.AppKey(name)).Err()
}
