package tokencache

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

const (
	pingEvery = 2 * time.Second
	// tickEvery is how often the clock is read for all readers of memory.
	tickEvery = time.Second
	// silentFor is how long a subscriber connection may say nothing, not even
	// PONG, before it counts as half-open.
	silentFor = 6 * time.Second
	// minPause is between two dials, however many callers ask for one.
	minPause = 20 * time.Millisecond
	// chunk bounds the channels of one SUBSCRIBE.
	chunk = 1000
)

var (
	errSubscriber  = errors.New("tokencache: no subscriber connection to Redis")
	errReconnected = errors.New("the connection was replaced")
)

// hub is the process's one subscriber connection. It lives while there is a
// channel to listen to.
//
// A session is one connection. Whatever was pushed or read in a session is
// coherent until the session ends; then everything is suspect until read again.
type hub struct {
	// Every reader of memory reads these two, so they have a cache line of their own.
	session atomic.Uint64 // of the live connection; odd while there is none
	tick    atomic.Int64  // mono, at most a second old while a connection is live
	_       [48]byte

	rdb     redis.UniversalClient
	log     zerolog.Logger
	deliver func(channel, payload string) // must not block: the connection would stall
	// begun is called for each session, and runs until ctx ends with that at the latest. lost is
	// when the session before ended; 0 for the first.
	begun func(ctx context.Context, lost mono)
	// ready is called before the first SUBSCRIBE of a session, and ticked once a second in it.
	ready, ticked func(ctx context.Context)
	nudged        chan struct{} // has room for one: ticked is wanted now

	mu       sync.Mutex // guards what follows
	channels map[string]*subscription
	commands []command      // not yet sent
	awaited  map[string]int // confirmations that this connection still owes
	kick     chan struct{}
	running  bool
	stopped  chan struct{} // closed when run has ended
}

// subscription is one channel's state.
type subscription struct {
	session uint64        // in which Redis confirmed it; 0 none
	settled chan struct{} // closed when it is confirmed or the connection failed
}

type command struct {
	channel string
	add     bool
}

func newHub(rdb redis.UniversalClient, log zerolog.Logger, deliver func(channel, payload string), begun func(ctx context.Context, lost mono)) *hub {
	nothing := func(context.Context) {}
	h := &hub{
		rdb: rdb, log: log, deliver: deliver, begun: begun, ready: nothing, ticked: nothing, nudged: make(chan struct{}, 1),
		channels: make(map[string]*subscription), kick: make(chan struct{}, 1),
	}
	h.session.Store(1)
	return h
}

// add starts listening to a channel.
func (h *hub) add(channel string) {
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

// remove stops listening. Without any channel left the connection is closed.
func (h *hub) remove(channel string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.channels[channel] != nil {
		delete(h.channels, channel)
		h.send(command{channel, false})
	}
}

// send is called with mu held.
func (h *hub) send(c command) {
	h.commands = append(h.commands, c)
	h.wake()
}

func (h *hub) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// confirmed waits until Redis has confirmed the channel on the live connection and
// returns its session, or an error if there is no connection.
func (h *hub) confirmed(ctx context.Context, channel string) (uint64, error) {
	for again := true; ; again = false {
		session, settled, early := h.awaiting(channel)
		if session != 0 || settled == nil {
			return session, orNone(session)
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		if session := h.sessionOf(channel); session != 0 || !early || !again {
			return session, orNone(session)
		}
	}
}

func orNone(session uint64) error {
	if session == 0 {
		return errSubscriber
	}
	return nil
}

// awaiting is the session in which a channel is confirmed, or else what is closed when the
// connection that comes has confirmed it or failed; neither for a channel that nobody
// listens to. early: that connection was being made before now. If it fails that says
// nothing, since Redis may have come back meanwhile.
func (h *hub) awaiting(channel string) (session uint64, settled chan struct{}, early bool) {
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
	if live%2 == 1 {
		h.wake() // down: try now, not after the pause
	}
	return 0, s.settled, live%2 == 0
}

// sessionOf is the live session in which the channel is confirmed, or 0.
func (h *hub) sessionOf(channel string) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.channels[channel]; s != nil && s.session == h.session.Load() {
		return s.session
	}
	return 0
}

// wait returns when the connection is closed, which it is once no channel is left.
func (h *hub) wait(ctx context.Context) error {
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

func (h *hub) run(stopped chan struct{}) {
	defer close(stopped)
	var work sync.WaitGroup
	defer work.Wait()
	lost := mono(0)
	backoff := 50 * time.Millisecond
	for {
		start := monotonic()
		up, err := h.connection(&work, lost)
		h.ended()
		if up {
			lost = monotonic()
		}
		if h.idle() {
			return
		}
		h.log.Warn().Err(err).Msg("subscriber connection lost: reading Redis until it is back")
		if monotonic()-start > time.Minute {
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

// idle ends the hub if no channel is left. Together with add it is atomic: whoever
// adds afterwards starts a new run.
func (h *hub) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.channels) > 0 {
		return false
	}
	h.running, h.commands = false, nil
	return true
}

// ended makes everything suspect and answers those who wait for a confirmation.
func (h *hub) ended() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.session.Load()%2 == 0 {
		h.session.Add(1)
	}
	for _, s := range h.channels {
		if s.session == 0 {
			close(s.settled)
		}
		s.session, s.settled = 0, make(chan struct{})
	}
}

// connection opens one subscriber connection and serves it to its end. up reports whether it
// came to stand.
func (h *hub) connection(work *sync.WaitGroup, lost mono) (up bool, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	ps := h.subscriber(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	defer ps.Close()

	h.ready(ctx)
	all := h.begin()
	if len(all) == 0 {
		return false, nil
	}
	// A first SUBSCRIBE dials; it returns the error that a Receive would only log.
	for len(all) > 0 {
		n := min(len(all), chunk)
		if err := ps.Subscribe(ctx, all[:n]...); err != nil {
			return false, err
		}
		all = all[n:]
	}
	var heard atomic.Int64
	heard.Store(int64(monotonic()))
	h.tick.Store(heard.Load())
	work.Go(func() { h.begun(ctx, lost) })
	helpers.Go(func() { h.write(ctx, ps) })
	helpers.Go(func() { h.watch(ctx, ps, &heard) })
	helpers.Go(func() { h.keepTicking(ctx) })
	return true, h.read(ctx, ps, &heard)
}

// subscriber is a PubSub without a connection yet. On a Cluster any node hears everything, but
// go-redis would dial the one that has the first channel's slot, which may be the one that is away.
func (h *hub) subscriber(ctx context.Context) *redis.PubSub {
	cluster, ok := h.rdb.(*redis.ClusterClient)
	if !ok {
		return h.rdb.Subscribe(ctx)
	}
	var mu sync.Mutex // ForEachMaster calls at the same time
	var nodes []*redis.Client
	_ = cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node)
		return nil
	})
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	for _, node := range nodes {
		asked, cancel := context.WithTimeout(ctx, time.Second)
		err := node.Ping(asked).Err()
		cancel()
		if err == nil {
			return node.Subscribe(ctx)
		}
	}
	return h.rdb.Subscribe(ctx)
}

