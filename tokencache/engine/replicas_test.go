package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

const ackWithin = 300 * time.Millisecond

var (
	one = Replicas(1, ackWithin)
	// follows is for a replica that is there, on a busy machine.
	follows = Replicas(1, 10*time.Second)
)

// replicated is two caches on one master, each with connections that have written, and whose writes the replica has.
func replicated(t *testing.T) (fo *redistest.Failover, caches [2]*Cache) {
	t.Helper()
	fo = redistest.StartFailover(t)
	for i := range caches {
		c := newCache(t, fo.Client(t), "tl")
		warm(t, c)
		caches[i] = c
	}
	return fo, caches
}

// warm makes connections, several at once, whose writes the replica has acknowledged.
func warm(t *testing.T, c *Cache) {
	t.Helper()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			_, err := c.rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				p.Set(t.Context(), "warm", "1", 0)
				_ = p.Process(t.Context(), redis.NewIntCmd(t.Context(), "WAIT", 2, 100)) // so that no other takes this one
				return p.Process(t.Context(), redis.NewIntCmd(t.Context(), "WAIT", 1, 5000))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// A change that is repeated by another connection, or by another process, says what the first attempt
// has done, and must not be taken for acknowledged by that.
func TestARepeatWaitsForTheReplicasToo(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, c *Cache) (change func(c *Cache) error){
		"connect": func(t *testing.T, _ *Cache) func(*Cache) error {
			return func(c *Cache) error {
				_, err := c.Grant(acme).As("x").Connect(t.Context(), pairNo(1), one)
				return err
			}
		},
		"import": func(t *testing.T, _ *Cache) func(*Cache) error {
			return func(c *Cache) error {
				_, err := c.Grant(acme).As("x").Import(t.Context(), pairNo(1), one)
				if errors.Is(err, ErrExists) {
					return nil
				}
				return err
			}
		},
		"disconnect": func(t *testing.T, c *Cache) func(*Cache) error {
			connect(t, c, acme, 1)
			return func(c *Cache) error { return c.Grant(acme).As("x").Disconnect(t.Context(), one) }
		},
		"claim": func(t *testing.T, c *Cache) func(*Cache) error {
			base, id := connect(t, c, acme, 1), NewID()
			return func(c *Cache) error {
				_, _, err := c.Grant(base.Key).As("x").Claim(t.Context(), base, id, time.Minute, grant.AfterDeadline, one)
				return err
			}
		},
		"commit": func(t *testing.T, c *Cache) func(*Cache) error {
			base, id := claim(t, c, connect(t, c, acme, 1), "x"), NewID()
			return func(c *Cache) error {
				_, _, err := c.Grant(base.Key).As("x").Commit(t.Context(), base, id, pairNo(2)(base.At()), false, false, one)
				return err
			}
		},
		"commit of what has moved on since": func(t *testing.T, c *Cache) func(*Cache) error {
			base, id := claim(t, c, connect(t, c, acme, 1), "x"), NewID()
			return func(c *Cache) error {
				o, now, err := c.Grant(base.Key).As("x").Commit(t.Context(), base, id, pairNo(2)(base.At()), false, false, one)
				if o == grant.OutcomeOK && now == nil {
					now = read(t, c, acme)
					claimed := claim(t, c, now, "y")
					_, _, failed := c.Grant(claimed.Key).As("y").Fail(t.Context(), claimed, grant.Failure{ID: NewID(), Verdict: grant.VerdictClear, Error: "unsent//0"})
					if failed != nil {
						t.Error(failed)
					}
				}
				return err
			}
		},
		"any state": func(t *testing.T, c *Cache) func(*Cache) error {
			connect(t, c, acme, 1)
			return func(c *Cache) error { return c.Grant(acme).Acknowledge(t.Context(), one) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fo, caches := replicated(t)
			change := prepare(t, caches[0])
			warm(t, caches[0])
			warm(t, caches[1])
			fo.Replica.Pause(t)
			for i, c := range []*Cache{caches[0], caches[1], caches[0]} {
				if err := change(c); !errors.Is(err, grant.ErrNotReplicated) {
					t.Errorf("attempt %d with a replica that hangs: %v", i+1, err)
				}
			}
			fo.Replica.Resume(t)
			for ctx, err := inTime(t), error(nil); ; {
				if err = change(caches[1]); err == nil {
					break
				}
				if !errors.Is(err, grant.ErrNotReplicated) || ctx.Err() != nil {
					t.Fatalf("with a replica that follows again: %v", err)
				}
			}
			there, err := fo.Replica.Client(t).HGetAll(t.Context(), caches[0].Grant(acme).keys().Grant()).Result()
			if err != nil || there["state"] == "" {
				t.Errorf("the replica has %v, %v", there, err)
			}
		})
	}
}

