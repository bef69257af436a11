package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha1" // a keyed digest that Lua can make, too: nothing rests on collisions
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Pub/sub knows neither the rights to keys nor database numbers: any Redis user with PUBLISH, and
// any program in another database of the same server, can send a message to any channel. So each
// message proves that its sender may read this prefix of this database:
//
//	tl2 <digest>
//	<body>
//
// digest is SHA-1 over a key, channel and body (twice, as in HMAC, so that nothing can be appended).
// The key lies beside the grants in `tl:proof`. Whoever may read grants can read it; no message
// shows it. Scripts get it as their last argument, since it lies in another Cluster slot.
//
// A process that may listen can repeat what it has heard. So each message also says when it was
// made, and is believed for ten seconds: what comes later counts as not proven.
//
// A message that is not proven is a hint at most: once a second the grants that such messages were
// about are read again. So a fleet whose processes have two keys for a moment, because Redis has
// lost its data in between, or whose versions differ, loses no news, and a flood of forgeries
// costs one read a second.
type proof struct {
	key atomic.Pointer[string]

	fetching sync.Mutex // held by the one that asks Redis; guards what follows
	asked    mono.Time  // when Redis was last asked for the key
	counted  mono.Time  // when its keys were last counted
	keys     int64      // how many there were then
	was      string     // the key of a database that is gone, until all of it that is known is given back

	unproven atomic.Int64 // messages

	mu      sync.Mutex        // guards what follows
	hints   map[string]string // channel → its last message that was not proven
	weighed mono.Time         // when hints were last looked at
	logged  mono.Time
	since   int64 // messages since the last log line
}

const (
	frame = "tl2 "
	// proofTimeout bounds one look for the key. Without it a process still works, by reading.
	proofTimeout = time.Second
	// minProof is the length of the shortest key that proves anything, as in proof.lua.
	minProof = 16
)

// proofOf returns the key, from memory if this process has had it; "" if Redis does not tell.
func (c *Cache) proofOf(ctx context.Context) string {
	if key := c.proof.key.Load(); key != nil {
		return *key
	}
	c.proof.fetching.Lock()
	defer c.proof.fetching.Unlock()
	if key := c.proof.key.Load(); key != nil {
		return *key
	}
	if c.proof.asked != 0 && mono.Now()-c.proof.asked < 2*proofTimeout {
		return "" // its node is away: not every change must wait for it
	}
	key, _, _ := c.fetchProof(ctx)
	return key
}

// keyFate is what has become of the key that this process knows.
type keyFate uint8

const (
	keyKept    keyFate = iota // it is there; or this process knew none
	keyGone                   // it is gone
	keyChanged                // there is another one
)

// fetchProof asks Redis for the key, and makes one if there is none. A process that has had one
// goes on with that, as others do; it is put back by [Cache.rescue]. Called with fetching held.
func (c *Cache) fetchProof(ctx context.Context) (key string, fate keyFate, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proofTimeout)
	defer cancel()
	c.proof.asked = mono.Now()
	mine, known := rand.Text(), c.proof.key.Load() != nil
	if known {
		mine = *c.proof.key.Load()
	}
	key, err = c.rdb.Get(ctx, c.names.Proof()).Result()
	_ = c.learnTime(ctx)
	if errors.Is(err, redis.Nil) && known {
		return mine, keyGone, nil
	}
	if errors.Is(err, redis.Nil) {
		if err = c.rdb.SetNX(ctx, c.names.Proof(), mine, 0).Err(); err == nil {
			key, err = c.rdb.Get(ctx, c.names.Proof()).Result()
		}
	}
	if redis.HasErrorPrefix(err, "WRONGTYPE") || err == nil && len(key) < minProof {
		key, err = store.ProofScript.Run(ctx, c.rdb, []string{c.names.Proof()}, mine).Text()
	}
	switch {
	case err != nil && known:
		return mine, keyKept, err
	case err != nil:
		return "", keyKept, err
	}
	c.proof.key.Store(&key)
	switch {
	case !known:
		return key, keyKept, nil
	case key != mine:
		return key, keyChanged, nil
	}
	return key, keyKept, nil
}

// learnTime asks Redis what time it is: that tells how old a message is.
func (c *Cache) learnTime(ctx context.Context) error {
	mono.Wake()
	sent, clock := mono.Now(), redis.NewStringSliceCmd(ctx, "time")
	if err := c.rdb.Process(ctx, clock); err != nil {
		return err
	}
	now, err := store.Millis(clock.Val())
	if err == nil {
		c.clock.observe(sent, mono.Now(), now)
	}
	return err
}

// digest is what the function publish (publish.lua) computes, too.
func digest(key, channel, body string) string {
	h := sha1.New()
	for _, part := range []string{key, channel, "\n", body} {
		_, _ = io.WriteString(h, part)
	}
	inner := hex.EncodeToString(h.Sum(nil))
	h.Reset()
	_, _ = io.WriteString(h, key)
	_, _ = io.WriteString(h, inner)
	return hex.EncodeToString(h.Sum(nil))
}