// begin opens a session and returns the channels to subscribe to.
func (h *hub) begin() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.session.Add(1) // even: live
	h.commands = nil
	h.awaited = make(map[string]int)
	all := make([]string, 0, len(h.channels))
	for channel := range h.channels {
		all = append(all, channel)
		h.awaited[channel] = 1
	}
	return all
}

// read delivers until the connection ends.
func (h *hub) read(ctx context.Context, ps *redis.PubSub, heard *atomic.Int64) error {
	for {
		got, err := ps.Receive(ctx)
		if err != nil {
			return err
		}
		heard.Store(int64(monotonic()))
		switch m := got.(type) {
		case *redis.Message:
			if m.Payload == "" {
				m.Payload = "\n" // empty is our own sign for a new subscription
			}
			h.deliver(m.Channel, m.Payload)
		case *redis.Subscription:
			if m.Kind == "subscribe" && !h.confirm(m.Channel) {
				return errReconnected
			}
		}
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
func (h *hub) confirm(channel string) bool {
	h.mu.Lock()
	session := h.session.Load()
	if session%2 == 1 || h.awaited[channel] == 0 {
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
		s.session = session
		close(s.settled)
	}
	h.mu.Unlock()
	if confirmed {
		h.deliver(channel, "") // whoever waits for news reads again
	}
	return true
}

// write sends subscriptions and pings.
func (h *hub) write(ctx context.Context, ps *redis.PubSub) {
	defer ps.Close() // ends read
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.kick:
			if !h.flush(ctx, ps) {
				return
			}
		case <-ping.C:
			if ps.Ping(ctx) != nil {
				return
			}
		}
	}
}

// watch ticks, and ends the session of a connection that has gone silent: nothing else
// notices a peer that vanished without a word. It stands apart from write and read, since
// go-redis dials again inside both, for seconds, before it reports an error.
func (h *hub) watch(ctx context.Context, ps *redis.PubSub, heard *atomic.Int64) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	slept := mono(asleep.Load())
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			wake()
			now := monotonic()
			h.tick.Store(int64(now))
			suspended := mono(asleep.Load())-slept > tickEvery // messages were missed, or the server has given up
			if suspended || now-mono(heard.Load()) > silentFor {
				h.ended()
				_ = ps.Close()
				return
			}
		}
	}
}

// keepTicking stands apart from watch, since what it calls waits for Redis.
func (h *hub) keepTicking(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-h.nudged:
		}
		h.ticked(ctx)
	}
}

// nudge has ticked called soon.
func (h *hub) nudge() {
	select {
	case h.nudged <- struct{}{}:
	default:
	}
}

// flush sends the collected commands, in order, many channels in one. It reports
// whether the connection is still good and wanted.
func (h *hub) flush(ctx context.Context, ps *redis.PubSub) bool {
	h.mu.Lock()
	commands := h.commands
	h.commands = nil
	for _, c := range commands {
		if c.add {
			h.awaited[c.channel]++
		}
	}
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
