package engine

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// AppState is what the whole fleet knows of one app, at one moment. Times are Redis' clock,
// unix ms; 0 means none. It does not change. When all is well only AcceptedAt and ReadAt are set.
type AppState struct {
	App      string
	Open     bool   // the circuit: the provider refuses the client
	Error    string // class/code/status of the last refusal, of the one that opened the circuit, or of a pause
	OpenedAt int64
	Probes   int64  // refusals in a row since the circuit opened
	ProbeAt  int64  // before it nobody tries again; while ProbeBy does, when that has ended for sure
	ProbeBy  string // the process that is trying just now
	// Refused are the fingerprints of the tenants that were refused in a row, with no
	// acceptance in between.
	Refused string
	// Brake, with Open, are the digests of the profiles with which the provider's successes
	// cannot be read. Nobody probes; only the tenants in Refused go on.
	Brake string
	// AcceptedAt is when it was last noted that the provider accepted the client: at first,
	// and whenever there had been a doubt.
	AcceptedAt     int64
	ReadAt         int64  // when an answer was first read, and found to hold a pair
	MassAt         int64  // since when more grants have died than is believed
	MassTryAt      int64  // before it none of those is tried again
	ThrottledUntil int64  // before it there are no exchanges
	Limited        string // the tenant that was told to wait, while no other was, and until when
	Born           string // birth mark of the database, since Redis has lost this app's data
	LostAt         int64  // since then a tenant without a grant may have had one; 0 once that is accepted
	Ramp           int64  // after a pause: how many exchanges there may be at once; 0 for no limit
	By             string
	Rev            int64 // counts the changes

	probeID          string
	change, changeID string
	changedAt        int64

	asOf    int64 // Redis' clock when it was so
	now     int64 // Redis' clock at `at`; never early
	at      mono.Time
	session uint64    // subscription session in which it was read or pushed; 0 none
	taken   mono.Time // when this process knew it
}

// Now is Redis' time at this moment, unix ms; see [Snapshot.Now].
func (s *AppState) Now() int64 { return s.now + (mono.Now() - s.at).Milliseconds() }

// Until is how long it is from now to a time of Redis' clock; never negative.
func (s *AppState) Until(t int64) time.Duration {
	return max(0, s.at+clock.Span(t-s.now)-mono.Now())
}

// believable ends what waits if Redis' clock was set back since this was written, as in app.lua.
func (s *AppState) believable() {
	if s.changedAt > s.now+grant.ClockTolerance {
		s.ProbeAt, s.ThrottledUntil, s.MassTryAt = 0, 0, 0
	}
}

// Unsettled reports whether the next acceptance is to be noted; read says that it has brought
// a pair.
func (s *AppState) Unsettled(read bool) bool {
	return s.AcceptedAt == 0 || read && s.ReadAt == 0 || s.Open || s.Refused != "" || s.Limited != "" || s.Ramp > 0
}

// Refuses reports whether a tenant is among those that were refused in a row.
func (s *AppState) Refuses(tenant string) bool {
	return s.Refused != "" && tenant != "" && strings.Contains(s.Refused, tenantFP(tenant))
}

// Braked reports whether the brake is for a profile's digest.
func (s *AppState) Braked(digest string) bool {
	return s.Open && s.Brake != "" && strings.Contains(s.Brake, digest)
}

// tenantFP is how an app's state names a tenant.
func tenantFP(tenant string) string { return grant.Fingerprint(tenant)[:8] }

// doubtful reports whether a state that stops the app's exchanges is to be read again: an
// operator may have deleted it, which is not pushed.
func (s *AppState) doubtful() bool {
	stopped := s.Open || s.Ramp > 0 || s.ThrottledUntil > s.Now()
	return stopped && mono.Now()-s.taken > readAgainAfter
}

const readAgainAfter = 5 * time.Second

// parse reads the state's text, one line a field.
func (s *AppState) parse(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		field, value, _ := strings.Cut(line, " ")
		s.set(field, value)
	}
	s.believable()
}

func (s *AppState) set(name, value string) {
	n, _ := grant.ParseNumber(value, grant.MaxCounter) // what cannot be true counts as nothing: this state is an economy
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
	case "probe_id":
		s.probeID = value
	case "refused":
		s.Refused = value
	case "accepted_at":
		s.AcceptedAt = n
	case "brake":
		s.Brake = value
	case "read_at":
		s.ReadAt = n
	case "mass_at":
		s.MassAt = n
	case "mass_try_at":
		s.MassTryAt = n
	case "limited":
		s.Limited = value
	case "ramp":
		s.Ramp = n
	case "throttled_until":
		s.ThrottledUntil = n
	case "by":
		s.By = value
	case "rev":
		s.Rev = n
	case "change":
		s.change = value
	case "changed_at":
		s.changedAt = n
	case "change_id":
		s.changeID = value
	}
}

