// Package hub is a process's one subscriber connection to Redis, and the proof that it is one to the
// server that the process writes to: its own heartbeat, which comes back.
package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

const (
	// readyFor is how long the first connection waits for Config.Ready.
	readyFor = time.Second
	// TickEvery is how often the clock is read for all readers of memory.
	TickEvery = time.Second
	// minPause is between two dials, however many callers ask for one.
	minPause = 20 * time.Millisecond
	// chunk bounds the channels of one SUBSCRIBE.
	chunk = 1000
)

var (
	// ErrSubscriber says that there is no live session.
	ErrSubscriber  = errors.New("tokencache: no subscriber connection to Redis")
	errReconnected = errors.New("the connection was replaced")
)

// Hub is the process's one subscriber connection. It lives while there is a
// channel to listen to.
//
// A session is one connection, from its first heartbeat on. Whatever was pushed or read in a
// session is coherent until the session ends; then everything is suspect until read again.
type Hub struct {
	// Every reader of memory reads these two, so they have a cache line of their own.
	session atomic.Uint64 // the live one; odd while there is none
	tick    atomic.Int64  // mono.Time, at most a second old while a session is live
	_       [48]byte

	why atomic.Pointer[error] // the last connection ended

	cfg Config

	nudged   chan struct{} // has room for one: ticked is wanted now
	beating  atomic.Int32  // heartbeats that Redis has not answered yet
	deaf     string        // node of a Cluster whose session ended in silence; run's own
	prepared bool          // ready was called; run's own
	away     mono.Time     // since when there is no session, once that was said; run's own
	saidAt   mono.Time     // when that was last said; run's own
	current  atomic.Pointer[heartbeat]

	mu       sync.Mutex // guards what follows
	lost     mono.Time  // see Config.Begun
	coming   uint64     // the session that this connection is, or will be with its first heartbeat; 0 when it has ended
	channels map[string]*subscription
	commands []command      // not yet sent
	awaited  map[string]int // confirmations that this connection still owes, also for what is not yet sent
	kick     chan struct{}
	running  bool
	stopped  chan struct{} // closed when run has ended
}

// subscription is one channel's state.
type subscription struct {
	session uint64        // in which Redis confirmed it, be it live or coming; 0 none
	settled chan struct{} // closed when it is confirmed in a live session, or the connection failed
}

type command struct {
	channel string
	add     bool
}

// Config says what a Hub works on, and whom it tells. Deliver, Publish and, on a Cluster, Masters are required.
type Config struct {
	Redis redis.UniversalClient
	Log   zerolog.Logger
	// Heartbeats is what their channels begin with.
	Heartbeats string
	// Deliver takes the messages. It must not block: the connection would stall. An empty payload says that
	// the channel is newly subscribed.
	Deliver func(channel, payload string)
	// Ready is called before the first SUBSCRIBE of a connection, which does not wait for it long.
	Ready func(ctx context.Context)
	// Begun is called for each session, and runs until ctx ends with that at the latest. lost is
	// since when sessions may have missed something; 0 for never. It reports whether that is made up
	// for: else the next session must do it.
	Begun func(ctx context.Context, lost mono.Time) (done bool)
	// Along runs along with each session, until ctx ends.
	Along func(ctx context.Context)
	// Ticked is called once a second in a session.
	Ticked func(ctx context.Context)
	// Publish sends a heartbeat the way that commands go, and says how many listen; -1 if nobody can tell.
	Publish func(ctx context.Context, channel, nonce string) (listeners int64, err error)
	// Unanswered is told of a heartbeat that Redis did not answer.
	Unanswered func(err error)
	// Masters are those of a Cluster.
	Masters func(ctx context.Context) []*redis.Client
}

// New returns a Hub without a connection: that comes with the first channel.
func New(cfg Config) *Hub {
	nothing := func(context.Context) {}
	for _, f := range []*func(context.Context){&cfg.Ready, &cfg.Along, &cfg.Ticked} {
		if *f == nil {
			*f = nothing
		}
	}
	if cfg.Begun == nil {
		cfg.Begun = func(context.Context, mono.Time) bool { return true }
	}
	if cfg.Unanswered == nil {
		cfg.Unanswered = func(error) {}
	}
	h := &Hub{cfg: cfg, nudged: make(chan struct{}, 1), channels: make(map[string]*subscription), kick: make(chan struct{}, 1)}
	h.session.Store(1)
	return h
}

// Session is the live session; odd while there is none.
func (h *Hub) Session() uint64 { return h.session.Load() }

