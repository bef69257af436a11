package tokencache

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/common.lua
var common string

//go:embed lua/read.lua
var readLua string

//go:embed lua/claim.lua
var claimLua string

//go:embed lua/commit.lua
var commitLua string

//go:embed lua/fail.lua
var failLua string

//go:embed lua/connect.lua
var connectLua string

//go:embed lua/disconnect.lua
var disconnectLua string

//go:embed lua/restore.lua
var restoreLua string

var (
	readScript       = script(readLua)
	claimScript      = script(claimLua)
	commitScript     = script(commitLua)
	failScript       = script(failLua)
	connectScript    = script(connectLua)
	disconnectScript = script(disconnectLua)
	restoreScript    = script(restoreLua)
)

func script(body string) *redis.Script { return redis.NewScript(common + body) }

// NewID returns an id for one state change. A repeat with the same id, by us or by
// go-redis after a lost reply, is answered like the first.
func NewID() string { return rand.Text()[:16] }

// answer is what a script returned, parsed.
type answer struct {
	status string
	now    int64     // Redis' time, unix ms
	sent   mono      // when the request was
	snap   *Snapshot // nil when there is no record
}

// run runs a script about one grant. The snapshot's clock starts before the request
// was sent, so that no deadline seems later than it is.
func (c *Cache) run(ctx context.Context, op string, s *redis.Script, k Key, keys []string, args ...any) (answer, error) {
	if err := k.Validate(); err != nil {
		return answer{}, err
	}
	home, _ := c.hot.Load(k)
	session := c.hub.sessionOf(c.keys(k).events)
	sent := monotonic()
	got, err := s.Run(ctx, c.rdb, keys, args...).Slice()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return answer{}, fmt.Errorf("tokencache: %s %s: %w", op, k, err)
	}
	a, err := c.parse(k, got, sent)
	if err != nil {
		return answer{}, fmt.Errorf("tokencache: %s %s: %w", op, k, err)
	}
	if a.snap != nil {
		a.snap.home, a.snap.session = home, session
	}
	return a, nil
}

// parse reads {status, now, record, sealed pair}.
func (c *Cache) parse(k Key, got []any, sent mono) (answer, error) {
	if len(got) != 4 {
		return answer{}, fmt.Errorf("script answered %d values, not 4", len(got))
	}
	status, _ := got[0].(string)
	nowText, _ := got[1].(string)
	now, err := strconv.ParseInt(nowText, 10, 64)
	if err != nil {
		return answer{}, fmt.Errorf("script answered no time")
	}
	at := c.clock.observe(sent, monotonic(), now)
	a := answer{status: status, now: now, sent: sent}
	flat, _ := got[2].([]any)
	if len(flat) == 0 {
		return a, nil
	}
	s := &Snapshot{Key: k, now: now, at: at}
	for i := 0; i+1 < len(flat); i += 2 {
		name, _ := flat[i].(string)
		value, _ := flat[i+1].(string)
		if err := s.set(name, value); err != nil {
			return answer{}, err
		}
	}
	if err := s.check(); err != nil {
		return answer{}, err
	}
	if sealed, _ := got[3].(string); sealed != "" {
		s.Pair, s.Err = c.open(k, s.Epoch, sealed)
	}
	a.snap = s
	return a, nil
}
