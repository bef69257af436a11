package inbox

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/apps"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Redis can come back empty: a restart without its file, FLUSHALL, a new server at the old address.
// Then the processes' memories are the only copies of the grants, and each is gone with its process:
//
//  1. The proof key is missing, or another one: that tells a lost database from a new one. A
//     process looks for it at the beginning of each subscriber session, every three seconds, and
//     before it closes.
//  2. The process that notices it says so in the app's state (lost_at), once for the fleet, by push.
//  3. Every process gives back all that it remembers, unasked; the newest state wins. Then it puts
//     the key back, if that is still gone, with the number of this loss: the processes of other apps that
//     look only then must notice it, too.
//  4. A tenant of whom nobody knows is then not "not connected": nobody can tell. That holds
//     until an operator accepts the loss.

const (
	// giversBack is how many grants are given back at once.
	giversBack = 16
)

// birthMark is the one that goes with a proof key, which is no secret.
func birthMark(key string) string { return grant.Fingerprint(key) }

// rescue says in the state of every app that this process works for that Redis has lost its data,
// and gives back what this process remembers.
func (c *Inbox) rescue(ctx context.Context) error {
	was, now := c.proof.Gone()
	if was == "" {
		return nil
	}
	var failed error
	lostAt := map[*apps.Place]int64{}
	if !proof.Earlier(now, was) { // else it is a backup, which knows of the losses before it
		for a := range c.apps.All() {
			at, err := a.SayLost(ctx, c.name, birthMark(was), birthMark(now))
			failed = errors.Join(failed, err)
			if err == nil {
				lostAt[a] = at
			}
		}
	}
	if failed = errors.Join(failed, c.GiveBack(ctx, "")); failed != nil {
		return failed
	}
	for a, at := range lostAt {
		a.NoteGiven(at)
	}
	return c.proof.PutBack(ctx, was, now) // last: as long as the key is gone, every process that looks sees that the data is
}

// GiveBack gives Redis all that this process remembers of an app's grants, or of all apps' for "",
// and that Redis has not got. The error names each grant that it did not take.
func (c *Inbox) GiveBack(ctx context.Context, app string) error {
	var mu sync.Mutex
	var failed error
	var work sync.WaitGroup
	room := make(chan struct{}, giversBack)
	for e := range c.mem.All() {
		mem := e.Recall().Sure()
		if mem == nil || mem.Incomplete() || mem.Err != nil || app != "" && e.Key.App != app {
			continue
		}
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			if err := c.Grant(mem.Key, c.name).handBack(ctx, mem); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	}
	work.Wait()
	return failed
}

// handBack gives one grant back, and has it renewed again: the due sets are lost, too.
func (g Grant) handBack(ctx context.Context, mem *memory.Snapshot) error {
	s, err := g.Restore(ctx, mem)
	if err != nil {
		return fmt.Errorf("tokencache: %s is remembered by this process, and Redis does not take it: %w", mem.Key, err)
	}
	if s.State != grant.Active {
		return nil
	}
	return g.c.due.App(s.App, g.by).Schedule(ctx, s.Tenant, s.RefreshAt)
}

// Rescue gives back what this process remembers, if Redis has lost its data. A process that ends calls it. The error names each grant that Redis did not take.
func (c *Inbox) Rescue(ctx context.Context, app string) error {
	if !c.proof.Known() || !c.mem.Grants(app).Any() {
		return nil // it has never known this database, or has nothing to give
	}
	lost, err := c.Identify(ctx)
	switch {
	case lost:
		return c.rescue(ctx)
	case err == nil && c.apps.Place(app).Owes():
		return c.GiveBack(ctx, app)
	}
	return nil // nobody knows of a loss
}

// giveRest gives back what this process remembers of an app whose data another process has found
// lost, unless it has, or does so just now.
func (c *Inbox) giveRest(ctx context.Context, a *apps.Place) error {
	return a.GiveRest(func() error { return c.GiveBack(ctx, a.Name()) })
}

// giveRests is giveRest for all apps: an attempt may have failed.
func (c *Inbox) giveRests(ctx context.Context) (failed error) {
	for a := range c.apps.All() {
		failed = errors.Join(failed, c.giveRest(ctx, a))
	}
	return failed
}

// LossHeard gives back what this process remembers when it hears that Redis has lost an app's data.
func (c *Inbox) LossHeard(a *apps.Place) {
	c.errands.Go("app "+a.Name()+": Redis has lost its data, and gets back what this process remembers", func() { // the subscriber connection must not wait for it
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.giveRest(ctx, a); err != nil {
			c.log.Error().Err(err).Msg("Redis has lost its data, and did not take back what this process remembers")
		}
	})
}

// askWait is how long others have to give back what Redis lost.
const askWait = 300 * time.Millisecond

