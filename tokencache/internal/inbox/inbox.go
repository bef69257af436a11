// Package inbox decides what is believed: of a reply, a reading, and a push. It is where Redis, memory and what other
// processes say meet.
//
// Each of them ends in one of three ways. What is newer than memory is adopted. What is older than memory, and was
// asked for after memory knew better, is restored: Redis has lost something, and gets it back (restore.go). A newer
// state that was only heard of is given up, after a while, if nobody gives it back.
package inbox

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/apps"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/due"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/server"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Config is what an Inbox joins.
type Config struct {
	DB      *store.Store
	Hub     *hub.Hub
	Memory  *memory.Memory
	Apps    *apps.Apps
	Due     *due.Sets
	Clock   *clock.Clock
	Proof   *proof.Proof
	Servers *server.Servers
	Sealer  grant.Sealer
	Log     zerolog.Logger
	Name    string // of this process, which signs what it gives back
	Journal int    // how many events of a grant are kept
}

// Inbox is safe for concurrent use.
type Inbox struct {
	rdb     redis.UniversalClient
	names   store.Names
	db      *store.Store
	name    string
	id      string // of this process's cache, among those that ask
	sealer  grant.Sealer
	mem     *memory.Memory
	journal int
	log     zerolog.Logger
	hub     *hub.Hub
	clock   *clock.Clock
	proof   *proof.Proof
	servers *server.Servers
	apps    *apps.Apps
	due     *due.Sets
	errands errands
}

// New returns an Inbox.
func New(cfg Config) *Inbox {
	return &Inbox{
		rdb: cfg.DB.Redis, names: cfg.DB.Names, db: cfg.DB, name: cfg.Name, id: store.NewID(), sealer: cfg.Sealer, mem: cfg.Memory,
		journal: cfg.Journal, log: cfg.Log, hub: cfg.Hub, clock: cfg.Clock, proof: cfg.Proof, servers: cfg.Servers, apps: cfg.Apps, due: cfg.Due,
	}
}

// Grant is one grant, as it is asked for and believed.
type Grant struct {
	c   *Inbox
	key grant.Key
	by  string
}

// Grant returns a grant; by signs its changes. It costs nothing.
func (c *Inbox) Grant(k grant.Key, by string) Grant { return Grant{c, k, by} }

func (g Grant) keys() store.Keys { return g.c.names.Grant(g.key) }

// Idle waits until nothing is done any more beside what callers ask for, above all that nothing is being given back to
// Redis; or until ctx ends. The error names what is left.
func (c *Inbox) Idle(ctx context.Context) error { return c.errands.Wait(ctx) }

const (
	// MendTimeout bounds what is done about a state that Redis has lost, beside what a caller asked for.
	MendTimeout = 5 * time.Second
	// TombstoneLife is how long a disconnected grant leaves a trace: far longer than an exchange
	// that was under way can take.
	TombstoneLife = 90 * 24 * time.Hour
)