// Tick is this process's clock, at most a second old while a session is live.
func (h *Hub) Tick() mono.Time { return mono.Time(h.tick.Load()) }

// Why returns why the last connection ended; nil if none has.
func (h *Hub) Why() error {
	if why := h.why.Load(); why != nil {
		return *why
	}
	return nil
}

// Listens reports whether a channel is listened to, or will be with the next connection.
func (h *Hub) Listens(channel string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.channels[channel] != nil
}

// Channels returns how many channels are listened to.
func (h *Hub) Channels() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.channels)
}

// Running reports whether there is a connection, or one is being made.
func (h *Hub) Running() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running
}

// Add starts listening to a channel.
func (h *Hub) Add(channel string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.channels[channel] != nil {
		return
	}
	h.channels[channel] = &subscription{settled: make(chan struct{})}
	h.send(command{channel, true})
	if !h.running {
		h.running, h.stopped = true, make(chan struct{})
		go h.run(h.stopped)
	}
}

// Remove stops listening. Without any channel left the connection is closed.
func (h *Hub) Remove(channel string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.channels[channel] != nil {
		delete(h.channels, channel)
		h.send(command{channel, false})
	}
}

// send is called with mu held.
func (h *Hub) send(c command) {
	h.commands = append(h.commands, c)
	if c.add && h.awaited != nil { // from now on: the confirmation of one that was sent before is not its own
		h.awaited[c.channel]++
	}
	h.wake()
}

func (h *Hub) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// Confirm waits until Redis has confirmed the channel on the live connection and
// returns its session, or an error if there is no connection.
func (h *Hub) Confirm(ctx context.Context, channel string) (uint64, error) {
	for again := true; ; again = false {
		session, settled, early := h.awaiting(channel)
		if session != 0 || settled == nil {
			return session, h.orNone(session)
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		if session := h.SessionOf(channel); session != 0 || !early || !again {
			return session, h.orNone(session)
		}
	}
}

func (h *Hub) orNone(session uint64) error {
	if session != 0 {
		return nil
	}
	if why := h.Why(); why != nil {
		return fmt.Errorf("%w: %w", ErrSubscriber, why)
	}
	return ErrSubscriber
}

// awaiting is the session in which a channel is confirmed, or else what is closed when the
// connection that comes has confirmed it or failed; neither for a channel that nobody
// listens to. early: that connection was being made before now. If it fails that says
// nothing, since Redis may have come back meanwhile.
func (h *Hub) awaiting(channel string) (session uint64, settled chan struct{}, early bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.channels[channel]
	if s == nil {
		return 0, nil, false
	}
	live := h.session.Load()
	if s.session != 0 && s.session == live {
		return live, nil, false
	}
	if h.coming == 0 {
		h.wake() // down: try now, not after the pause
	}
	return 0, s.settled, h.coming != 0
}

// SessionOf is the live session in which the channel is confirmed, or 0.
func (h *Hub) SessionOf(channel string) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.channels[channel]; s != nil && s.session == h.session.Load() {
		return s.session
	}
	return 0
}

// Wait returns when the connection is closed, which it is once no channel is left.
func (h *Hub) Wait(ctx context.Context) error {
	h.mu.Lock()
	stopped := h.stopped
	h.mu.Unlock()
	if stopped == nil {
		return nil
	}
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *Hub) run(stopped chan struct{}) {
	defer close(stopped)
	var work sync.WaitGroup
	defer work.Wait()
	backoff := 50 * time.Millisecond
	for {
		start := mono.Now()
		beat, err := h.connection(&work)
		if err = beat.reason(err); err != nil {
			h.why.Store(&err)
		}
		h.endSession()
		h.noteSilence(beat.proven())
		h.deaf = beat.deaf()
		if h.idle() {
			return
		}
		h.sayLost(err)
		if mono.Now()-start > time.Minute {
			backoff = 50 * time.Millisecond
		}
		time.Sleep(minPause)
		pause := time.NewTimer(backoff/2 + rand.N(backoff/2))
		select {
		case <-pause.C:
		case <-h.kick: // somebody waits for an answer
			pause.Stop()
		}
		backoff = min(2*backoff, 2*time.Second)
	}
}

// sayEvery is how often the log says that there is still no session.
const sayEvery = 10 * time.Second

// sayLost logs that there is no session, and from time to time that there is still none.
func (h *Hub) sayLost(why error) {
	now := mono.Now()
	switch {
	case h.away == 0:
		h.away, h.saidAt = now, now
		h.cfg.Log.Warn().Err(why).Msg("the connection to Redis is lost: valid tokens are served, and nothing is refreshed until it is back")
	case now-h.saidAt >= sayEvery:
		h.saidAt = now
		h.cfg.Log.Error().Err(why).Dur("away_ms", now-h.away).Msg("there is still no connection to Redis")
	}
}