// sign is a message as it is published.
func (c *Cache) sign(ctx context.Context, channel, body string) string {
	return frame + digest(c.proofOf(ctx), channel, body) + "\n" + body
}

// proven returns a message's body if its sender has proven that it may read the grants.
func (c *Cache) proven(channel, payload string) (body string, ok bool) {
	head, body, _ := strings.Cut(payload, "\n")
	sum, framed := strings.CutPrefix(head, frame)
	key := c.proof.key.Load()
	if !framed || key == nil {
		return "", false
	}
	return body, subtle.ConstantTimeCompare([]byte(sum), []byte(digest(*key, channel, body))) == 1
}

// believedWithin is how old a message may be: far longer than it takes, far shorter than what a
// recorded one could do harm with.
const believedWithin = 10 * time.Second

// stale reports whether a message was made long ago, or does not say when.
func (c *Cache) stale(channel, body string) bool {
	head, rest, _ := strings.Cut(body, "\n")
	if strings.HasPrefix(channel, c.names.Changes()) {
		head, _, _ = strings.Cut(rest, "\n")
	}
	_, when, _ := strings.Cut(head, " ")
	made, err := grant.ParseNumber(when, grant.MaxCounter)
	now, known := c.clock.estimate(mono.Now())
	return err != nil || !known || made < now-believedWithin.Milliseconds()
}

// maxKept bounds an unproven message that is kept until the key has been looked up again.
const maxKept = 4 << 10

// doubt notes a message that proves nothing. It keeps no more than one for each channel that this
// process listens to.
func (p *proof) doubt(channel, payload string) {
	p.unproven.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hints == nil {
		p.hints = make(map[string]string)
	}
	if len(payload) > maxKept {
		payload = ""
	}
	p.hints[channel] = strings.Clone(payload)
	p.since++
}

// UnprovenMessages counts the messages on this process's channels whose sender has not proven that
// it may read the grants. They are not believed.
func (c *Cache) UnprovenMessages() int64 { return c.proof.unproven.Load() }

// weigh looks again, at most once a second, at what unproven messages were about. It is called
// every second, and when the first such message has come.
func (c *Cache) weigh(ctx context.Context) {
	hints := c.proof.take()
	if len(hints) > 0 {
		c.sayUnproven(len(hints))
	}
	if len(hints) == 0 && !c.proof.late() {
		return
	}
	var lost bool
	var err error
	if !c.calm(ctx, 8) || len(hints) > 0 {
		lost, err = c.identify(ctx)
	}
	switch {
	case err == nil && lost:
		err = c.rescue(ctx)
	case err == nil:
		err = c.giveRests(ctx)
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn().Err(err).Msg("Redis has lost its data, or may have: looking again in a few seconds")
	}
	for channel, payload := range hints {
		c.suspect(channel)
		// The key may have been made anew by a process that asks for what this one remembers.
		if body, ok := c.proven(channel, payload); ok && !c.stale(channel, body) {
			c.believe(channel, body)
		}
	}
}

// late reports whether it is time to look around again.
func (p *proof) late() bool {
	p.fetching.Lock()
	defer p.fetching.Unlock()
	return mono.Now()-max(p.asked, p.counted) >= lookEvery
}

// take returns what is to be looked at again; nothing within a second of the last time.
func (p *proof) take() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := mono.Now()
	if len(p.hints) == 0 || p.weighed != 0 && now-p.weighed < hub.TickEvery-hub.TickEvery/10 {
		return nil
	}
	hints := p.hints
	p.hints, p.weighed = nil, now
	return hints
}

// sayUnproven logs a line a minute at most.
func (c *Cache) sayUnproven(channels int) {
	p := &c.proof
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.logged != 0 && mono.Now()-p.logged < time.Minute {
		return
	}
	c.log.Warn().Int64("messages", p.since).Int("channels", channels).
		Msg("messages that prove no right to read this database's grants are not believed: another program publishes to the channels of this prefix (from another database of this server, or with a Redis user that has PUBLISH), or repeats old messages, or Redis has lost its data")
	p.logged, p.since = mono.Now(), 0
}

// suspect makes what memory holds of a channel's grant or app incoherent, until it is read again.
func (c *Cache) suspect(channel string) {
	if name, ok := c.names.IsApp(channel); ok {
		if a, ok := c.apps.Load(grant.Unescape(name)); ok {
			a.suspect()
		}
		return
	}
	if k, ok := c.names.GrantOf(channel); ok {
		if e, ok := c.hot.load(k); ok {
			e.suspect()
		}
	}
}

// suspectAll is suspect for everything: messages were missed.
func (c *Cache) suspectAll() {
	for e := range c.hot.all() {
		e.suspect()
	}
	for _, a := range c.apps.All() {
		a.suspect()
	}
}