// app is an app's place in memory.
type appMemory struct {
	name, channel string
	state         atomic.Pointer[AppState]

	told watchers[AppChange]

	given  atomic.Int64 // of the loss of Redis' data after which this process has given all back: when that was
	giving atomic.Bool

	mu      sync.Mutex // guards what follows, and the order in which state advances
	changed chan struct{}
}

// AppChange is one change of an app's state: "suspected" (one tenant is refused as if the
// client were), "open" and "closed" of its circuit, "refused", "probe" and "unprobed" while it
// is open, "limited" (one tenant is to wait), "throttled", "ramp" after that, "accepted",
// "death" of a grant, "mass_death", "retry" and "revived" after that.
type AppChange struct {
	Kind  string
	State *AppState
}

// app returns an app's place in memory, and listens to its channel from then on.
func (app App) memory() *appMemory {
	a, known := app.c.apps.LoadOrCompute(app.name, func() (*appMemory, bool) {
		return &appMemory{name: app.name, channel: app.AppKey(), changed: make(chan struct{})}, false
	})
	if !known {
		app.c.hub.Add(a.channel)
	}
	return a
}

// forgetApp drops an app's place, unless somebody is told of its changes.
func (app App) forgetApp() {
	if a, ok := app.c.apps.Load(app.name); ok && a.told.none() {
		app.c.apps.Delete(app.name)
		app.c.hub.Remove(a.channel)
	}
}

// PeekApp is an app's state in memory if that is coherent, see [Grant.Peek]; else nil.
func (app App) PeekApp() *AppState {
	s := app.memory().state.Load()
	if s != nil && s.session != 0 && s.session == app.c.hub.Session() && !s.doubtful() {
		return s
	}
	return nil
}

// AppState is an app's state: from memory if that is coherent, else from Redis in one round
// trip.
func (app App) AppState(ctx context.Context) (*AppState, error) {
	if s := app.PeekApp(); s != nil {
		return s, nil
	}
	a := app.memory()
	session, sent := app.c.hub.SessionOf(a.channel), mono.Now()
	type reading struct {
		now    int64
		fields map[string]string
	}
	got, err := store.Insist(ctx, app.c.db, func() (reading, error) {
		var fields *redis.MapStringStringCmd
		// By the exact time: it says whether this is older than what was pushed meanwhile.
		now, err := app.c.db.Together(ctx, a.channel, true, func(p redis.Pipeliner) { fields = p.HGetAll(ctx, a.channel) })
		if err != nil {
			return reading{}, err
		}
		return reading{now, fields.Val()}, fields.Err()
	})
	if err != nil {
		app.c.db.Unanswered(err)
		return nil, fmt.Errorf("tokencache: state of app %s: %w", app.name, err)
	}
	s := &AppState{App: app.name, asOf: got.now, now: got.now, at: app.c.clock.Observe(sent, mono.Now(), got.now), session: session}
	for field, value := range got.fields {
		s.set(field, value)
	}
	s.believable()
	return app.c.adoptApp(a, s, sent), nil
}

// WatchApp makes an app's state coherent in memory.
func (app App) WatchApp(ctx context.Context) error {
	if _, err := app.c.hub.Confirmed(ctx, app.memory().channel); err != nil {
		return err
	}
	_, err := app.AppState(ctx)
	return err
}

// KnownApp is what memory holds of an app, coherent or not; nil for nothing.
func (app App) KnownApp() *AppState {
	if a, ok := app.c.apps.Load(app.name); ok {
		return a.state.Load()
	}
	return nil
}