func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// go-redis repeats a pipeline whose reply was lost, on another connection.
func TestAClaimWhoseReplyWasLostIsAcknowledgedForReal(t *testing.T) {
	t.Parallel()
	fo := redistest.StartFailover(t)
	proxy := redistest.NewProxy(t, fo.Master.Addr())
	c := newCache(t, fo.Master.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() }), "tl")
	claim(t, c, connect(t, c, grant.Key{App: "zoom", Tenant: "first"}, 1), "x") // the server knows the script now
	for _, hangs := range []bool{true, false} {
		base := connect(t, c, grant.Key{App: "zoom", Tenant: "hangs"}, 1)
		if !hangs {
			base = connect(t, c, acme, 1)
		}
		warm(t, c)
		id, acked := NewID(), follows
		if hangs {
			fo.Replica.Pause(t)
			acked = one
		}
		lost := proxy.EatReply(id)
		o, s, err := c.Grant(base.Key).As("x").Claim(t.Context(), base, id, time.Minute, grant.AfterDeadline, acked)
		lost.Await(t)
		switch {
		case hangs && !errors.Is(err, grant.ErrNotReplicated):
			t.Errorf("the replica hangs, and the claim counts: %s, %v", o, err)
		case !hangs && (err != nil || o != grant.OutcomeOK || s.Claim.ID != id):
			t.Errorf("the replica follows: %s, %v", o, err)
		}
		if hangs {
			fo.Replica.Resume(t)
			eventually(t, "the replica to follow", patience, func() bool { return c.Grant(base.Key).Acknowledge(t.Context(), one) == nil })
		}
	}
}

// A script that the server does not know is sent, and a claim that came too late claims nothing: then
// nobody waits.
func TestOnlyAClaimThatIsMadeMustBeAcknowledged(t *testing.T) {
	t.Parallel()
	fo, caches := replicated(t)
	c := caches[0]
	base := connect(t, c, acme, 1)
	newer := commit(t, c, claim(t, c, base, "x"), 2)
	if err := c.rdb.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	o, s, err := c.Grant(newer.Key).As("x").Claim(t.Context(), newer, NewID(), time.Minute, grant.AfterDeadline, follows)
	if err != nil || o != grant.OutcomeOK || !s.Claim.Unresolved() {
		t.Errorf("with an empty script cache: %s, %v", o, err)
	}
	fo.Replica.Pause(t)
	o, s, err = c.Grant(base.Key).As("x").Claim(t.Context(), base, NewID(), time.Minute, grant.AfterDeadline, one)
	if err != nil || o != grant.OutcomeMoved || s.Generation != 2 {
		t.Errorf("of an older generation: %s, %v", o, err)
	}
	o, _, err = c.Grant(newer.Key).As("y").Claim(t.Context(), newer, NewID(), time.Minute, grant.AfterDeadline, one)
	if err != nil || o != grant.OutcomeClaimed {
		t.Errorf("of what another has claimed: %s, %v", o, err)
	}
}