// sayBack logs that there is a session again.
func sayBack(h *Hub) {
	if h.away != 0 {
		h.cfg.Log.Info().Dur("away_ms", mono.Now()-h.away).Msg("the connection to Redis is back")
		h.away = 0
	}
}

// idle ends the hub if no channel is left. Together with Add it is atomic: a caller that
// adds afterwards starts a new run.
func (h *Hub) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.channels) > 0 {
		return false
	}
	h.running, h.commands, h.lost, h.away = false, nil, 0, 0
	return true
}

// noteSilence notes that nothing has been heard since a time for sure, 0 if it was not before either.
func (h *Hub) noteSilence(since mono.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost == 0 {
		h.lost = since
	}
}

// caughtUp notes that a session has made up for what was missed before, unless it has ended meanwhile.
func (h *Hub) caughtUp(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() == nil {
		h.lost = 0
	}
}

// endSession makes everything suspect and answers those who wait for a confirmation.
func (h *Hub) endSession() {
	h.mu.Lock()
	defer h.mu.Unlock()
	live := h.session.Load()%2 == 0
	if live {
		h.session.Add(1)
	}
	h.coming = 0
	for _, s := range h.channels {
		if s.session == 0 || !live {
			close(s.settled)
		}
		s.session, s.settled = 0, make(chan struct{})
	}
}

// connection opens one subscriber connection and serves it to its end.
func (h *Hub) connection(work *sync.WaitGroup) (*heartbeat, error) {
	ctx, cancel := context.WithCancel(context.Background())
	ps, beat := h.subscriber(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	defer ps.Close()

	h.prepare(ctx, work)
	all := h.begin(beat)
	if len(all) == 1 {
		return beat, nil
	}
	// A first SUBSCRIBE dials; it returns the error that a Receive would only log.
	for len(all) > 0 {
		n := min(len(all), chunk)
		if err := ps.Subscribe(ctx, all[:n]...); err != nil {
			return beat, err
		}
		all = all[n:]
	}
	helpers.Go(func() { h.write(ctx, ps) })
	helpers.Go(func() { h.watch(ctx, ps, beat) })
	work.Go(func() { h.beats(ctx, beat, work) })
	return beat, h.read(ctx, ps, beat, work)
}

// prepare calls ready, and waits for it before the first connection. Redis may not answer, and then
// this must not hold up the connection.
func (h *Hub) prepare(ctx context.Context, work *sync.WaitGroup) {
	done := make(chan struct{})
	work.Go(func() {
		defer close(done)
		h.cfg.Ready(ctx)
	})
	if h.prepared {
		return
	}
	h.prepared = true
	patience := time.NewTimer(readyFor)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	}
}

// begin prepares a session and returns the channels to subscribe to, the heartbeat's first.
func (h *Hub) begin(beat *heartbeat) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.coming = h.session.Load() + 1 // even: live
	h.commands = nil
	h.awaited = make(map[string]int)
	all := append(make([]string, 0, 1+len(h.channels)), beat.channel)
	for channel := range h.channels {
		all = append(all, channel)
	}
	for _, channel := range all {
		h.awaited[channel] = 1
	}
	return all
}

// believe begins the session: its first heartbeat has come back. It reports false if the connection
// has ended meanwhile.
func (h *Hub) believe() bool {
	h.mu.Lock()
	if h.coming == 0 {
		h.mu.Unlock()
		return false
	}
	h.tick.Store(int64(mono.Now()))
	h.session.Store(h.coming)
	var confirmed []string
	for channel, s := range h.channels {
		if s.session == h.coming {
			close(s.settled)
			confirmed = append(confirmed, channel)
		}
	}
	h.mu.Unlock()
	for _, channel := range confirmed {
		h.cfg.Deliver(channel, "") // callers that wait for news read again
	}
	return true
}

// read delivers until the connection ends.
func (h *Hub) read(ctx context.Context, ps *redis.PubSub, beat *heartbeat, work *sync.WaitGroup) error {
	for {
		got, err := ps.Receive(ctx)
		if err != nil {
			return err
		}
		switch m := got.(type) {
		case *redis.Message:
			switch {
			case m.Channel == beat.channel:
				if beat.heard(m.Payload) && h.believe() {
					sayBack(h)
					h.live(ctx, beat, work)
				}
				continue
			case m.Payload == "":
				m.Payload = "\n" // empty is our own sign for a new subscription
			}
			h.cfg.Deliver(m.Channel, m.Payload)
		case *redis.Subscription:
			if m.Kind != "subscribe" {
				continue
			}
			if !h.confirm(m.Channel) {
				return errReconnected
			}
			if m.Channel == beat.channel {
				beat.open()
			}
		}
	}
}