// AppChanged returns a channel that is closed on the next news of an app, or when a place
// among its exchanges in flight becomes free. Take it before looking.
func (app App) AppChanged() <-chan struct{} {
	a := app.memory()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// OnApp has f called for every change of an app that this process makes or hears of, for one's
// own also twice. f runs on the subscriber's goroutine among others, and must not block. stop
// ends it.
func (app App) OnApp(f func(AppChange)) (stop func()) {
	remove := app.memory().told.add(f, func() {})
	return func() { remove(func() {}) }
}

// adopt takes s into memory unless memory is newer, and returns what memory holds then. Redis'
// clock tells, not the count of changes: a circuit that Redis has lost is opened again by the
// next refusal, need not be restored, and counts from one again.
func (a *appMemory) adopt(s *AppState, sent mono.Time) *AppState {
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

// adoptApp is adopt, and acts upon the news that Redis has lost the app's data.
func (c *Cache) adoptApp(a *appMemory, s *AppState, sent mono.Time) *AppState {
	before := a.state.Load()
	s = a.adopt(s, sent)
	c.lossHeard(a, before, s)
	return s
}

// invalidate makes memory incoherent until it is read again.
func (a *appMemory) invalidate() {
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
func (a *appMemory) news() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// receiveApp takes what was published on an app's channel; empty for a new subscription. It
// reports whether the channel is an app's.
func (c *Cache) receiveApp(channel, payload string, at mono.Time) bool {
	name, ok := c.names.IsApp(channel)
	if !ok {
		return false
	}
	a, ok := c.apps.Load(grant.Unescape(name))
	if !ok {
		return true
	}
	head, lines, _ := strings.Cut(payload, "\n")
	kind, when, _ := strings.Cut(head, " ")
	now, err := grant.ParseNumber(when, math.MaxInt64)
	if payload == "" || kind == "free" || err != nil { // empty: newly subscribed
		a.mu.Lock()
		defer a.mu.Unlock()
		a.news()
		return true
	}
	s := &AppState{App: a.name, asOf: now, now: c.clock.Arrived(at, now), at: at, session: c.hub.SessionOf(channel)}
	s.parse(lines)
	c.adoptApp(a, s, 0)
	a.told.notify(AppChange{kind, s})
	return true
}

// changeApp runs a script that changes an app's state, and takes the result into memory. made
// is the kind of change that it was; empty if nothing changed.
func (app App) changeApp(ctx context.Context, op string, s *redis.Script, args ...any) (made, status string, _ *AppState, err error) {
	return app.c.changeAt(ctx, op, s, app.memory(), args...)
}

// changeAt is changeApp for a place in memory that is there already: it makes none, which nobody
// would forget.
func (c *Cache) changeAt(ctx context.Context, op string, s *redis.Script, a *appMemory, args ...any) (made, status string, _ *AppState, err error) {
	session, sent := c.hub.SessionOf(a.channel), mono.Now()
	got, err := c.db.Publish(ctx, s, []string{a.channel}, args...).Slice()
	var r store.Reply
	if err == nil {
		r, err = store.ScriptReply(got)
	}
	if err != nil {
		c.db.Unanswered(err)
		return "", "", nil, fmt.Errorf("tokencache: %s app %s: %w", op, a.name, err)
	}
	state := &AppState{App: a.name, asOf: r.Now, now: r.Now, at: c.clock.Observe(sent, mono.Now(), r.Now), session: session}
	state.parse(r.Text)
	if state.changeID == args[0] {
		made = state.change
		a.told.notify(AppChange{made, state})
	}
	if op == "data_lost" { // the process that notices it gives back what it remembers anyway
		return made, r.Status, a.adopt(state, sent), nil
	}
	return made, r.Status, c.adoptApp(a, state, sent), nil
}

// Refusal is an exchange that the provider refused as if it refused the client.
type Refusal struct {
	Tenant string
	Error  string // class/code/status
	// Probe is the probe that the exchange was; empty for none.
	Probe string
	// Tenants is how many different ones, refused in a row, open the circuit.
	Tenants int
	// First says that one is enough if the provider was never seen to accept this app.
	First bool
	// Again says that the tenant was refused before: its probe puts the next one off, but not
	// for longer than the one before.
	Again bool
}

// Trip notes a refusal, which opens the app's circuit if it is one too many with no acceptance
// in between, or puts the next probe off if it was one. waits are how long after the first,
// second, … refusal in a row that is; the last holds for all that follow. opened says that
// this refusal opened it.
func (app App) Trip(ctx context.Context, id string, r Refusal, waits ...time.Duration) (opened bool, _ *AppState, err error) {
	first, again := "", ""
	if r.First {
		first = "first"
	}
	if r.Again {
		again = "again"
	}
	args := []any{id, grant.Clip(app.by), grant.Clip(r.Error), tenantFP(r.Tenant), r.Probe, r.Tenants, first, again, len(waits)}
	for _, w := range waits {
		args = append(args, w.Milliseconds())
	}
	made, _, s, err := app.changeApp(ctx, "trip", store.TripScript, args...)
	return made == "open", s, err
}

// Probe asks for the right to make one exchange although the circuit is open; id names the
// probe. One at a time has it, for hold at most; who comes late by handicap leaves others
// the way. It is given too if the circuit is closed.
func (app App) Probe(ctx context.Context, id string, handicap, hold time.Duration) (bool, *AppState, error) {
	_, status, s, err := app.changeApp(ctx, "probe", store.ProbeScript, id, grant.Clip(app.by), hold.Milliseconds(), handicap.Milliseconds())
	return status == string(grant.OutcomeOK), s, err
}

// Unprobe gives a probe's right back, of which nothing was learned. The next probe may be made
// after again.
func (app App) Unprobe(ctx context.Context, id, probe string, again time.Duration) (*AppState, error) {
	_, _, s, err := app.changeApp(ctx, "unprobe", store.UnprobeScript, id, grant.Clip(app.by), probe, again.Milliseconds())
	return s, err
}

// After a pause exchanges begin again with one at a time. As long as they are accepted, twice as
// many may be made at once after each RampStep, up to rampTop; there is no limit any more
// when that has gone well for rampRest.
const (
	RampStep = 250 * time.Millisecond
	rampTop  = 64
	rampRest = 4 * time.Second
)

// Acceptance is what Accept notes.
type Acceptance struct {
	Read    bool // a pair was read, and not only the client accepted
	Revived bool // by that a grant is alive whose death was doubted
}

// Accept notes that the provider has accepted the client: the circuit closes, and what was
// suspected is over. It is to be called while the state is unsettled. A brake ends only by a
// pair that was read, and a mass death by a grant that is alive. closed says that this closed
// the circuit.
func (app App) Accept(ctx context.Context, id string, a Acceptance) (closed bool, _ *AppState, err error) {
	read, revived := "", ""
	if a.Read {
		read = "read"
	}
	if a.Revived {
		revived = "revived"
	}
	made, _, s, err := app.changeApp(ctx, "accept", store.AcceptScript, id, grant.Clip(app.by),
		RampStep.Milliseconds(), rampTop, rampRest.Milliseconds(), read, revived)
	return made == "closed", s, err
}

// Throttle notes that the provider told a tenant to wait. If another tenant heard that lately,
// with no acceptance in between, it stops the app's exchanges for d from now; a longer
// pause that has begun already is kept. paused says that this call made the pause.
func (app App) Throttle(ctx context.Context, id, errorText, tenant string, d time.Duration) (paused bool, _ *AppState, err error) {
	made, _, s, err := app.changeApp(ctx, "throttle", store.ThrottleScript, id, grant.Clip(app.by), grant.Clip(errorText), tenantFP(tenant), d.Milliseconds())
	return made == "throttled", s, err
}

// Brake stops an app's exchanges under the profile of that digest, since the provider has
// answered one with a success that cannot be read, unless others were read before. It is like
// an open circuit, but nobody probes. braked says that this call did it.
func (app App) Brake(ctx context.Context, id, errorText, tenant, digest string) (braked bool, _ *AppState, err error) {
	made, _, s, err := app.changeApp(ctx, "brake", store.BrakeScript, id, grant.Clip(app.by), grant.Clip(errorText), tenantFP(tenant), digest)
	return made == "open", s, err
}

// Deaths is how many deaths of grants are believed, within how long, and for how long they are
// doubted once there are more.
type Deaths struct {
	Most          int64
	Within, Doubt time.Duration
}

// Death asks whether to believe that a grant is dead. first says that this is the one too many.
func (app App) Death(ctx context.Context, id string, d Deaths) (believed, first bool, err error) {
	made, status, _, err := app.changeApp(ctx, "death", store.DeathScript, id, grant.Clip(app.by), d.Most, d.Within.Milliseconds(), d.Doubt.Milliseconds())
	return status == string(grant.OutcomeOK), made == "mass_death", err
}

// Retry asks for the right to try a grant again whose death is doubted: one in `every` has it.
func (app App) Retry(ctx context.Context, id string, every time.Duration, d Deaths) (bool, error) {
	_, status, _, err := app.changeApp(ctx, "retry", store.RetryScript, id, grant.Clip(app.by), every.Milliseconds(), d.Doubt.Milliseconds())
	return status == string(grant.OutcomeOK), err
}

// CountGrants reckons how many grants of an app there are of which something is due at some
// time, from a few of the shards.
func (app App) CountGrants(ctx context.Context) (int64, error) {
	keys := app.sample()
	counts, err := store.Spread(ctx, app.c.rdb, keys, func(p redis.Pipeliner, i int) *redis.IntCmd { return p.ZCard(ctx, keys[i]) })
	sum, known := reckon(counts)
	if !known {
		return 0, fmt.Errorf("tokencache: count grants of app %s: %w", app.name, err)
	}
	return sum, nil
}

// Enter takes a place for one exchange in flight, of which there may be most at once, for at
// most ttl. Without a place, wait is when one of the others has ended for sure.
func (app App) Enter(ctx context.Context, id string, most int, ttl time.Duration) (ok bool, wait time.Duration, err error) {
	got, err := store.EnterScript.Run(ctx, app.c.rdb, []string{app.keys().Inflight()}, id, most, ttl.Milliseconds()).Int64Slice()
	if err != nil || len(got) != 2 {
		return false, 0, fmt.Errorf("tokencache: enter app %s: %w", app.name, err)
	}
	return got[0] == 1, time.Duration(got[1]) * time.Millisecond, nil
}

// Leave gives a place back, and tells the waiting processes if at least `crowd` were taken.
func (app App) Leave(ctx context.Context, id string, crowd int) error {
	return app.c.db.Publish(ctx, store.LeaveScript, []string{app.keys().Inflight()}, id, crowd, app.AppKey()).Err()
}
