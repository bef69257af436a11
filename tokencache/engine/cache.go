package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/apps"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/due"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/inbox"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/server"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

const (
	defaultHotGrants  = 10_000
	defaultJournalLen = 32
	minJournalLen     = 16
)

// Config of a Cache. AEAD is required.
type Config struct {
	// Prefix of all keys. Default "tl".
	Prefix string
	// AEAD seals the pairs: give one of tokencache/seal, or Plaintext if tokens may be readable in Redis.
	AEAD grant.AEAD
	// HotGrants is how many grants this process keeps in memory, each with a
	// subscription to its events. Default 10,000.
	HotGrants int
	// JournalLen is how many entries a grant's journal keeps. Default 32, at least 16: a commit that
	// is repeated late must find itself there.
	JournalLen int
	// Log is silent by default.
	Log zerolog.Logger
}

// Cache is the grants in Redis, and the memory of the hot ones. It is safe for
// concurrent use.
type Cache struct {
	rdb     redis.UniversalClient
	names   store.Names
	db      *store.Store
	name    string
	sealer  grant.Sealer
	mem     *memory.Memory
	journal int
	log     zerolog.Logger
	hub     *hub.Hub
	clock   clock.Clock
	proof   *proof.Proof
	servers *server.Servers
	in      *inbox.Inbox
	apps    *apps.Apps
	due     *due.Sets
}

// New returns a Cache on rdb. It does not talk to Redis yet.
func New(rdb redis.UniversalClient, cfg Config) (*Cache, error) {
	if err := cfg.check(rdb); err != nil {
		return nil, err
	}
	cfg.Prefix = cmp.Or(cfg.Prefix, grant.DefaultPrefix)
	c := &Cache{
		rdb: rdb, db: store.New(rdb, store.Names(cfg.Prefix), cfg.Log), names: store.Names(cfg.Prefix), name: processName(), log: cfg.Log,
		sealer: grant.Sealer{AEAD: cfg.AEAD, Prefix: cfg.Prefix}, journal: cmp.Or(cfg.JournalLen, defaultJournalLen),
	}
	_, c.clock.Many = rdb.(*redis.ClusterClient)
	c.clock.OnSet = func(by mono.Time) {
		c.log.Error().Dur("forward_ms", by).Msg("somebody has set Redis' clock, or another server with another clock has taken its place: no claim is taken over for as long as one stands")
	}
	c.proof = proof.New(c.db, &c.clock, cfg.Log)
	c.db.Proof = c.proof.Key
	c.servers = server.New(c.db, cfg.Log)
	c.hub = hub.New(hub.Config{
		Redis: rdb, Log: cfg.Log, Heartbeats: c.names.Heartbeats(),
		Deliver: func(channel, payload string) { c.in.Receive(channel, payload) }, Publish: c.db.Beat,
		Ready: func(ctx context.Context) { // without the key nothing that is pushed is believed
			c.proof.DoubtTime()
			_, _ = c.in.Identify(ctx)
		},
		Begun:  func(ctx context.Context, lost mono.Time) bool { return c.in.SessionBegun(ctx, lost) },
		Along:  func(ctx context.Context) { c.servers.WatchMasters(ctx, c.in.ReadAgain) },
		Ticked: func(ctx context.Context) { c.in.Weigh(ctx) }, Unanswered: c.db.NoteError, Masters: c.db.Masters,
	})
	c.apps = apps.New(c.db, c.hub, &c.clock, cfg.Log)
	c.due = due.New(c.db, &c.clock, c.proof.LearnTime)
	c.mem = memory.New(cmp.Or(cfg.HotGrants, defaultHotGrants), c.hub, func(k grant.Key) string { return c.names.Grant(k).Events() })
	c.in = inbox.New(inbox.Config{
		DB: c.db, Hub: c.hub, Memory: c.mem, Apps: c.apps, Due: c.due, Clock: &c.clock, Proof: c.proof, Servers: c.servers,
		Sealer: c.sealer, Log: cfg.Log, Name: c.name, Journal: c.journal,
	})
	c.apps.OnLoss = c.in.LossHeard
	return c, nil
}

// check says which setting is wrong.
func (cfg *Config) check(rdb redis.UniversalClient) error {
	if rdb == nil {
		return errors.New("tokencache: New needs a Redis client")
	}
	if cfg.AEAD == nil {
		return errors.New("tokencache: Config.AEAD is missing: give a keyset from tokencache/seal, or say tokencache.Plaintext if tokens may stand readable in Redis")
	}
	if err := grant.ValidPrefix(cmp.Or(cfg.Prefix, grant.DefaultPrefix)); err != nil {
		return err
	}
	if cfg.HotGrants < 0 || cfg.JournalLen < 0 {
		return fmt.Errorf("tokencache: Config.HotGrants (%d) and Config.JournalLen (%d) must not be negative; 0 takes the default", cfg.HotGrants, cfg.JournalLen)
	}
	if cfg.JournalLen != 0 && cfg.JournalLen < minJournalLen {
		return fmt.Errorf("tokencache: Config.JournalLen is %d, at least %d are needed", cfg.JournalLen, minJournalLen)
	}
	if _, ring := rdb.(*redis.Ring); ring {
		return errors.New("tokencache: a redis.Ring listens to the events of one shard only: use a Client, a FailoverClient or a ClusterClient")
	}
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		if o := cluster.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return errors.New("tokencache: this ClusterClient reads from replicas, which lag: a replaced token would be served; switch off ReadOnly, RouteByLatency and RouteRandomly")
		}
	}
	return nil
}

func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/" + strconv.Itoa(os.Getpid())
}

// Watch has w told from now on what happens between this process and Redis, until stop is called; once,
// however often it is given: watchers are told apart by ==.
func (c *Cache) Watch(w store.Watcher) (stop func()) { return c.db.Watchers.Add(w) }

// HotGrants returns how many grants this process has in memory.
func (c *Cache) HotGrants() int { return c.mem.Size() }

// Sessions returns how many subscriber connections of this process have been believed so far.
func (c *Cache) Sessions() uint64 { return c.hub.Session() / 2 }

// Format prints the prefix, whatever the verb: what is inside changes all the time.
func (c *Cache) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "tokencache.Cache(%s)", string(c.names)) }

// Redis is the client the cache works on.
func (c *Cache) Redis() redis.UniversalClient { return c.rdb }

// ClockSet returns how long ago this process noticed that somebody had set Redis' clock; false for never.
// What Redis says of claims that were made before is not to be acted upon for as long as a claim stands.
func (c *Cache) ClockSet() (ago time.Duration, ok bool) { return c.clock.Ago() }

// UnprovenMessages counts the messages on this process's channels whose sender has not proven that
// it may read the grants. They are not believed.
func (c *Cache) UnprovenMessages() int64 { return c.proof.Count() }
