package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/server"
)

// A connection that stands, to a server that answers, proves nothing.
func TestASessionBeginsWithItsFirstHeartbeat(t *testing.T) {
	t.Parallel()
	old, now := redistest.Own(t), redistest.Own(t)
	proxy := redistest.NewProxy(t, now.Addr())
	rdb := now.ClientWith(t, func(o *redis.Options) { o.Addr, o.PoolSize, o.PipelinePoolSize = proxy.Addr(), 1, 1 })
	c := newCache(t, rdb, "tl")
	connect(t, newCache(t, now.Client(t), "tl"), acme, 1)
	read(t, c, acme) // its connections for commands stand
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	proxy.Move(old.Addr()) // the subscriber's
	p := c.Grant(acme).Pin()
	defer p.Unpin()
	for range 3 {
		if err := p.Confirm(t.Context()); !errors.Is(err, hub.ErrSubscriber) {
			t.Fatalf("Confirm says %v", err)
		}
		if _, err := c.Grant(acme).Read(t.Context()); err == nil && c.Grant(acme).Peek() != nil {
			t.Fatal("coherent, and it listens to another server")
		}
	}
	proxy.Move(now.Addr())
	confirm(t, p)
	read(t, c, acme)
	if c.Grant(acme).Peek() == nil {
		t.Error("not coherent")
	}
}

// A heartbeat that nobody hears where it is sent to ends the session at once, not after six seconds.
func TestASessionOnAnotherServerEndsAtOnce(t *testing.T) {
	t.Parallel()
	first, other := redistest.Own(t), redistest.Own(t)
	proxy := redistest.NewProxy(t, first.Addr())
	c := newCache(t, first.ClientWith(t, func(o *redis.Options) {
		o.Addr, o.ConnMaxLifetime = proxy.Addr(), 100*time.Millisecond // commands move, the subscriber stays
	}), "tl")
	connect(t, c, acme, 1)
	hot(t, c, acme)
	proxy.Move(other.Addr())
	clock := redistest.StartStopwatch(t)
	eventually(t, "the session to end", patience, func() bool { return c.Grant(acme).Peek() == nil })
	if took, over := clock.Over(hub.BeatEvery + hub.Overtaken + 2*time.Second); over {
		t.Errorf("after %v", took)
	}
	eventually(t, "the reason", patience, func() bool {
		return errors.Is(c.hub.Why(), hub.ErrElsewhere) || errors.Is(c.hub.Why(), server.ErrReplaced)
	})
}

// A connection for commands that still leads to the old master, a replica by now, takes heartbeats, and nobody
// hears them there. A process that writes nothing must not stay with it.
func TestAProcessLeavesAServerThatBecameAReplicaBeforeItListened(t *testing.T) {
	t.Parallel()
	old := redistest.Own(t, redistest.Set("repl-diskless-sync-delay", "0")) // else the replica waits five seconds
	host, port, _ := net.SplitHostPort(old.Addr())
	next := redistest.Own(t, redistest.Set("replicaof", host, port))
	proxy := redistest.NewProxy(t, old.Addr())
	rdb := old.ClientWith(t, func(o *redis.Options) { o.Addr, o.PoolSize, o.PipelinePoolSize = proxy.Addr(), 1, 1 })
	connect(t, newCache(t, old.Client(t), "tl"), acme, 1)
	has := func(s *redistest.Server, line string) {
		t.Helper()
		eventually(t, line, patience, func() bool {
			return strings.Contains(s.Client(t).Info(t.Context(), "replication").Val(), line)
		})
	}
	has(next, "master_link_status:up")
	eventually(t, "the replica to have the grant", patience, func() bool {
		return next.Client(t).DBSize(t.Context()).Val() == old.Client(t).DBSize(t.Context()).Val()
	})
	if err := rdb.Ping(t.Context()).Err(); err != nil { // its connection for commands stands
		t.Fatal(err)
	}
	if err := next.Client(t).Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	host, port, _ = net.SplitHostPort(next.Addr())
	if err := old.Client(t).Do(t.Context(), "REPLICAOF", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	has(old, "master_link_status:up")
	proxy.Move(next.Addr())
	hot(t, newCache(t, rdb, "tl"), acme)
}

// Where commands get no answer, memory is as good as with a Redis that is away.
func TestWithoutAWayForCommandsMemoryIsNotCoherentAndStaysValid(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	proxy := redistest.NewProxy(t, server.Addr())
	c := newCache(t, server.ClientWith(t, func(o *redis.Options) {
		o.Addr, o.ConnMaxLifetime, o.MaxRetries = proxy.Addr(), 100*time.Millisecond, -1
	}), "tl")
	connect(t, c, acme, 1)
	hot(t, c, acme)
	proxy.Refuse() // new connections; the subscriber's is well
	watch := redistest.StartStopwatch(t)
	eventually(t, "the session to end", patience, func() bool { return c.Grant(acme).Peek() == nil })
	if took, over := watch.Over(hub.SilentFor + 2*time.Second); over {
		t.Errorf("after %v", took)
	}
	if s := c.Grant(acme).Recall(); s == nil || !s.Valid() {
		t.Error("the token that is still valid is forgotten")
	}
	proxy.Accept()
	eventually(t, "memory to be coherent again", patience, func() bool {
		_, _ = c.Grant(acme).Read(t.Context())
		return c.Grant(acme).Peek() != nil
	})
}

// A user who may not publish is told so, and reads.
func TestAUserWhoMayNotPublishHasNoCoherentMemory(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	acl := []any{"ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all", "-publish"}
	if err := server.Client(t).Do(t.Context(), acl...).Err(); err != nil {
		t.Fatal(err)
	}
	c := newCache(t, server.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "worker", "secret" }), "tl")
	connect(t, c, acme, 1)
	p := c.Grant(acme).Pin()
	defer p.Unpin()
	if err := p.Confirm(t.Context()); err == nil {
		t.Error("believed without a heartbeat")
	}
	if s := read(t, c, acme); s.Generation != 1 {
		t.Error("not read")
	}
}

