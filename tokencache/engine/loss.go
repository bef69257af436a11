package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Redis can lose its last writes: a replica that becomes the master has not got all of them,
// and a server that starts again reads a file that lags. Then a record says less than some
// process remembers, and its refresh token is spent:
//
//  1. A process commits generation 2 and tells the others. The master dies.
//  2. A replica takes its place, which knows generation 1 only.
//  3. A process that remembers nothing reads that, and presents generation 1 again.
//
// Two things prevent the third step where claims do not wait for replicas. Whoever remembers a
// change of late reads that grant again as soon as Redis is back, and gives back what is missing.
// And whoever is about to present a pair that is older than the server waits for the others to come
// back, and asks them: see MayHaveLost. Which server that is the claim itself tells, since commands and
// subscriptions can be with two.

const (
	// atRisk is how old a change may be that Redis may have lost, and how long after its beginning
	// a server is not believed.
	atRisk = 2 * time.Minute
	// clocksApart is how far the clocks of a master and of the replica that takes its place may differ.
	clocksApart = 30 * time.Second
)

// How long the other processes take to come back. A process whose Redis starts again notices that
// its connection broke. After a failover that may be silence: then it takes silentFor, the dialing,
// and reading again what may be lost. On a Cluster most processes listen to another node, and all look
// every lookEvery who the masters are; who listened to the node that went silent has noticed
// before the node timeout was over.
const (
	reunionAfterStart    = 5 * time.Second
	reunionAfterFailover = hub.SilentFor + 4*time.Second
	reunionOnCluster     = proof.LookEvery + 2*time.Second
)

// sessionBegun is called when a subscriber session has begun; lost is since when something may have been
// missed. It reports whether all that Redis may have lost of late has been read again.
func (c *Cache) sessionBegun(ctx context.Context, lost mono.Time) bool {
	if _, cluster := c.rdb.(*redis.ClusterClient); !cluster {
		_, _ = c.Grant(grant.Key{}).serverOf(ctx) // so that the first exchange need not ask
	}
	if lost == 0 {
		return true
	}
	c.lossMissed(ctx)
	return c.readAgain(ctx, lost)
}

// readAgain reads the grants again that had been changed within atRisk before a time, which gives
// back what Redis has lost of them. It reports whether it has read all.
func (c *Cache) readAgain(ctx context.Context, lost mono.Time) bool {
	var doubted []grant.Key
	for e := range c.hot.all() {
		if s := e.snap.Load(); s != nil && s.changedSince(lost) {
			doubted = append(doubted, e.key)
		}
	}
	// Just after a failover it can take more than one attempt.
	last := mono.Now() + time.Minute
	for pause := 50 * time.Millisecond; len(doubted) > 0; pause = min(2*pause, 500*time.Millisecond) {
		doubted = c.recheckAll(ctx, doubted)
		if mono.Now() > last && len(doubted) > 0 {
			c.log.Warn().Int("grants", len(doubted)).Msg("whether Redis has lost their last changes is not known")
			return true
		}
		if len(doubted) > 0 && mono.Sleep(ctx, pause) != nil {
			return false // the next session does it
		}
	}
	return true
}

// changedSince reports whether a grant had been changed within atRisk before a time.
func (s *Snapshot) changedSince(at mono.Time) bool {
	return time.Duration(s.now-s.ChangedAt())*time.Millisecond+at-s.at < atRisk
}

// recheckAll reads grants that this process remembers, several at a time, and returns those of which
// Redis has told nothing.
func (c *Cache) recheckAll(ctx context.Context, keys []grant.Key) []grant.Key {
	var work sync.WaitGroup
	failed := make([]bool, len(keys))
	room := make(chan struct{}, giversBack)
	for i, k := range keys {
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			failed[i] = ctx.Err() != nil || !c.Grant(k).recheck(ctx)
		})
	}
	work.Wait()
	i := -1
	return slices.DeleteFunc(keys, func(grant.Key) bool { i++; return !failed[i] })
}

// recheck reads a grant that this process remembers, which gives back what Redis has lost. It
// reports whether Redis has answered.
func (g Grant) recheck(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	_, err := g.Read(ctx)
	return err == nil || errors.Is(err, grant.ErrNone)
}

// MayHaveLost reports whether Redis may have lost newer states of a grant: the server has begun a
// short while ago, by starting or by becoming the master, and has not changed the grant since.
// left is how long it takes until the other processes are back, of whom one may know better;
// negative for how long they have been. The error says that Redis does not answer; a server
// that does not tell (INFO) is not doubted.
//
// What it says is about one server: judged is the grant as it may be claimed there, and nowhere else.
func (g Grant) MayHaveLost(ctx context.Context, s *Snapshot) (judged *Snapshot, left time.Duration, doubtful bool, err error) {
	server, err := g.serverOf(ctx)
	if err != nil {
		return nil, 0, false, fmt.Errorf("tokencache: %s: since when Redis is the master is not known: %w", s.Key, err)
	}
	own := *s
	own.judged = server.replid
	age := server.age(mono.Now())
	if age < -time.Second { // the server's clock was set back: nothing can be said
		return &own, 0, false, nil
	}
	return &own, server.reunion - age, s.ChangedAt() < server.believed && age < atRisk, nil
}

