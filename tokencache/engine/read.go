package engine

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/inbox"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// NewID returns an id for one state change. A repeat with the same id, by us or by
// go-redis after a lost reply, is answered like the first.
func NewID() string { return store.NewID() }

// answer is what a script returned, parsed.
type answer = inbox.Answer

// ErrContradicted: this process has only heard of a state that Redis knows nothing of. The others are asked for it.
// Redis' word counts if none has given it back after some seconds.
var ErrContradicted = inbox.ErrContradicted

func (g Grant) in() inbox.Grant { return g.c.in.Grant(g.key, g.by) }

// run runs a script about one grant.
func (g Grant) run(ctx context.Context, op string, s *redis.Script, keys []string, args ...any) (answer, error) {
	return g.in().Run(ctx, op, s, keys, args...)
}

// Read reads a grant from Redis in one round trip and remembers it if it is pinned or
// hot. A record that is older than what memory holds, or is gone, is first repaired
// from memory. The error is ErrNone, or says why Redis did not answer.
func (g Grant) Read(ctx context.Context) (*Snapshot, error) { return g.in().Read(ctx) }

// ReadFresh reads no more than a fresh token of a grant that memory has no room for, by a
// bare GET, which costs two thirds of a Read. The snapshot's record knows
// the epoch and the times alone. It is nil where there is no fresh token, or only a Read
// can tell. What it cannot tell is whether the pair is still the record's: a pair that somebody who
// may write to Redis has put back is served until it expires, though the tenant is disconnected.
func (g Grant) ReadFresh(ctx context.Context) (*Snapshot, error) { return g.in().ReadFresh(ctx) }

// MayHaveLost reports whether Redis may have lost newer states of a grant: the server has begun a
// short while ago, by starting or by becoming the master, and has not changed the grant since.
// left is how long it takes until the other processes are back, of whom one may know better;
// negative for how long they have been. The error says that Redis does not answer; a server
// that does not tell (INFO) is not doubted.
//
// What it says is about one server: judged is the grant as it may be claimed there, and nowhere else.
func (g Grant) MayHaveLost(ctx context.Context, s *Snapshot) (judged *Snapshot, left time.Duration, doubtful bool, err error) {
	return g.in().MayHaveLost(ctx, s)
}

// Ask asks the other processes for a grant of which Redis has no record, as after a
// restart without its data: every process that remembers it restores it. It reports whether
// anybody may be listening.
//
// epoch, generation and rev are what the caller knows; only a process that knows another consent, or a
// newer state, answers.
func (g Grant) Ask(ctx context.Context, epoch, generation, rev int64) (bool, error) {
	return g.in().Ask(ctx, epoch, generation, rev)
}

// Rescue gives back what this process remembers, if Redis has lost its data. A process that ends calls it. The error names each grant that Redis did not take.
func (app App) Rescue(ctx context.Context) error { return app.c.in.Rescue(ctx, app.name) }