// What a process costs Redis while nothing happens.
func TestAHeartbeatCostsOneCommandEveryTwoSeconds(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	c := newCache(t, server.Client(t), "tl")
	root := server.Client(t)
	time.Sleep(hub.BeatEvery)
	if n := calls(t, root, "publish"); n != 0 {
		t.Errorf("%d heartbeats with nothing to listen to", n)
	}
	connect(t, c, acme, 1)
	hot(t, c, acme)
	before, start := calls(t, root, "publish"), time.Now()
	time.Sleep(3*hub.BeatEvery + hub.BeatEvery/2)
	got, most := calls(t, root, "publish")-before, int(time.Since(start)/hub.BeatEvery)+1
	if got < 2 || got > most {
		t.Errorf("%d heartbeats, want 3", got)
	}
	if n := calls(t, root, "ping"); n != 0 {
		t.Errorf("%d PINGs", n)
	}
}

// A claim is judged where it is made: commands can come to another server at any time.
func TestAClaimIsRefusedByAServerThatWasNotJudged(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	c := newCache(t, server.Client(t), "tl")
	s := connect(t, c, acme, 1)
	judged, _, doubtful, err := c.Grant(s.Key).MayHaveLost(t.Context(), s)
	if err != nil || doubtful {
		t.Fatal(doubtful, err)
	}
	// It gets another history: a replica of another for a moment, as one that is promoted.
	root, other := server.Client(t), redistest.Own(t)
	host, port, _ := net.SplitHostPort(other.Addr())
	if err := root.ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	if err := root.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if root.Exists(t.Context(), c.Grant(acme).keys().Grant()).Val() == 0 { // it had synced already
		connect(t, c, acme, 1)
		s = read(t, c, acme)
		judged = memory.JudgedOn(judged.Judged(), s)
	}
	outcome, got, err := c.Grant(judged.Key).As("a").Claim(t.Context(), judged, NewID(), time.Minute, grant.AfterDeadline)
	if err != nil || outcome != grant.OutcomeReplaced || got.Claim.Unresolved() {
		t.Fatalf("%s %v", outcome, err)
	}
	again, left, doubtful, err := c.Grant(s.Key).MayHaveLost(t.Context(), aged(s))
	if err != nil || !doubtful || left <= 0 || again.Judged() == judged.Judged() {
		t.Errorf("the server is not judged anew: %v %v %v", left, doubtful, err)
	}
	own := memory.JudgedOn(again.Judged(), s)
	if outcome, _, err := c.Grant(own.Key).As("a").Claim(t.Context(), own, NewID(), time.Minute, grant.AfterDeadline); err != nil || outcome != grant.OutcomeOK {
		t.Errorf("the claim where it was judged: %s %v", outcome, err)
	}
}

