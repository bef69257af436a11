package store

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

//go:embed lua/common.lua
var common string

//go:embed lua/publish.lua
var publishing string

//go:embed lua/app.lua
var aboutApps string

//go:embed lua/claim.lua
var claimLua string

//go:embed lua/commit.lua
var commitLua string

//go:embed lua/extend.lua
var extendLua string

//go:embed lua/unread.lua
var unreadLua string

//go:embed lua/fail.lua
var failLua string

//go:embed lua/connect.lua
var connectLua string

//go:embed lua/disconnect.lua
var disconnectLua string

//go:embed lua/reject.lua
var rejectLua string

//go:embed lua/restore.lua
var restoreLua string

//go:embed lua/warn.lua
var warnLua string

//go:embed lua/touch.lua
var touchLua string

//go:embed lua/again.lua
var againLua string

//go:embed lua/reseal.lua
var resealLua string

//go:embed lua/compact.lua
var compactLua string

//go:embed lua/due.lua
var dueLua string

//go:embed lua/due_set.lua
var dueSetLua string

//go:embed lua/proof.lua
var proofLua string

//go:embed lua/app_trip.lua
var tripLua string

//go:embed lua/app_probe.lua
var probeLua string

//go:embed lua/app_unprobe.lua
var unprobeLua string

//go:embed lua/app_accept.lua
var acceptLua string

//go:embed lua/app_brake.lua
var brakeLua string

//go:embed lua/app_death.lua
var deathLua string

//go:embed lua/app_retry.lua
var retryLua string

//go:embed lua/app_throttle.lua
var throttleLua string

//go:embed lua/app_enter.lua
var enterLua string

//go:embed lua/app_leave.lua
var leaveLua string

//go:embed lua/app_lost.lua
var appLostLua string

//go:embed lua/app_accept_loss.lua
var acceptLossLua string

//go:embed lua/app_failing.lua
var failingLua string

//go:embed lua/stalled.lua
var stalledLua string

//go:embed lua/fit.lua
var fitLua string

//go:embed lua/heartbeat.lua
var heartbeatLua string

var (
	ClaimScript      = publisher(claimLua)
	ExtendScript     = urgent(extendLua)
	CommitScript     = urgent(commitLua)
	FailScript       = urgent(failLua)
	ConnectScript    = urgent(connectLua)
	DisconnectScript = urgent(disconnectLua)
	RejectScript     = publisher(rejectLua)
	RestoreScript    = urgent(restoreLua)
	WarnScript       = publisher(warnLua)
	AgainScript      = publisher(againLua)
	UnreadScript     = allowOOM(unreadLua)
	TouchScript      = script(touchLua)
	ResealScript     = script(resealLua)
	CompactScript    = script(compactLua)
	DueScript        = script(dueLua)
	DueSetScript     = script(dueSetLua)
	ProofScript      = script(proofLua)
	TripScript       = appScript(tripLua)
	ProbeScript      = appScript(probeLua)
	UnprobeScript    = appScript(unprobeLua)
	AcceptScript     = appScript(acceptLua)
	ThrottleScript   = appScript(throttleLua)
	BrakeScript      = appScript(brakeLua)
	DeathScript      = appScript(deathLua)
	RetryScript      = appScript(retryLua)
	EnterScript      = script(enterLua)
	LeaveScript      = appScript(leaveLua)
	AppLostScript    = appScript(appLostLua)
	AcceptLossScript = appScript(acceptLossLua)
	FailingScript    = appScript(failingLua)
	StalledScript    = publisher(stalledLua)
	fitScript        = redis.NewScript(fitLua)
	heartbeatScript  = redis.NewScript(heartbeatLua)
)

func script(body string) *redis.Script { return redis.NewScript(common + body) }

// publisher is a script that publishes: to be run by [Grant.publish].
func publisher(body string) *redis.Script { return redis.NewScript(common + publishing + body) }

// urgent is a publisher that stores what may be the only copy of something, or ends what must end.
func urgent(body string) *redis.Script { return allowOOM(common + publishing + body) }

// allowOOM is a script that runs on a Redis that is out of memory, too.
func allowOOM(text string) *redis.Script {
	s := redis.NewScript("#!lua flags=allow-oom\n" + text)
	bare[s] = redis.NewScript(text)
	return s
}