// Inquire asks the other processes for a grant that neither Redis nor this process has, before a
// consent or its end is stored: the grant that they remember may have begun later, by a clock
// that was ahead. It reports whether anybody may have given it back. Where nobody listens to the
// grant it costs one PUBLISH.
func (g Grant) Inquire(ctx context.Context) (told bool, err error) {
	if _, cluster := g.c.rdb.(*redis.ClusterClient); cluster {
		// The number of listeners is that of one node: ask only if there is a reason to.
		if s, err := g.c.apps.Place(g.key.App).State(ctx); err != nil || s.LostAt == 0 {
			return false, nil
		}
	}
	listening, err := g.Ask(ctx, 0, 0, 0)
	if err != nil || !listening {
		return false, err
	}
	return true, mono.Sleep(ctx, askWait)
}

// Restore gives Redis back what this process remembers.
func (g Grant) Restore(ctx context.Context, mem *memory.Snapshot) (*memory.Snapshot, error) {
	if mem.Err != nil || mem.State != grant.Disconnected && mem.Pair.AccessToken.Reveal() == "" {
		return nil, fmt.Errorf("tokencache: %s: Redis lost the grant, and this process cannot restore it: %w", mem.Key, errors.Join(mem.Err, grant.ErrNone))
	}
	sealed, quiet := "", grant.RestoreQuiet
	if mem.State != grant.Disconnected {
		var err error
		if sealed, err = g.c.sealer.Seal(mem.Key, mem.Epoch, mem.Generation, mem.Pair); err != nil {
			return nil, err
		}
	}
	if mem.Pending {
		quiet = 0 // we made this generation: nobody has a newer one
	}
	ks := g.keys()
	var a Answer
	for judged := ""; ; judged = fmt.Sprintf("%x", sha1.Sum([]byte(a.sealed))) {
		var err error
		args := append([]any{ks.Events(), g.c.journal, grant.Clip(mem.By), quiet.Milliseconds(), sealed, TombstoneLife.Milliseconds(), judged}, mem.Flat()...)
		a, err = g.Run(ctx, "restore", store.RestoreScript, []string{ks.Grant(), ks.Secret(), ks.Journal(), ks.Spare()}, args...)
		switch {
		case err != nil:
			return nil, err
		case a.Status == "judge" && g.outlived(mem, a.sealed):
			return nil, fmt.Errorf("tokencache: restore %s: %w, or a process that remembers more than this one", mem.Key, grant.ErrDamaged)
		}
		if a.Status != "judge" {
			break
		}
	}
	if a.Status == "ok" {
		g.c.noteRestored(mem, a)
		a.Snap.Pair = mem.Pair
	} else {
		a.Snap.NeedsPair()
	}
	return g.c.mem.Adopt(a.Snap.Finish()), nil
}

// noteRestored notes that Redis has taken back what this process remembers.
func (c *Inbox) noteRestored(mem *memory.Snapshot, a Answer) {
	c.log.Warn().Str("app", mem.App).Str("tenant", mem.Tenant).Int64("generation", mem.Generation).
		Msg("Redis had lost this grant's newest state: restored from memory")
	c.db.Watchers.Restored(mem.App)
}

// answerAsk answers a process that found no record, if this one remembers the grant: Redis
// has lost it, and gets it back. Every process that knows may answer; the script takes
// the newest. However many ask, a process answers for a grant once at a time and once a second.
func (c *Inbox) answerAsk(e *memory.Entry) {
	mem := e.Recall().Sure()
	if mem == nil || mem.Incomplete() {
		return
	}
	answered, ok := e.Answer()
	if !ok {
		return
	}
	c.errands.Go(e.Key.String()+": Redis has lost it, and gets back what this process remembers", func() { // the subscriber connection must not wait for it
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		defer answered()
		_, err := c.Grant(mem.Key, c.name).Restore(ctx, mem)
		for store.NoAnswer(err) && mono.Sleep(ctx, memory.AnswerEvery/2) == nil { // its node may just be replaced
			_, err = c.Grant(mem.Key, c.name).Restore(ctx, mem)
		}
		if err != nil {
			c.log.Warn().Err(err).Stringer("grant", e.Key).Msg("Redis has lost this grant, and did not take it back")
		}
	})
}

// outlived reports whether the sealed pair in Redis is a later one than this process remembers:
// beside a damaged record it is all that tells.
func (g Grant) outlived(mem *memory.Snapshot, sealed string) bool {
	epoch, err := grant.EpochOf([]byte(sealed))
	if err != nil || epoch < mem.Epoch {
		return false
	}
	_, generation, err := g.c.sealer.Unseal(mem.Key, epoch, []byte(sealed))
	return err == nil && (epoch > mem.Epoch || generation > mem.Generation)
}
