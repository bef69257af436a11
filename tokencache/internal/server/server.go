// Package server tells which Redis this is, and since when it is the master: what was written before that
// it may have lost.
package server

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// clocksApart is how far the clocks of a master and of the replica that takes its place may differ.
const clocksApart = 30 * time.Second

// How long the other processes take to come back. A process whose Redis starts again notices that
// its connection broke. After a failover that may be silence: then it takes silentFor, the dialing,
// and reading again what may be lost. On a Cluster most processes listen to another node, and all look
// every lookEvery who the masters are; who listened to the node that went silent has noticed
// before the node timeout was over.
const (
	ReunionAfterStart    = 5 * time.Second
	ReunionAfterFailover = hub.SilentFor + 4*time.Second
	ReunionOnCluster     = proof.LookEvery + 2*time.Second
)

// Server is what a process has found out about one that was the master.
type Server struct {
	ReplID   string        // another one after each start and each promotion; "" if it does not tell
	Began    int64         // its clock, unix ms, when it began to be the master; a little before, if need be
	Believed int64         // its clock, from which on what was changed was changed by itself
	Reunion  time.Duration // from then on, until the other processes are back

	Now int64 // its clock at At
	At  mono.Time
}

// Age returns how long it has been the master, as far as is known.
func (s *Server) Age(at mono.Time) time.Duration { return clock.Span(s.Now-s.Began) + at - s.At }

// Servers are the masters by address; "" is the address where it is not a Cluster.
type Servers struct {
	db  *store.Store
	log zerolog.Logger

	mu sync.Mutex // guards by
	by map[string]*Server
}

// New returns Servers that know none yet.
func New(db *store.Store, log zerolog.Logger) *Servers { return &Servers{db: db, log: log} }

// Known returns what is known of a server.
func (v *Servers) Known(addr string) *Server {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.by[addr]
}

// Note has a server known.
func (v *Servers) Note(addr string, s *Server) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.by == nil {
		v.by = make(map[string]*Server)
	}
	v.by[addr] = s
}

// Forget has all be asked again.
func (v *Servers) Forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.by = nil
}

// Of is the server that has a key. What is known of it is right for as long as it has the same
// replication id, which a claim looks at. The error says why it cannot be asked.
func (v *Servers) Of(ctx context.Context, key string) (*Server, error) {
	if _, addr, err := v.db.NodeOf(ctx, key); err != nil {
		return nil, err
	} else if s := v.Known(addr); s != nil {
		return s, nil
	}
	return store.Insist(ctx, v.db, func() (*Server, error) { return v.inspect(ctx, key) })
}

// inspect asks the server that has a key what it is.
func (v *Servers) inspect(ctx context.Context, key string) (*Server, error) {
	node, addr, err := v.db.NodeOf(ctx, key)
	if err != nil {
		return nil, err
	}
	text, err := node.Info(ctx, "server", "replication").Result()
	at := mono.Now() // not before: a slow reply must not make the server older than it is
	if err != nil && !forbidden(err) {
		v.db.NoteError(err)
		return nil, err
	}
	s, err := v.Judge(ctx, store.InfoOf(text), at)
	if err != nil {
		v.db.NoteError(err) // the map of the slots is old
		return nil, err
	}
	if s.ReplID == "" {
		v.log.Debug().Msg("Redis does not tell its age by INFO: what it may have lost is not doubted")
	}
	if addr != "" {
		s.Reunion = min(s.Reunion, ReunionOnCluster)
	}
	v.Note(addr, s)
	return s, nil
}

var (
	// ErrReplica says that the server has become a replica.
	ErrReplica = errors.New("this is a replica")
	// ErrReplaced says that the server is another one, or has become the master anew.
	ErrReplaced = errors.New("this is another server than before, or it has become the master anew")
)

// Judge makes of INFO what a server is. It tells in which second it has started, but not when it
// was promoted.
func (v *Servers) Judge(ctx context.Context, info map[string]string, at mono.Time) (*Server, error) {
	if info["role"] == "slave" {
		return nil, ErrReplica
	}
	micros, err1 := strconv.ParseInt(info["server_time_usec"], 10, 64)
	up, err2 := strconv.ParseInt(info["uptime_in_seconds"], 10, 64)
	if errors.Join(err1, err2) != nil || info["master_replid"] == "" {
		return &Server{At: at}, nil
	}
	now := micros / 1000
	s := &Server{ReplID: info["master_replid"], Now: now, At: at, Began: 1000 * (now/1000 - up), Reunion: ReunionAfterStart}
	s.Believed = s.Began
	if promoted := strings.Trim(info["master_replid2"], "0") != ""; promoted {
		s.Began = max(s.Began, v.FirstSeen(ctx, s.ReplID, now))
		s.Believed = s.Began + clocksApart.Milliseconds()
		s.Reunion = ReunionAfterFailover
	}
	return s, nil
}

// forbidden reports whether Redis does not let this client, or anybody, run a command like this.
func forbidden(err error) bool {
	var said redis.Error
	return errors.As(err, &said) && (strings.HasPrefix(said.Error(), "NOPERM ") || strings.HasPrefix(said.Error(), "ERR "))
}

// FirstSeen returns when any process first saw a server that was a replica before. Redis gives it a
// new replication id then, and does not tell when. Where that cannot be noted, on another node that
// is away, it is seen now.
func (v *Servers) FirstSeen(ctx context.Context, ReplID string, now int64) int64 {
	key := v.db.Names.Masters()
	err := v.db.Redis.HSetNX(ctx, key, ReplID, now).Err()
	var first int64
	if err == nil {
		first, err = v.db.Redis.HGet(ctx, key, ReplID).Int64()
	}
	if err != nil {
		v.db.NoteError(err)
		return now
	}
	return first
}

// Same looks at what Redis says of itself every few seconds. A server that was promoted in place, or made
// a replica, keeps its connections: what it has now may not be what was pushed. The error is ErrReplica
// or ErrReplaced; then all servers are asked again.
func (v *Servers) Same(text string) error {
	known, info := v.Known(""), store.InfoOf(text)
	switch {
	case info["role"] == "slave":
		v.Forget()
		return ErrReplica
	case known != nil && known.ReplID != "" && info["master_replid"] != "" && info["master_replid"] != known.ReplID:
		v.Forget()
		return ErrReplaced
	}
	return nil
}
