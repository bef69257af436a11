package hub

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

const (
	BeatEvery = 2 * time.Second
	// SilentFor is how old what memory holds can be: no heartbeat that was sent in this time has
	// come back.
	SilentFor = 6 * time.Second
	// firstBeat is how long a new connection has to prove itself.
	firstBeat = 3 * time.Second
	// Overtaken is how long a heartbeat may still be on its way after the answer to it.
	Overtaken = 500 * time.Millisecond
	// MaxBeats are at work at once: Redis may not answer.
	MaxBeats = 8
)

var (
	errSilent    = errors.New("no heartbeat of this process has come back: Redis does not answer, or the server that it listens to is not the one that it writes to, or is parted from it")
	ErrElsewhere = errors.New("the server that this process writes to is not the one that it listens to")
)

// heartbeat is that of one session.
type heartbeat struct {
	channel string
	node    string        // of a Cluster, to which the session listens; "" elsewhere
	ready   chan struct{} // closed when Redis has confirmed the channel
	over    chan error    // has room for one: why the session must end

	mu     sync.Mutex // guards what follows
	opened bool       // ready is closed
	sent   map[string]mono.Time
	began  mono.Time // when it was made
	last   mono.Time // when the newest that came back was sent; 0 for none
	failed error     // of the last one that Redis has answered
	ended  error     // why the session ended
}

func newHeartbeat(channel, node string) *heartbeat {
	return &heartbeat{
		channel: channel, node: node, ready: make(chan struct{}), over: make(chan error, 1),
		sent: make(map[string]mono.Time), began: mono.Now(),
	}
}

// open notes that Redis has confirmed the channel.
func (b *heartbeat) open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.opened {
		b.opened, b.began = true, mono.Now()
		close(b.ready)
	}
}

// next returns what is to be published now.
func (b *heartbeat) next() (nonce string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	nonce = rand.Text()
	b.sent[nonce] = mono.Now()
	return nonce
}

// heard takes a message from the channel, and reports whether it is the first of this process's own.
func (b *heartbeat) heard(nonce string) (first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, own := b.sent[nonce]
	if !own {
		return false // any user who may publish may send anything
	}
	first = b.last == 0
	b.last = max(b.last, at)
	for other, sent := range b.sent {
		if sent <= at {
			delete(b.sent, other)
		}
	}
	return first
}

// lacks reports whether what was published has not come back, nor anything that was published after.
func (b *heartbeat) lacks(nonce string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, out := b.sent[nonce]
	return out
}

// proven returns when the newest heartbeat that came back was sent; 0 if none has.
func (b *heartbeat) proven() mono.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// until returns when the session is believed no more, unless another heartbeat comes back.
func (b *heartbeat) until() mono.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == 0 {
		return b.began + firstBeat
	}
	return b.last + SilentFor
}

func (b *heartbeat) noteAnswer(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = err
}

// end has the session ended soon.
func (b *heartbeat) end(why error) {
	select {
	case b.over <- why:
	default:
	}
}

// because notes why the session has ended.
func (b *heartbeat) because(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil && errors.Is(why, errSilent) {
		why = errors.Join(why, b.failed)
	}
	b.ended = why
}

// reason returns why the session ended, if this process ended it, else what the connection said.
func (b *heartbeat) reason(said error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return b.ended
	}
	return said
}

// deaf is the node that does not hear what others took; "" for none.
func (b *heartbeat) deaf() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil || b.failed != nil {
		return ""
	}
	return b.node
}

// beats publishes heartbeats until ctx ends.
func (h *Hub) beats(ctx context.Context, b *heartbeat, work *sync.WaitGroup) {
	select {
	case <-b.ready:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(BeatEvery)
	defer tick.Stop()
	for {
		if h.beating.Add(1) <= MaxBeats {
			work.Go(func() { // one that Redis does not answer must not hold up the next
				defer h.beating.Add(-1)
				h.beat(ctx, b)
			})
		} else {
			h.beating.Add(-1)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// beat publishes one heartbeat. Where it can tell that the session listens to another server it ends
// that at once.
func (h *Hub) beat(ctx context.Context, b *heartbeat) {
	nonce := b.next()
	bounded, cancel := context.WithTimeout(ctx, SilentFor)
	listeners, err := h.cfg.Publish(bounded, b.channel, nonce)
	cancel()
	b.noteAnswer(err)
	if err != nil {
		h.cfg.Unanswered(err)
		if b.proven() == 0 {
			b.end(errSilent) // the next connection may have a better way
		}
		return
	}
	if listeners == 0 && mono.Sleep(ctx, Overtaken) == nil && b.lacks(nonce) {
		b.end(ErrElsewhere)
	}
}

// subscriber is a PubSub without a connection yet, and the heartbeat of its session.
//
// On a Cluster any node hears everything, but go-redis would dial the one that has the first
// channel's slot, which may be the one that is away. The heartbeat is sent to another node than the
// one that listens, or it would prove nothing about what lies between them.
func (h *Hub) subscriber(ctx context.Context) (*redis.PubSub, *heartbeat) {
	channel := h.cfg.Heartbeats + rand.Text()
	cluster, ok := h.cfg.Redis.(*redis.ClusterClient)
	if !ok {
		return h.cfg.Redis.Subscribe(ctx), newHeartbeat(channel, "")
	}
	nodes := h.listenTo(ctx, h.cfg.Masters(ctx))
	if len(nodes) == 0 {
		return h.cfg.Redis.Subscribe(ctx), newHeartbeat(channel, "")
	}
	way := nodes[len(nodes)-1].Options().Addr // the same node where no other answers
	for range 256 {
		if owner, err := cluster.MasterForKey(ctx, channel); err != nil || owner.Options().Addr == way {
			break
		}
		channel = h.cfg.Heartbeats + rand.Text()
	}
	return nodes[0].Subscribe(ctx), newHeartbeat(channel, nodes[0].Options().Addr)
}

// listenTo picks two nodes that answer, or one: to listen to, and to send heartbeats to. It listens to
// any other rather than the one that was deaf in the session before.
func (h *Hub) listenTo(ctx context.Context, nodes []*redis.Client) (two []*redis.Client) {
	mathrand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	slices.SortStableFunc(nodes, func(a, b *redis.Client) int {
		return boolInt(a.Options().Addr == h.deaf) - boolInt(b.Options().Addr == h.deaf)
	})
	for _, node := range nodes {
		if answers(ctx, node) {
			two = append(two, node)
		}
		if len(two) == 2 {
			break
		}
	}
	return two
}

// answers reports whether a node answers within a second. Its client may have far more patience.
func answers(ctx context.Context, node *redis.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	said := make(chan error, 1)
	go func() { said <- node.Ping(ctx).Err() }() // it ends with go-redis' patience, or with the client
	select {
	case err := <-said:
		return err == nil
	case <-ctx.Done():
		return false
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