// bare are such scripts without their first line, for a server to which that is an error: an
// embedded one for tests.
var bare = map[*redis.Script]*redis.Script{}

// MaxAhead is how far ahead, in ms, a time in an app's state can lie at most. For so long a host is remembered of
// which nothing changes.
const MaxAhead = 24 * 60 * 60 * 1000

// MaxFields is the most fields that an app's state has.
const MaxFields = 500

// appScript is a publisher that is about an app.
func appScript(body string) *redis.Script { return publisher(aboutApps + body) }

// Publish runs a script that publishes. What it stores is stored also where Redis does not let this
// client publish: then the others hear of it when they read.
func (st *Store) Publish(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	return st.noteUnpublished(st.Eval(ctx, s, keys, append(args, st.Proof(ctx))...), keys)
}

// noteUnpublished logs, once, what a script says of its PUBLISH.
func (st *Store) noteUnpublished(cmd *redis.Cmd, keys []string) *redis.Cmd {
	if got, err := cmd.Slice(); err == nil && len(got) > 4 && got[4] != "" && !st.saidUnpublished.Swap(true) {
		why, _ := got[4].(string)
		st.log.Error().Str("redis_error", why).Str("key", keys[0]).Str("channels", "&"+string(st.Names)+":*").
			Msg("stored, but the other processes were not told: Redis does not let this user publish; allow +publish and the channels")
	}
	return cmd
}

// Eval runs a script, without its first line where the server does not know such a line.
func (st *Store) Eval(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	without, flagged := bare[s]
	if flagged && st.plainLua.Load() {
		return st.runScript(ctx, without, keys, args...)
	}
	cmd := st.runScript(ctx, s, keys, args...)
	if flagged && cmd.Err() != nil && strings.Contains(cmd.Err().Error(), "Error compiling script") {
		st.plainLua.Store(true)
		return st.runScript(ctx, without, keys, args...)
	}
	return cmd
}

// runScript runs a script by its text the first time that this process does, since Redis may not
// know it, and by its hash from then on.
func (st *Store) runScript(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	if _, sent := st.sent.LoadOrStore(s.Hash(), struct{}{}); !sent {
		return s.Eval(ctx, st.Redis, keys, args...)
	}
	return s.Run(ctx, st.Redis, keys, args...)
}

// Reply is what Redis said about one grant, as it came.
type Reply struct {
	Status string
	Now    int64     // Redis' time, unix ms
	Told   bool      // it has told the time; else that is what this process knows it to be
	Doubt  mono.Time // not told: by how much now may be too late
	Text   string    // the record: one line a field
	Values []any     // or its values alone, in the order of fields
	Sealed string    // the pair; "" for none
	Kinds  []string  // of changes that were told to those who watch the app's grants

	Damaged error
}

// NewID returns an id for one state change. A repeat with the same id, by us or by
// go-redis after a lost reply, is answered like the first.
func NewID() string { return rand.Text()[:16] }

// ScriptReply reads what reply (publish.lua) returns.
func ScriptReply(got []any) (Reply, error) {
	if len(got) != 6 {
		return Reply{}, fmt.Errorf("script answered %d values, not 6", len(got))
	}
	r := Reply{Told: true}
	r.Status, _ = got[0].(string)
	now, _ := got[1].(string)
	r.Text, _ = got[2].(string)
	r.Sealed, _ = got[3].(string)
	kinds, _ := got[5].(string)
	r.Kinds = strings.Fields(kinds)
	var err error
	if r.Now, err = strconv.ParseInt(now, 10, 64); err != nil {
		return Reply{}, errors.New("script answered no time")
	}
	switch r.Status {
	case "damaged":
		return Reply{}, grant.ErrDamaged
	case "newer":
		return Reply{}, grant.ErrNewer
	}
	return r, nil
}

// Record fills in a record; known is false if Redis has none.
func (r Reply) Record(to *grant.Record) (known bool, err error) {
	if known = r.Text != ""; known {
		err = to.Parse(r.Text)
	}
	for i := 0; i < len(r.Values) && err == nil; i++ {
		if value, ok := r.Values[i].(string); ok { // nil: there is no such field
			known, err = true, grant.Fields[i].Set(to, value)
		}
	}
	return known, err
}