// live starts what goes on during a session.
func (h *Hub) live(ctx context.Context, beat *heartbeat, work *sync.WaitGroup) {
	h.current.Store(beat)
	h.mu.Lock()
	lost := h.lost
	h.mu.Unlock()
	work.Go(func() {
		if h.cfg.Begun(ctx, lost) {
			h.caughtUp(ctx)
		}
	})
	work.Go(func() { h.cfg.Along(ctx) })
	work.Go(func() { h.keepTicking(ctx) })
}

// Distrust ends the live session, if there is one.
func (h *Hub) Distrust(why error) {
	if beat := h.current.Load(); beat != nil {
		beat.end(why)
	}
}

// confirm notes that Redis has the subscription. It reports false for a confirmation
// that nobody waits for: the session has ended, or go-redis has reconnected by itself
// and messages may be lost.
//
// A channel that is dropped and wanted again is confirmed by its last SUBSCRIBE only:
//
//  1. SUBSCRIBE is sent, the channel is dropped and wanted again.
//  2. UNSUBSCRIBE, SUBSCRIBE are sent.
//  3. The first confirmation arrives. What is published between the two is lost.
func (h *Hub) confirm(channel string) bool {
	h.mu.Lock()
	if h.coming == 0 || h.awaited[channel] == 0 {
		h.mu.Unlock()
		return false
	}
	h.awaited[channel]--
	last := h.awaited[channel] == 0
	if last {
		delete(h.awaited, channel)
	}
	s := h.channels[channel]
	confirmed := last && s != nil && s.session == 0
	if confirmed {
		s.session = h.coming
		if confirmed = h.session.Load() == h.coming; confirmed { // else with the first heartbeat
			close(s.settled)
		}
	}
	h.mu.Unlock()
	if confirmed {
		h.cfg.Deliver(channel, "") // callers that wait for news read again
	}
	return true
}

// write sends subscriptions.
func (h *Hub) write(ctx context.Context, ps *redis.PubSub) {
	defer ps.Close() // ends read
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.kick:
			if !h.flush(ctx, ps) {
				return
			}
		}
	}
}

// watch ticks, and ends the session of a connection on which no heartbeat comes back: nothing else
// notices a peer that vanished without a word. It stands apart from write and read, since
// go-redis dials again inside both, for seconds, before it reports an error.
func (h *Hub) watch(ctx context.Context, ps *redis.PubSub, beat *heartbeat) {
	next := time.NewTimer(TickEvery)
	defer next.Stop()
	slept := mono.Asleep()
	why := errSilent
	for end := false; !end; {
		select {
		case <-ctx.Done():
			return
		case why = <-beat.over:
			end = true
		case <-next.C:
			mono.Wake()
			now := mono.Now()
			h.tick.Store(int64(now))
			left := beat.until() - now
			suspended := mono.Asleep()-slept > TickEvery // messages were missed, or the server has given up
			end = left <= 0 || suspended
			next.Reset(min(TickEvery, left))
		}
	}
	beat.because(why)
	h.endSession()
	_ = ps.Close()
}

// keepTicking stands apart from watch, since what it calls waits for Redis.
func (h *Hub) keepTicking(ctx context.Context) {
	tick := time.NewTicker(TickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-h.nudged:
		}
		h.cfg.Ticked(ctx)
	}
}

// Nudge has ticked called soon.
func (h *Hub) Nudge() {
	select {
	case h.nudged <- struct{}{}:
	default:
	}
}

// flush sends the collected commands, in order, many channels in one. It reports
// whether the connection is still good and wanted.
func (h *Hub) flush(ctx context.Context, ps *redis.PubSub) bool {
	h.mu.Lock()
	commands := h.commands
	h.commands = nil
	idle := len(h.channels) == 0
	h.mu.Unlock()
	if idle {
		return false
	}
	for len(commands) > 0 {
		n := 1
		for n < len(commands) && n < chunk && commands[n].add == commands[0].add {
			n++
		}
		batch := make([]string, n)
		for i, c := range commands[:n] {
			batch[i] = c.channel
		}
		send := ps.Unsubscribe
		if commands[0].add {
			send = ps.Subscribe
		}
		if send(ctx, batch...) != nil {
			return false
		}
		commands = commands[n:]
	}
	return true
}
