package engine

import (
	"cmp"
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

//go:embed lua/fit.lua
var fitLua string

//go:embed lua/heartbeat.lua
var heartbeatLua string

var (
	claimScript      = publisher(claimLua)
	extendScript     = urgent(extendLua)
	commitScript     = urgent(commitLua)
	failScript       = urgent(failLua)
	connectScript    = urgent(connectLua)
	disconnectScript = urgent(disconnectLua)
	rejectScript     = publisher(rejectLua)
	restoreScript    = urgent(restoreLua)
	warnScript       = publisher(warnLua)
	againScript      = publisher(againLua)
	unreadScript     = allowOOM(unreadLua)
	touchScript      = script(touchLua)
	compactScript    = script(compactLua)
	dueScript        = script(dueLua)
	dueSetScript     = script(dueSetLua)
	proofScript      = script(proofLua)
	tripScript       = appScript(tripLua)
	probeScript      = appScript(probeLua)
	unprobeScript    = appScript(unprobeLua)
	acceptScript     = appScript(acceptLua)
	throttleScript   = appScript(throttleLua)
	brakeScript      = appScript(brakeLua)
	deathScript      = appScript(deathLua)
	retryScript      = appScript(retryLua)
	enterScript      = script(enterLua)
	leaveScript      = appScript(leaveLua)
	appLostScript    = appScript(appLostLua)
	acceptLossScript = appScript(acceptLossLua)
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

// appScript is a publisher that is about an app.
func appScript(body string) *redis.Script { return publisher(aboutApps + body) }

// publish runs a script that publishes. What it stores is stored also where Redis does not let this
// client publish: then the others hear of it when they read.
func (st *store) publish(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	return st.told(st.eval(ctx, s, keys, append(args, st.proof(ctx))...), keys)
}

// told logs what a script says of its PUBLISH.
func (st *store) told(cmd *redis.Cmd, keys []string) *redis.Cmd {
	if got, err := cmd.Slice(); err == nil && len(got) == 5 {
		why, _ := got[4].(string)
		st.log.Error().Str("redis_error", why).Str("key", keys[0]).
			Msg("stored, but the other processes were not told: Redis does not let this user publish; allow +publish and the channels &" + string(st.names) + ":*")
	}
	return cmd
}

// eval runs a script, without its first line where the server does not know such a line.
func (st *store) eval(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
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
func (st *store) runScript(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	if _, sent := st.sent.LoadOrStore(s.Hash(), struct{}{}); !sent {
		return s.Eval(ctx, st.rdb, keys, args...)
	}
	return s.Run(ctx, st.rdb, keys, args...)
}

// NewID returns an id for one state change. A repeat with the same id, by us or by
// go-redis after a lost reply, is answered like the first.
func NewID() string { return rand.Text()[:16] }

// answer is what a script returned, parsed.
type answer struct {
	status string
	now    int64     // Redis' time, unix ms
	sent   mono.Time // when the request was
	snap   *Snapshot // nil when there is no record
	// session in which the grant was subscribed when the request was sent; 0 none
	session uint64

	damaged error  // the record cannot be true; snap is nil
	lacks   error  // the acknowledgement that was wanted
	sealed  string // the pair that came with no record
}

// reply is what Redis said about one grant, as it came.
type reply struct {
	status string
	now    int64  // Redis' time, unix ms
	told   bool   // it has told the time; else that is what this process knows it to be
	text   string // the record: one line a field
	values []any  // or its values alone, in the order of fields
	sealed string // the pair; "" for none

	damaged error
}

// run runs a script about one grant.
func (g Grant) run(ctx context.Context, op string, s *redis.Script, keys []string, args ...any) (answer, error) {
	return g.roundTrip(ctx, op, func() (reply, error) {
		got, err := g.c.db.publish(ctx, s, keys, args...).Slice()
		if err != nil {
			return reply{}, err
		}
		return scriptReply(got)
	})
}

// roundTrip asks Redis about one grant. The snapshot's clock starts before the request
// was sent, so that no deadline seems later than it is.
func (g Grant) roundTrip(ctx context.Context, op string, ask func() (reply, error)) (answer, error) {
	if err := g.key.Validate(); err != nil {
		return answer{}, err
	}
	home, session := g.home()
	mono.Wake()
	sent := mono.Now()
	r, err := ask()
	g.c.db.unanswered(err)
	if lostReply(err) {
		err = g.c.db.closedAt(ctx, err)
	}
	var a answer
	switch {
	case err == nil:
		a, err = g.parse(r, sent)
	case context.Cause(ctx) != nil:
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	if err != nil {
		return answer{}, fmt.Errorf("tokencache: %s %s: %w", op, g.key, err)
	}
	a.session = session
	if a.snap != nil {
		a.snap.home, a.snap.session = home, session
	}
	if a.damaged != nil {
		a.damaged = fmt.Errorf("tokencache: %s %s: %w", op, g.key, a.damaged)
	}
	return a, nil
}

// home is the grant's place in memory, and the session in which it is subscribed.
func (g Grant) home() (*entry, uint64) {
	e, ok := g.c.hot.load(g.key)
	if !ok {
		return nil, 0
	}
	return e, g.c.hub.SessionOf(e.channel)
}

// scriptReply reads {status, now, record, sealed pair}, and perhaps why nothing was published.
func scriptReply(got []any) (reply, error) {
	if len(got) != 4 && len(got) != 5 {
		return reply{}, fmt.Errorf("script answered %d values, not 4", len(got))
	}
	r := reply{told: true}
	r.status, _ = got[0].(string)
	now, _ := got[1].(string)
	r.text, _ = got[2].(string)
	r.sealed, _ = got[3].(string)
	var err error
	if r.now, err = strconv.ParseInt(now, 10, 64); err != nil {
		return reply{}, errors.New("script answered no time")
	}
	switch r.status {
	case "damaged":
		return reply{}, grant.ErrDamaged
	case "newer":
		return reply{}, grant.ErrNewer
	}
	return r, nil
}

func (g Grant) parse(r reply, sent mono.Time) (answer, error) {
	at := sent
	if r.told {
		at = g.c.clock.observe(sent, mono.Now(), r.now)
	}
	a := answer{status: r.status, now: r.now, sent: sent}
	s := &Snapshot{Key: g.key, now: r.now, at: at}
	known, err := r.record(&s.Record)
	if err == nil && known {
		err = s.Check(r.now)
	}
	if err = cmp.Or(r.damaged, err); errors.Is(err, grant.ErrDamaged) {
		a.damaged, err = err, nil
		return a, nil
	}
	if err != nil || !known {
		a.sealed = r.sealed
		return a, err
	}
	s.behind = g.c.clock.behind(&s.Record, r.now)
	if r.sealed != "" {
		s.Pair, s.Err = g.c.sealer.Open(g.key, s.Epoch, s.Generation, []byte(r.sealed))
	}
	a.snap = s
	return a, nil
}

// record fills in a record; known is false if Redis has none.
func (r reply) record(to *grant.Record) (known bool, err error) {
	if known = r.text != ""; known {
		err = to.Parse(r.text)
	}
	for i := 0; i < len(r.values) && err == nil; i++ {
		if value, ok := r.values[i].(string); ok { // nil: there is no such field
			known, err = true, grant.Fields[i].Set(to, value)
		}
	}
	return known, err
}