// Claims that wait for a replica which hangs leave connections to those that read, and do not queue
// for what one before them has waited for in vain.
func TestAReplicaThatHangsHoldsUpNoReader(t *testing.T) {
	t.Parallel()
	fo := redistest.StartFailover(t)
	const tenants, within = 60, 2 * time.Second
	rdb := fo.Master.ClientWith(t, func(o *redis.Options) { o.PoolSize, o.PipelinePoolSize = 12, 12 })
	c := newCache(t, rdb, "tl")
	bases := make([]*Snapshot, tenants)
	for i := range bases {
		bases[i] = connect(t, c, grant.Key{App: "zoom", Tenant: string(rune('A' + i))}, 1)
	}
	fo.Replica.Pause(t)
	watch := redistest.StartStopwatch(t)
	var all sync.WaitGroup
	for _, base := range bases {
		all.Go(func() {
			_, _, err := c.Grant(base.Key).As("x").Claim(t.Context(), base, NewID(), time.Minute, grant.AfterDeadline, Replicas(1, within))
			if !errors.Is(err, grant.ErrNotReplicated) {
				t.Error(err)
			}
		})
	}
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		all.Wait()
	}()
	reads := 0
	for done := false; !done; {
		select {
		case <-waiting:
			done = true
		default:
			read(t, c, bases[reads%tenants].Key)
			reads++
		}
	}
	if took, over := watch.Over(4 * within); over {
		t.Errorf("the last claim was given up after %v", took)
	}
	if reads < 20 {
		t.Errorf("%d reads while claims waited", reads)
	}
}

// A Cluster's client learns by the answers of nodes where a key is.
func TestAClusterIsFollowedToTheNodeThatHasTheGrant(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	cluster.AddReplicas(t)
	c := newCache(t, cluster.Client(t), "tl")
	key := c.Grant(acme).keys().Grant()
	base := connect(t, c, acme, 1)
	step := func(what string, id string) {
		t.Helper()
		o, s, err := c.Grant(base.Key).As("x").Claim(t.Context(), base, id, time.Minute, grant.AtOnce, follows)
		if err != nil || o != grant.OutcomeOK || s.Claim.ID != id {
			t.Errorf("%s: %s, %v", what, o, err)
		}
	}
	step("at rest", NewID())
	cluster.Move(t, key)
	step("MOVED", NewID())
	finish := cluster.Migrate(t, key)
	step("ASK", NewID())
	finish()
	step("MOVED after ASK", NewID())
}

func TestAClaimOutlivesTheEndOfItsNode(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	cluster.AddReplicas(t)
	c := newCache(t, cluster.Client(t), "tl")
	base, i := connect(t, c, acme, 1), cluster.Owner(t, c.Grant(acme).keys().Grant())
	id := NewID()
	o, _, err := c.Grant(base.Key).As("x").Claim(t.Context(), base, id, time.Minute, grant.AfterDeadline, follows)
	if err != nil || o != grant.OutcomeOK {
		t.Fatal(o, err)
	}
	cluster.TakeOver(t, i)
	// Nobody replicates what the new master has.
	o, _, err = c.Grant(base.Key).As("x").Claim(t.Context(), base, id, time.Minute, grant.AfterDeadline, one)
	if !errors.Is(err, grant.ErrNotReplicated) {
		t.Errorf("%s, %v", o, err)
	}
	o, _, err = c.Grant(base.Key).As("y").Claim(t.Context(), base, NewID(), time.Minute, grant.AfterDeadline, one)
	if err != nil || o != grant.OutcomeClaimed {
		t.Errorf("of another: %s, %v", o, err)
	}
}

// The client must not give up a pipeline, and repeat it, that waits for a replica.
func TestAWaitEndsBeforeItsClientGivesUp(t *testing.T) {
	t.Parallel()
	fo := redistest.StartFailover(t)
	rdb := fo.Master.ClientWith(t, func(o *redis.Options) { o.ReadTimeout = time.Second })
	c := newCache(t, rdb, "tl")
	base := connect(t, c, acme, 1)
	fo.Replica.Pause(t)
	_, _, err := c.Grant(base.Key).As("x").Claim(t.Context(), base, NewID(), time.Minute, grant.AfterDeadline, Replicas(1, time.Minute))
	if !errors.Is(err, grant.ErrNotReplicated) || !strings.Contains(err.Error(), "0 of 1") {
		t.Error(err)
	}
}
