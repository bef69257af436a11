package tokencache

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
)

// Redis can lose its last writes: a replica that becomes the master has not got all of them,
// and a server that starts again reads a file that lags. Then a record says less than some
// process remembers, and its refresh token is spent:
//
//  1. A process commits generation 2 and tells the others. The master dies.
//  2. A replica takes its place, which knows generation 1 only.
//  3. A process that remembers nothing reads that, and presents generation 1 again.
//
// Two things prevent the third step. Whoever remembers a change of late reads that grant again
// as soon as Redis is back, and gives back what is missing. And whoever is about to present a
// pair that is older than the server waits for the others to come back, and asks them: see
// Doubtful.

// atRisk is how old a change may be that Redis may have lost, and how long after its beginning
// a server is not believed.
const atRisk = 2 * time.Minute

// connected is called when a subscriber session has begun; lost is when the one before ended.
func (c *Cache) connected(ctx context.Context, lost mono) {
	if _, cluster := c.rdb.(*redis.ClusterClient); !cluster {
		_, _ = c.birth(ctx, Key{}) // so that the first exchange need not ask
	}
	if lost == 0 {
		return
	}
	var doubted []Key
	for e := range c.hot.all() {
		if s := e.snap.Load(); s != nil && s.young(lost) {
			doubted = append(doubted, e.key)
		}
	}
	// Just after a failover it can take more than one attempt.
	last := monotonic() + time.Minute
	for pause := 50 * time.Millisecond; len(doubted) > 0; pause = min(2*pause, 500*time.Millisecond) {
		doubted = slices.DeleteFunc(doubted, func(k Key) bool { return c.verified(ctx, k) })
		if monotonic() > last && len(doubted) > 0 {
			c.log.Warn().Int("grants", len(doubted)).Msg("whether Redis has lost their last changes is not known")
			return
		}
		if sleep(ctx, pause) != nil {
			return // the next session does it
		}
	}
}

// young reports whether a grant had been changed within atRisk before a time.
func (s *Snapshot) young(at mono) bool {
	return time.Duration(s.now-s.changedAt())*time.Millisecond+at-s.at < atRisk
}

// changedAt is when a grant's state changed last, by Redis' clock: a consent, a commit, a claim
// or a failure.
func (r *Record) changedAt() int64 { return max(r.Epoch, r.IssuedAt, r.Claim.At, r.ErrorAt) }

// verified reads a grant that this process remembers, which gives back what Redis has lost. It
// reports whether Redis has answered.
func (c *Cache) verified(ctx context.Context, k Key) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := c.Read(ctx, k)
	return err == nil || errors.Is(err, ErrNone)
}

// Doubtful reports whether Redis may have lost newer states of a grant: the server has begun a
// short while ago, by starting or by becoming the master, and has not changed the grant since.
// age is how long ago that was at least. The error says that Redis does not answer; a server
// that does not tell (INFO) is not doubted.
func (c *Cache) Doubtful(ctx context.Context, s *Snapshot) (age time.Duration, doubtful bool, err error) {
	birth, err := c.birth(ctx, s.Key)
	if err != nil {
		return 0, false, fmt.Errorf("tokencache: %s: since when Redis is the master is not known: %w", s.Key, err)
	}
	age = time.Duration(s.Now()-birth) * time.Millisecond
	if age < -time.Second { // the server's clock was set back: nothing can be said
		return 0, false, nil
	}
	return age, s.changedAt() < birth && age < atRisk, nil
}

// nodeBelieved is how long a Cluster's node counts as the one that it was.
const nodeBelieved = 5 * time.Second

// births are the Redis times at which servers began, by address, as they were found in one
// subscriber session: what replaces a server ends that.
type births struct {
	mu      sync.Mutex // guards what follows
	session uint64
	at      map[string]int64
}

func (b *births) of(session uint64, addr string) (at int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.session != session || session%2 == 1 {
		return 0, false
	}
	at, ok = b.at[addr]
	return at, ok
}

func (b *births) note(session uint64, addr string, at int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil || b.session != session {
		b.session, b.at = session, make(map[string]int64)
	}
	b.at[addr] = at
}

// birth is when the server that has a grant began to be the master, in its own time.
func (c *Cache) birth(ctx context.Context, k Key) (int64, error) {
	server, addr, session := redis.Cmdable(c.rdb), "", c.hub.session.Load()
	if cluster, ok := c.rdb.(*redis.ClusterClient); ok {
		master, err := cluster.MasterForKey(ctx, c.keys(k).grant())
		if err != nil {
			return 0, err
		}
		server, addr = master, master.Options().Addr
		session = 2 * uint64(monotonic()/nodeBelieved) // the subscriber connection is to one node only
	}
	if at, ok := c.births.of(session, addr); ok {
		return at, nil
	}
	text, err := server.Info(ctx, "server", "replication").Result()
	if err != nil && !forbidden(err) {
		return 0, err
	}
	at, info := int64(0), infoOf(text)
	micros, err1 := strconv.ParseInt(info["server_time_usec"], 10, 64)
	up, err2 := strconv.ParseInt(info["uptime_in_seconds"], 10, 64)
	now := micros / 1000
	if told := errors.Join(err, err1, err2) == nil; told {
		at = 1000 * (now/1000 - up) // the second in which it started
	} else {
		c.log.Debug().Err(err).Msg("Redis does not tell its age by INFO: what it may have lost is not doubted")
	}
	if info["role"] == "slave" {
		return 0, errors.New("this is a replica")
	}
	if promoted := strings.Trim(info["master_replid2"], "0") != ""; promoted {
		first, err := c.firstSeen(ctx, info["master_replid"], now)
		if err != nil {
			return 0, err
		}
		at = max(at, first)
	}
	c.births.note(session, addr, at)
	return at, nil
}

// forbidden reports whether Redis does not let this client, or anybody, run a command like this.
func forbidden(err error) bool {
	var said redis.Error
	return errors.As(err, &said) && (strings.HasPrefix(said.Error(), "NOPERM ") || strings.HasPrefix(said.Error(), "ERR "))
}

// firstSeen is when any process first saw a server that was a replica before. Redis gives it a
// new replication id then, and does not tell when.
func (c *Cache) firstSeen(ctx context.Context, replid string, now int64) (int64, error) {
	key := c.prefix + ":masters"
	if err := c.rdb.HSetNX(ctx, key, replid, now).Err(); err != nil {
		return 0, err
	}
	return c.rdb.HGet(ctx, key, replid).Int64()
}

// infoOf reads the name:value lines of INFO.
func infoOf(text string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}