// A server that is made a replica and promoted again keeps its connections.
func TestAServerThatIsPromotedInPlaceIsNoticed(t *testing.T) {
	t.Parallel()
	first, other := redistest.Own(t), redistest.Own(t)
	c := newCache(t, first.Client(t), "tl")
	connect(t, c, acme, 1)
	hot(t, c, acme)
	eventually(t, "the server to be known", patience, func() bool { return c.servers.Known("") != nil })
	session := c.hub.Session()
	root := first.Client(t)
	host, port, _ := net.SplitHostPort(other.Addr())
	for _, step := range [][2]string{{host, port}, {"NO", "ONE"}} {
		if err := root.ReplicaOf(t.Context(), step[0], step[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	watch := redistest.StartStopwatch(t)
	eventually(t, "a new session", patience, func() bool {
		now := c.hub.Session()
		return now != session && now%2 == 0
	})
	if took, over := watch.Over(10 * time.Second); over {
		t.Errorf("after %v", took)
	}
	if _, left, _, err := c.Grant(acme).MayHaveLost(t.Context(), read(t, c, acme)); err != nil || left <= 0 || left > server.ReunionAfterFailover {
		t.Errorf("%s left, %v", left, err)
	}
}

// A server that has just started is waited with for others who may know better: no shorter by what its word about
// its age takes to come.
func TestASlowReplyMakesNoServerOlder(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	near := newCache(t, server.Client(t), "tl")
	base := connect(t, near, acme, 1)
	proxy := redistest.NewProxy(t, server.Addr())
	far := newCache(t, server.ClientWith(t, func(o *redis.Options) { o.Addr, o.ReadTimeout = proxy.Addr(), time.Minute }), "tl")
	left := func(c *Cache) time.Duration {
		_, left, _, err := c.Grant(acme).MayHaveLost(t.Context(), base)
		if err != nil {
			t.Error(err)
		}
		return left
	}
	proxy.Freeze()
	slow := make(chan time.Duration, 1)
	go func() { slow <- left(far) }()
	time.Sleep(4 * time.Second) // the network's
	proxy.Thaw()
	if late, now := <-slow, left(near); late < now-2*time.Second { // it tells whole seconds
		t.Errorf("by a slow reply others have %v to come back, by a fast one %v", late, now)
	}
}

// The clock of the replica that takes over may go behind the master's by seconds.
func TestAYoungServerIsNotBelievedThoughItsClockIsBehind(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	replid := strings.Repeat("a", 40)
	for _, k := range []struct {
		behind   time.Duration // the new server's clock
		promoted bool
		doubted  bool
	}{
		{behind: 0, promoted: true, doubted: true},
		{behind: 20 * time.Second, promoted: true, doubted: true},
		{behind: -20 * time.Second, promoted: true, doubted: true},
		{behind: 20 * time.Second, doubted: false}, // it has started: the clock is the same as before
	} {
		s := connect(t, c, acme, 1)
		changed := s.ChangedAt()
		now := changed + 5000 - k.behind.Milliseconds() // five seconds after the change
		id := replid + fmt.Sprint(k.behind, k.promoted)
		info := map[string]string{
			"role": "master", "server_time_usec": strconv.FormatInt(1000*now, 10), "uptime_in_seconds": "0",
			"master_replid": id, "master_replid2": strings.Repeat("0", 40),
		}
		if k.promoted {
			info["uptime_in_seconds"], info["master_replid2"] = "9999", replid
		}
		found, err := c.servers.Judge(t.Context(), info, mono.Now())
		if err != nil {
			t.Fatal(err)
		}
		c.servers.Note("", found)
		if _, _, doubtful, err := c.Grant(s.Key).MayHaveLost(t.Context(), s); doubtful != k.doubted || err != nil {
			t.Errorf("%+v: doubted %v, %v", k, doubtful, err)
		}
	}
}

// Ten thousand grants of late are read again in a second or two, though each takes a while.
func TestLateChangesAreReadAgainManyAtATime(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	c := newCache(t, rdb, "tl")
	const grants, each = 320, 50 * time.Millisecond // beside which this machine's own work is little
	for i := range grants {
		k := grant.Key{App: "zoom", Tenant: strconv.Itoa(i)}
		connect(t, c, k, i)
		p := c.Grant(k).Pin()
		read(t, c, k)
		p.Unpin()
	}
	rdb.AddHook(slow(each))
	before := calls(t, rdb, "hmget")
	watch := redistest.StartStopwatch(t)
	if !c.in.ReadAgain(t.Context(), mono.Now()) {
		t.Fatal("not all")
	}
	if n := calls(t, rdb, "hmget") - before; n != grants {
		t.Errorf("%d of %d read", n, grants)
	}
	if took, over := watch.Over(grants * each / 4); over {
		t.Errorf("%v; one after the other it takes %v", took, grants*each)
	}
}

// slow makes each round trip take a while.
type slow time.Duration

func (s slow) DialHook(next redis.DialHook) redis.DialHook { return next }
func (s slow) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return next
}
func (s slow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		time.Sleep(time.Duration(s))
		return next(ctx, cmds)
	}
}

// To go-redis a node that is away says nothing of who has taken its place.
func TestAClusterIsAskedForItsNodesWhenOneDoesNotAnswer(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	c := newCache(t, cluster.Client(t), "tl")
	read := func() (n int) {
		for _, node := range cluster.Nodes {
			n += calls(t, node.Client(t), "cluster|slots")
		}
		return n
	}
	_ = c.rdb.Get(t.Context(), "any").Err()
	before := read()
	for _, err := range []error{nil, redis.Nil, context.Canceled} {
		c.db.NoteError(err)
	}
	time.Sleep(50 * time.Millisecond)
	if n := read() - before; n != 0 {
		t.Errorf("asked %d times without a reason", n)
	}
	for range 100 {
		c.db.NoteError(net.ErrClosed)
	}
	eventually(t, "the nodes to be asked", patience, func() bool { return read() > before })
	time.Sleep(300 * time.Millisecond)
	if n := read() - before; n > 2 {
		t.Errorf("asked %d times in a moment", n)
	}
}
