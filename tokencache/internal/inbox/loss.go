package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Redis can lose its last writes: a replica that becomes the master has not got all of them,
// and a server that starts again reads a file that lags. Then a record says less than some
// process remembers, and its refresh token is spent:
//
//  1. A process commits generation 2 and tells the others. The master dies.
//  2. A replica takes its place, which knows generation 1 only.
//  3. A process that remembers nothing reads that, and presents generation 1 again.
//
// Two things prevent the third step where claims do not wait for replicas. A process that remembers a
// change of late reads that grant again as soon as Redis is back, and gives back what is missing.
// And a process that is about to present a pair that is older than the server waits for the others to come
// back, and asks them: see MayHaveLost. Which server that is the claim itself tells, since commands and
// subscriptions can be with two.

const (
	// AtRisk is how old a change may be that Redis may have lost, and how long after its beginning
	// a server is not believed.
	AtRisk = 2 * time.Minute
)

// SessionBegun is called when a subscriber session has begun; lost is since when something may have been
// missed. It reports whether all that Redis may have lost of late has been read again.
func (c *Inbox) SessionBegun(ctx context.Context, lost mono.Time) bool {
	if _, cluster := c.rdb.(*redis.ClusterClient); !cluster {
		_, _ = c.servers.Of(ctx, "") // so that the first exchange need not ask
	}
	if lost == 0 {
		return true
	}
	for a := range c.apps.All() {
		a.LookForLoss(ctx)
	}
	return c.ReadAgain(ctx, lost)
}

// ReadAgain reads the grants again that had been changed within AtRisk before a time, which gives
// back what Redis has lost of them. It reports whether it has read all.
func (c *Inbox) ReadAgain(ctx context.Context, lost mono.Time) bool {
	var doubted []grant.Key
	for e := range c.mem.All() {
		if s := e.Recall(); s != nil && s.ChangedWithin(AtRisk, lost) {
			doubted = append(doubted, e.Key)
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

// recheckAll reads grants that this process remembers, several at a time, and returns those of which
// Redis has told nothing.
func (c *Inbox) recheckAll(ctx context.Context, keys []grant.Key) []grant.Key {
	var work sync.WaitGroup
	failed := make([]bool, len(keys))
	room := make(chan struct{}, giversBack)
	for i, k := range keys {
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			failed[i] = ctx.Err() != nil || !c.Grant(k, c.name).recheck(ctx)
		})
	}
	work.Wait()
	i := -1
	return slices.DeleteFunc(keys, func(grant.Key) bool { i++; return !failed[i] })
}

// recheck reads a grant that this process remembers, which gives back what Redis has lost. It
// reports whether Redis has answered.
func (g Grant) recheck(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, MendTimeout)
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
func (g Grant) MayHaveLost(ctx context.Context, s *memory.Snapshot) (judged *memory.Snapshot, left time.Duration, doubtful bool, err error) {
	server, err := g.c.servers.Of(ctx, g.keys().Grant())
	if err != nil {
		return nil, 0, false, fmt.Errorf("tokencache: %s: since when Redis is the master is not known: %w", s.Key, err)
	}
	judged = memory.JudgedOn(server.ReplID, s)
	age := server.Age(mono.Now())
	if age < -time.Second { // the server's clock was set back: nothing can be said
		return judged, 0, false, nil
	}
	return judged, server.Reunion - age, s.ChangedAt() < server.Believed && age < AtRisk, nil
}