// server is what a process has found out about one that was the master.
type server struct {
	replid   string        // another one after each start and each promotion; "" if it does not tell
	began    int64         // its clock, unix ms, when it began to be the master; a little before, if need be
	believed int64         // its clock, from which on what was changed was changed by itself
	reunion  time.Duration // from then on, until the other processes are back

	now int64 // its clock at `at`
	at  mono.Time
}

func (s *server) age(at mono.Time) time.Duration { return clock.Span(s.now-s.began) + at - s.at }

// servers are the masters by address; "" is the address where it is not a Cluster.
type servers struct {
	mu sync.Mutex // guards by
	by map[string]*server
}

func (v *servers) of(addr string) *server {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.by[addr]
}

func (v *servers) note(addr string, s *server) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.by == nil {
		v.by = make(map[string]*server)
	}
	v.by[addr] = s
}

// forget has all be asked again.
func (v *servers) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.by = nil
}

// serverOf is the server that has a grant. What is known of it is right for as long as it has the
// same replication id, which the claim looks at.
func (g Grant) serverOf(ctx context.Context) (*server, error) {
	if _, addr, err := g.nodeOf(ctx); err != nil {
		return nil, err
	} else if s := g.c.servers.of(addr); s != nil {
		return s, nil
	}
	if _, cluster := g.c.rdb.(*redis.ClusterClient); !cluster {
		return g.inspect(ctx)
	}
	return store.Insist(ctx, g.c.db, func() (*server, error) { return g.inspect(ctx) })
}

// inspect asks the server that has a grant what it is.
func (g Grant) inspect(ctx context.Context) (*server, error) {
	node, addr, err := g.nodeOf(ctx)
	if err != nil {
		return nil, err
	}
	at := mono.Now()
	text, err := node.Info(ctx, "server", "replication").Result()
	if err != nil && !forbidden(err) {
		g.c.db.Unanswered(err)
		return nil, err
	}
	s, err := g.c.judge(ctx, store.InfoOf(text), at)
	if err != nil {
		g.c.db.Unanswered(err) // the map of the slots is old
		return nil, err
	}
	if s.replid == "" {
		g.c.log.Debug().Msg("Redis does not tell its age by INFO: what it may have lost is not doubted")
	}
	if addr != "" {
		s.reunion = min(s.reunion, reunionOnCluster)
	}
	g.c.servers.note(addr, s)
	return s, nil
}

var errReplica = errors.New("this is a replica")

// judge makes of INFO what a server is. It tells in which second it has started, but not when it
// was promoted.
func (c *Cache) judge(ctx context.Context, info map[string]string, at mono.Time) (*server, error) {
	if info["role"] == "slave" {
		return nil, errReplica
	}
	micros, err1 := strconv.ParseInt(info["server_time_usec"], 10, 64)
	up, err2 := strconv.ParseInt(info["uptime_in_seconds"], 10, 64)
	if errors.Join(err1, err2) != nil || info["master_replid"] == "" {
		return &server{at: at}, nil
	}
	now := micros / 1000
	s := &server{replid: info["master_replid"], now: now, at: at, began: 1000 * (now/1000 - up), reunion: reunionAfterStart}
	s.believed = s.began
	if promoted := strings.Trim(info["master_replid2"], "0") != ""; promoted {
		s.began = max(s.began, c.firstSeen(ctx, s.replid, now))
		s.believed = s.began + clocksApart.Milliseconds()
		s.reunion = reunionAfterFailover
	}
	return s, nil
}

// forbidden reports whether Redis does not let this client, or anybody, run a command like this.
func forbidden(err error) bool {
	var said redis.Error
	return errors.As(err, &said) && (strings.HasPrefix(said.Error(), "NOPERM ") || strings.HasPrefix(said.Error(), "ERR "))
}

// firstSeen is when any process first saw a server that was a replica before. Redis gives it a
// new replication id then, and does not tell when. Where that cannot be noted, on another node that
// is away, it is seen now.
func (c *Cache) firstSeen(ctx context.Context, replid string, now int64) int64 {
	key := c.names.Masters()
	err := c.rdb.HSetNX(ctx, key, replid, now).Err()
	var first int64
	if err == nil {
		first, err = c.rdb.HGet(ctx, key, replid).Int64()
	}
	if err != nil {
		c.db.Unanswered(err)
		return now
	}
	return first
}

var errReplaced = errors.New("Redis is another server than before, or has become the master anew")

// sameServer looks at what Redis says of itself every few seconds. A server that was promoted in
// place, or made a replica, keeps its connections: what it has now may not be what was pushed.
func (c *Cache) sameServer(ctx context.Context, text string) {
	known, info := c.servers.of(""), store.InfoOf(text)
	switch {
	case info["role"] == "slave":
		c.servers.forget()
		c.hub.Distrust(errReplica)
		c.leave(ctx)
	case known != nil && known.replid != "" && info["master_replid"] != "" && info["master_replid"] != known.replid:
		c.servers.forget()
		c.hub.Distrust(errReplaced)
	}
}

// leave has go-redis close the connections to a server that has become a replica, one by one: an
// endpoint may lead elsewhere by now. It does so where a write is refused, and this one writes nothing.
func (c *Cache) leave(ctx context.Context) {
	for range 10 {
		if err := c.rdb.Persist(ctx, c.names.Proof()).Err(); err == nil || ctx.Err() != nil {
			return
		}
	}
}
