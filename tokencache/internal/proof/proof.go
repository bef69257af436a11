// Package proof tells who speaks: messages on a channel are believed if their sender proves that it can
// read the grants of this database. The key for it tells a database that has lost its data, too.
package proof

import (
	"context"
	"crypto/rand"
	"crypto/sha1" // a keyed digest that Lua can make, too: nothing rests on collisions
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Proof is the key of a database, and what this process makes of messages that do or do not prove it.
//
// Pub/sub knows neither the rights to keys nor database numbers: any Redis user with PUBLISH, and
// any program in another database of the same server, can send a message to any channel. So each
// message proves that its sender may read this prefix of this database:
//
//	tl2 <digest>
//	<body>
//
// digest is SHA-1 over a key, channel and body (twice, as in HMAC, so that nothing can be appended).
// The key lies beside the grants in `tl:proof`. Every user who may read grants can read it; no message
// shows it. Scripts get it as their last argument, since it lies in another Cluster slot. After a dot
// stands how often it was put back: a process that looks only then sees that there was a loss.
//
// A process that may listen can repeat what it has heard. So each message also says when it was
// made, and is believed for ten seconds: what comes later counts as not proven.
//
// A message that is not proven is a hint at most: once a second the grants that such messages were
// about are read again. So a fleet whose processes have two keys for a moment, because Redis has
// lost its data in between, or whose versions differ, loses no news, and a flood of forgeries
// costs one read a second.
type Proof struct {
	db    *store.Store
	names store.Names
	clock *clock.Clock
	log   zerolog.Logger

	key     atomic.Pointer[string] // as it stands in Redis: with the count
	learned atomic.Int64           // when Redis was last asked what time it is, as a mono.Time; 0 for never

	fetching sync.Mutex // held by the one that asks Redis; guards what follows
	asked    mono.Time  // when Redis was last asked for the key
	was      string     // the key of a database that is gone, until all of it that is known is given back

	unproven atomic.Int64 // messages

	mu      sync.Mutex        // guards what follows
	hints   map[string]string // channel → its last message that was not proven
	weighed mono.Time         // when hints were last looked at
	logged  mono.Time
	since   int64 // messages since the last log line
}

// New returns a Proof that does not know the key yet.
func New(db *store.Store, clock *clock.Clock, log zerolog.Logger) *Proof {
	return &Proof{db: db, names: db.Names, clock: clock, log: log}
}

const (
	frame = "tl2 "
	// LookEvery is how often a process looks whether this is still the database that it knows.
	LookEvery = 3 * time.Second
	// learnEvery is how often Redis is asked what time it is, besides the times that its scripts tell.
	learnEvery = 10 * time.Minute
	// tick is how often hints are looked at.
	tick = time.Second
	// Timeout bounds one look for the key. Without it a process still works, by reading.
	Timeout = time.Second
	// MinProof is the length of the shortest key that proves anything, as in proof.lua.
	MinProof = 16
)

// Key returns the key, from memory if this process has had it; "" if Redis does not tell.
func (p *Proof) Key(ctx context.Context) string {
	if key := p.key.Load(); key != nil {
		return secretOf(*key)
	}
	p.fetching.Lock()
	defer p.fetching.Unlock()
	if key := p.key.Load(); key != nil {
		return secretOf(*key)
	}
	if p.asked != 0 && mono.Now()-p.asked < 2*Timeout {
		return "" // its node is away: not every change must wait for it
	}
	key, _, _ := p.fetchProof(ctx)
	return secretOf(key)
}

// secretOf is a key without the count of its losses.
func secretOf(key string) string {
	secret, _, _ := strings.Cut(key, ".")
	return secret
}

// losses returns how often a key was put back.
func losses(key string) int {
	_, count, _ := strings.Cut(key, ".")
	n, _ := strconv.Atoi(count)
	return n
}

// afterLoss is the key as it is put back, the same from every process that knew this one: messages are
// still proven by the same secret.
func afterLoss(key string) string {
	return fmt.Sprintf("%s.%d", secretOf(key), losses(key)+1)
}

// Earlier reports whether a database with the key now is an earlier one of that with the key was: a backup
// was restored.
func Earlier(now, was string) bool {
	return secretOf(now) == secretOf(was) && losses(now) < losses(was)
}

// keyFate is what has become of the key that this process knows.
type keyFate uint8

const (
	keyKept    keyFate = iota // it is there; or this process knew none
	keyGone                   // it is gone
	keyChanged                // there is another one
)

// fetchProof asks Redis for the key, and makes one if there is none. A process that has had one
// goes on with its secret, as others do; it is put back by rescue (restore.go in inbox). Called with fetching
// held.
func (p *Proof) fetchProof(ctx context.Context) (key string, fate keyFate, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	p.asked = mono.Now()
	mine, known := rand.Text(), p.key.Load() != nil
	if known {
		mine = *p.key.Load()
	}
	key, err = p.db.Redis.Get(ctx, p.names.Proof()).Result()
	if learned := p.learned.Load(); (learned == 0 || p.asked-mono.Time(learned) >= learnEvery) && p.LearnTime(ctx) == nil {
		p.learned.Store(int64(p.asked))
	}
	if errors.Is(err, redis.Nil) && known {
		return mine, keyGone, nil
	}
	if errors.Is(err, redis.Nil) {
		if err = p.db.Redis.SetNX(ctx, p.names.Proof(), mine, 0).Err(); err == nil {
			key, err = p.db.Redis.Get(ctx, p.names.Proof()).Result()
		}
	}
	if redis.HasErrorPrefix(err, "WRONGTYPE") || err == nil && len(key) < MinProof {
		key, err = store.ProofScript.Run(ctx, p.db.Redis, []string{p.names.Proof()}, mine).Text()
	}
	switch {
	case err != nil && known:
		return mine, keyKept, err
	case err != nil:
		return "", keyKept, err
	}
	p.key.Store(&key)
	switch {
	case !known:
		return key, keyKept, nil
	case key != mine:
		return key, keyChanged, nil
	}
	return key, keyKept, nil
}

// Known reports whether this process has known a key of this database.
func (p *Proof) Known() bool { return p.key.Load() != nil }

// Identify compares the key in Redis with the one that this process knows. lost says that Redis has lost
// the data that this process came to know it with, noticed that this is news.
func (p *Proof) Identify(ctx context.Context) (lost, noticed bool, err error) {
	p.fetching.Lock()
	defer p.fetching.Unlock()
	before := p.key.Load()
	_, fate, err := p.fetchProof(ctx)
	if noticed = before != nil && fate != keyKept && (p.was == "" || fate == keyChanged); noticed && p.was == "" {
		p.was = *before
		if fate == keyGone {
			next := afterLoss(*before)
			p.key.Store(&next)
		}
	}
	return p.was != "", noticed, err
}

// Gone are the key of a database that is gone, and the one that this process has now; "" for none.
func (p *Proof) Gone() (was, now string) {
	p.fetching.Lock()
	defer p.fetching.Unlock()
	if key := p.key.Load(); p.was != "" && key != nil {
		return p.was, *key
	}
	return "", ""
}

// PutBack puts the key back, if it is still gone: all that this process remembered of the database that
// had the key `was` is given back.
func (p *Proof) PutBack(ctx context.Context, was, now string) error {
	if err := p.db.Redis.SetNX(ctx, p.names.Proof(), now, 0).Err(); err != nil {
		return fmt.Errorf("tokencache: put back %s: %w", p.names.Proof(), err)
	}
	p.fetching.Lock()
	defer p.fetching.Unlock()
	if p.was == was {
		p.was = ""
	}
	return nil
}

// DoubtTime has Redis asked what time it is when the key is asked for next: this may be another server, or its
// clock was set.
func (p *Proof) DoubtTime() { p.learned.Store(0) }

// LearnTime asks Redis what time it is: that tells how old a message is.
func (p *Proof) LearnTime(ctx context.Context) error {
	mono.Wake()
	sent, clock := mono.Now(), redis.NewStringSliceCmd(ctx, "time")
	if err := p.db.Redis.Process(ctx, clock); err != nil {
		return err
	}
	now, err := store.Millis(clock.Val())
	if err == nil {
		p.clock.Observe(sent, mono.Now(), now)
	}
	return err
}

// digest returns what the function publish (publish.lua) computes, too.
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

// Sign is a message as it is published.
func (p *Proof) Sign(ctx context.Context, channel, body string) string {
	return frame + digest(p.Key(ctx), channel, body) + "\n" + body
}

// Proven returns a message's body if its sender has proven that it may read the grants.
func (p *Proof) Proven(channel, payload string) (body string, ok bool) {
	head, body, _ := strings.Cut(payload, "\n")
	sum, framed := strings.CutPrefix(head, frame)
	key := p.key.Load()
	if !framed || key == nil {
		return "", false
	}
	return body, subtle.ConstantTimeCompare([]byte(sum), []byte(digest(secretOf(*key), channel, body))) == 1
}

// Stale reports whether a message was made long ago, or does not say when.
func (p *Proof) Stale(channel, body string) bool {
	head, rest, _ := strings.Cut(body, "\n")
	if strings.HasPrefix(channel, p.names.Changes()) {
		head, _, _ = strings.Cut(rest, "\n")
	}
	_, when, _ := strings.Cut(head, " ")
	made, err := grant.ParseNumber(when, grant.MaxCounter)
	now, known := p.clock.Estimate(mono.Now())
	return err != nil || !known || made < now-clock.BelievedWithin.Milliseconds()
}

// maxKept bounds an unproven message that is kept until the key has been looked up again.
const maxKept = 4 << 10

// Doubt notes a message that proves nothing. It keeps no more than one for each channel that this
// process listens to.
func (p *Proof) Doubt(channel, payload string) {
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

// Late reports whether it is time to look around again.
func (p *Proof) Late() bool {
	p.fetching.Lock()
	defer p.fetching.Unlock()
	return mono.Now()-p.asked >= LookEvery
}

// Take returns what must be looked at again; nothing within a second of the last time.
func (p *Proof) Take() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := mono.Now()
	if len(p.hints) == 0 || p.weighed != 0 && now-p.weighed < tick-tick/10 {
		return nil
	}
	hints := p.hints
	p.hints, p.weighed = nil, now
	return hints
}

// SayUnproven logs a line a minute at most.
func (p *Proof) SayUnproven(channels int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.logged != 0 && mono.Now()-p.logged < time.Minute {
		return
	}
	p.log.Warn().Int64("messages", p.since).Int("channels", channels).
		Msg("messages that prove no right to read this database's grants are not believed: another program publishes to the channels of this prefix (from another database of this server, or with a Redis user that has PUBLISH), or repeats old messages, or Redis has lost its data")
	p.logged, p.since = mono.Now(), 0
}

// Count returns how many messages were not proven.
func (p *Proof) Count() int64 { return p.unproven.Load() }
