package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// parted is a fleet of two, before its first refresh, on a master whose replica hears of
// nothing any more.
func parted(t *testing.T) (f *fleet, fo *redistest.Failover, warm []*worker) {
	t.Helper()
	f, fo = newFleet(t, refreshtest.Config{}), redistest.StartFailover(t)
	warm = []*worker{f.workerOn(fo.Client(t)), f.workerOn(fo.Client(t))}
	f.connect(warm[0], "acme", true)
	f.listens(warm[1], "acme")
	fo.Part(t)
	return f, fo, warm
}

func (f *fleet) listens(w *worker, tenant string) {
	f.t.Helper()
	pin := w.cache.Grant(key(tenant)).Pin()
	f.t.Cleanup(pin.Unpin)
	if err := pin.Confirm(f.ctx()); err != nil {
		f.t.Fatal(err)
	}
}

// lostCommit goes on with a commit, of which both hear, and the end of who made it and of the
// master: Redis has generation 1 then, whose refresh token is spent.
func lostCommit(t *testing.T) (f *fleet, fo *redistest.Failover, remembers *worker) {
	t.Helper()
	f, fo, warm := parted(t)
	f.token(warm[0], "acme")
	f.knows(warm[1], "acme", 2)
	if err := warm[0].Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	fo.Fail(t)
	return f, fo, warm[1]
}

// field waits until Redis has a value in a grant's record.
func (f *fleet) field(rdb *redis.Client, name string, ok func(string) bool) {
	f.t.Helper()
	ctx := f.ctx()
	for !ok(rdb.HGet(ctx, f.prefix+":{zoom:acme}:grant", name).Val()) {
		if ctx.Err() != nil {
			f.t.Fatalf("%s stays as it is", name)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// exchanged asserts what the provider has seen in the end.
func (f *fleet) exchanged(w *worker, n int) {
	f.t.Helper()
	f.lawful(w, "acme")
	if got := f.server.Ledger().Exchanges(); got != n {
		f.t.Errorf("%d exchanges, want %d", got, n)
	}
}

func TestAProcessThatRemembersGivesBackUnaskedWhatAFailoverLost(t *testing.T) {
	t.Parallel()
	f, fo, remembers := lostCommit(t)
	f.field(fo.Replica.Client(t), "gen", func(gen string) bool { return gen == "2" })
	for ctx := f.ctx(); ; time.Sleep(50 * time.Millisecond) {
		err := remembers.Refresh(ctx, "acme")
		if err == nil {
			break
		}
		if !errors.Is(err, refresh.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	f.exchanged(remembers, 2)
}

// A process that remembers nothing must not believe what Redis says after a failover, whoever
// it is that knows better.
func TestACallerAfterAFailoverWaitsForTheOtherProcesses(t *testing.T) {
	t.Parallel()
	f, fo, _ := lostCommit(t)
	cold := f.workerOn(fo.Client(t))
	awaitToken(t, f, cold, "acme")
	f.exchanged(cold, 1)
}

// A claim can be lost, too, while its holder waits for the provider.
func TestACallerAfterAFailoverWaitsForTheHolderOfALostClaim(t *testing.T) {
	t.Parallel()
	f, fo, warm := parted(t)
	gate := f.server.Hold(refreshtest.AfterCommit)
	done := make(chan error, 2)
	token := func(w *worker) {
		_, err := w.Token(f.ctx(), "acme")
		done <- err
	}
	go token(warm[0])
	gate.Await(t)
	fo.Fail(t)
	cold := f.workerOn(fo.Client(t))
	go token(cold)
	f.field(fo.Replica.Client(t), "claim_id", func(id string) bool { return id != "" })
	gate.Release()
	for range 2 {
		if err := <-done; err != nil && !errors.Is(err, refresh.ErrUnavailable) {
			t.Error(err)
		}
	}
	awaitToken(t, f, cold, "acme")
	f.exchanged(cold, 1)
}

// restarted is a fleet whose Redis starts again from a file, made before the first refresh or
// after it, and whose only process remembers the refresh.
func restarted(t *testing.T, saveFirst bool) (f *fleet, rewind func(), remembers *worker) {
	t.Helper()
	f = newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	warm := []*worker{f.worker(), f.worker()}
	f.connect(warm[0], "acme", true)
	f.listens(warm[1], "acme")
	save := func() {
		if err := warm[0].rdb.Save(f.ctx()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if saveFirst {
		save()
	}
	time.Sleep(1100 * time.Millisecond) // Redis tells its age in whole seconds
	name := f.prefix + ":{zoom:acme}:"
	record, secret := warm[0].rdb.HGetAll(f.ctx(), name+"grant").Val(), warm[0].rdb.Get(f.ctx(), name+"secret").Val()
	rewind = func() {
		_, err := warm[1].rdb.TxPipelined(f.ctx(), func(p redis.Pipeliner) error {
			p.Del(f.ctx(), name+"grant")
			p.HSet(f.ctx(), name+"grant", record)
			return p.Set(f.ctx(), name+"secret", secret, 0).Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	f.token(warm[0], "acme")
	f.knows(warm[1], "acme", 2)
	if !saveFirst {
		save()
	}
	if err := warm[0].Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	f.redis.Restart(t)
	return f, rewind, warm[1]
}

// A server that starts again from an old file is as good as a replica that lags.
func TestARestartFromAnOldFileCostsNoPair(t *testing.T) {
	t.Parallel()
	f, _, _ := restarted(t, true)
	cold := f.worker()
	awaitToken(t, f, cold, "acme")
	f.exchanged(cold, 1)
}

// What nobody gives back unasked, such as a change of long ago, is asked for.
func TestACallerAfterARestartAsksTheOtherProcesses(t *testing.T) {
	t.Parallel()
	f, rewind, remembers := restarted(t, false)
	for ctx := f.ctx(); remembers.cache.Grant(key("acme")).Peek() == nil && ctx.Err() == nil; {
		_, _ = remembers.Token(ctx, "acme") // until it is connected again, and has read
	}
	rewind()
	cold := f.worker()
	awaitToken(t, f, cold, "acme")
	f.exchanged(cold, 1)
}

// Keys of a grant are on two nodes for a moment, while its slot moves.
func TestASlotThatMovesCostsNoPair(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	cluster := redistest.StartCluster(t)
	workers := []*worker{f.workerOn(cluster.Client(t)), f.workerOn(cluster.Client(t))}
	f.connect(workers[0], "acme", false)
	moved := make(chan struct{})
	var all sync.WaitGroup
	for _, w := range workers {
		all.Go(func() {
			for done := false; !done; {
				select {
				case <-moved:
					done = true // once more, on the new node
				default:
				}
				if err := w.Refresh(f.ctx(), "acme"); err != nil && !errors.Is(err, refresh.ErrUnavailable) {
					t.Error(err)
				}
				if tok, err := w.Token(f.ctx(), "acme"); err != nil && !errors.Is(err, refresh.ErrUnavailable) {
					t.Error(tok, err)
				}
			}
		})
	}
	for range 3 {
		cluster.Move(t, f.prefix+":{zoom:acme}:grant")
	}
	close(moved)
	all.Wait()
	awaitToken(t, f, workers[0], "acme")
	f.lawful(workers[1], "acme")
	t.Logf("%d exchanges", f.server.Ledger().Exchanges())
}

// failovers are the ways in which a replica takes the master's place. After all but the last the old
// master goes on, for seconds or for good, and answers whoever stays with it.
var failovers = map[string]func(*redistest.Failover, testing.TB){
	"planned":                   (*redistest.Failover).Plan,
	"the Sentinel alone parted": (*redistest.Failover).PartSentinel,
	"a master that goes silent": (*redistest.Failover).Silence,
	"a master that dies":        (*redistest.Failover).Fail,
}

// refreshed has a worker force a refresh, as often as it takes.
func (f *fleet) refreshed(w *worker, tenant string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second) // a failover takes ten of them
	defer cancel()
	for ; ; time.Sleep(20 * time.Millisecond) {
		err := w.Refresh(ctx, tenant)
		if err == nil {
			return
		}
		if !errors.Is(err, refresh.ErrUnavailable) || ctx.Err() != nil {
			f.t.Fatal(err)
		}
	}
}

// neverStale asserts that a worker serves what another has just replaced no longer than for a time: by a consent,
// which waits for nobody.
func (f *fleet) neverStale(a, b *worker, tenant string, most time.Duration) {
	f.t.Helper()
	tok, ctx := f.server.Grant(tenant), f.ctx()
	for b.Connect(ctx, tenant, tok) != nil && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond) // commands are on their way to the new master
	}
	for clock := redistest.StartStopwatch(f.t); ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if got, err := a.Token(ctx, tenant); err == nil && got.AccessToken == tok.AccessToken {
			took, over := clock.Over(most)
			f.t.Logf("stale for %v", took)
			if over {
				f.t.Errorf("what was replaced was served for %v", took)
			}
			return
		}
	}
	f.t.Fatal("what was replaced is served for ever")
}

// stalest is the age of memory that docs/promises.md allows, and a second to notice it.
const stalest = 6*time.Second + time.Second

// What a process remembers is never older than the silence that it bears, wherever it listens.
func TestMemoryIsNeverStaleForLongAfterAFailover(t *testing.T) {
	t.Parallel()
	for name, failover := range failovers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, fo := newFleet(t, refreshtest.Config{}), redistest.StartFailover(t)
			a, b := f.workerOn(fo.Client(t)), f.workerOn(fo.Client(t))
			f.connect(a, "acme", false)
			f.hot(a, "acme")
			for ctx := f.ctx(); fo.Replica.Client(t).Exists(ctx, f.prefix+":{zoom:acme}:grant").Val() == 0 && ctx.Err() == nil; {
				time.Sleep(time.Millisecond) // until it has the grant
			}
			failover(fo, t)
			f.neverStale(a, b, "acme", stalest)
		})
	}
}

// A process that has been up since before the failover, and remembers nothing of this grant, is as
// dangerous as a new one.
func TestAfterAFailoverNobodyPresentsWhatOthersRememberAsSpent(t *testing.T) {
	t.Parallel()
	for name, failover := range failovers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, fo, warm := parted(t)
			cold := f.workerOn(fo.Client(t))
			f.connect(warm[0], "other", false)
			f.hot(cold, "other")
			f.refreshed(cold, "other") // it has judged the server by now
			f.token(warm[0], "acme")
			f.knows(warm[1], "acme", 2)
			before := f.server.Ledger().Exchanges()
			failover(fo, t)
			awaitToken(t, f, cold, "acme")
			awaitToken(t, f, f.workerOn(fo.Client(t)), "acme") // a new one
			f.exchanged(cold, before)
		})
	}
}

// An endpoint is led to another server, by a name or a balancer, while old connections stay open.
func TestMemoryIsNeverStaleForLongAfterAnEndpointHasMoved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lifetime time.Duration // of connections for commands
		demote   bool          // the old server follows the new one then, as managed services do it
	}{
		"commands move with new connections": {lifetime: time.Second},
		"the old server is made a replica":   {demote: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			old := redistest.Own(t)
			host, port, _ := net.SplitHostPort(old.Addr())
			next := redistest.Own(t, redistest.Set("replicaof", host, port))
			proxy := redistest.NewProxy(t, old.Addr())
			rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ConnMaxLifetime: c.lifetime})
			t.Cleanup(func() { _ = rdb.Close() })
			a, b := f.workerOn(rdb), f.workerOn(next.Client(t))
			f.connect(a, "acme", false)
			f.hot(a, "acme")
			f.field(next.Client(t), "gen", func(gen string) bool { return gen == "1" })
			if err := next.Client(t).ReplicaOf(f.ctx(), "NO", "ONE").Err(); err != nil {
				t.Fatal(err)
			}
			proxy.Move(next.Addr())
			if c.demote {
				host, port, _ := net.SplitHostPort(next.Addr())
				if err := old.Client(t).ReplicaOf(f.ctx(), host, port).Err(); err != nil {
					t.Fatal(err)
				}
			}
			f.neverStale(a, b, "acme", stalest+c.lifetime)
			f.refreshed(a, "acme") // its commands have left the old server
			f.lawful(a, "acme")
		})
	}
}

// A node that has left a Cluster goes on answering, and hears nothing.
func TestMemoryIsNeverStaleForLongAfterANodeHasLeftTheCluster(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	cluster := redistest.StartCluster(t)
	a, b := f.workerOn(cluster.Client(t)), f.workerOn(cluster.Client(t))
	f.connect(a, "acme", false)
	f.hot(a, "acme")
	cluster.Remove(t, f.listensOn(cluster, "acme"))
	f.neverStale(a, b, "acme", stalest)
	f.refreshed(b, "acme")
	for ctx := f.ctx(); a.cache.Grant(key("acme")).Peek() == nil; time.Sleep(10 * time.Millisecond) {
		if _, err := a.Token(ctx, "acme"); err != nil {
			t.Fatal("memory is never coherent again", err)
		}
	}
	f.lawful(a, "acme")
}

// listensOn is the node that the only worker which has a tenant in memory listens to.
func (f *fleet) listensOn(cluster *redistest.Cluster, tenant string) int {
	f.t.Helper()
	channel := f.prefix + ":{zoom:" + tenant + "}:events"
	for i, node := range cluster.Nodes {
		if n := node.Client(f.t).PubSubNumSub(f.ctx(), channel).Val()[channel]; n > 0 {
			return i
		}
	}
	f.t.Fatal("nobody listens")
	return -1
}

// One node of a Cluster fails over, the app's own, with the last commits. go-redis has its default
// options: it would ask for the new master after a minute.
func TestAClusterThatFailsOverLosesNothingThatIsRememberedAndStandsStillForNobodyElse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail func(*redistest.Cluster, testing.TB, int)
		most time.Duration // that a tenant on a node that lives waits, whose process listens to the other
	}{
		"dies": {(*redistest.Cluster).Fail, 5 * time.Second},
		// Then its process looks for another node, and go-redis may ask the silent one for the slots.
		"goes silent": {(*redistest.Cluster).Silence, stalest + time.Second + 3*time.Second + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failsOver(t, c.fail, c.most)
		})
	}
}

func failsOver(t *testing.T, fail func(*redistest.Cluster, testing.TB, int), most time.Duration) {
	f := newFleet(t, refreshtest.Config{})
	cluster := redistest.StartClusterWithReplicas(t)
	warm := []*worker{f.workerOn(cluster.Client(t)), f.workerOn(cluster.Client(t))}
	dies := cluster.Owner(t, f.prefix+":app:zoom")
	var lost, others []string
	for i := 0; len(lost) < 4 || len(others) < 4; i++ {
		tenant := fmt.Sprint("tenant-", i)
		if cluster.Owner(t, f.prefix+":{zoom:"+tenant+"}:grant") == dies {
			lost = append(lost, tenant)
		} else {
			others = append(others, tenant)
		}
	}
	lost, others = lost[:4], others[:4]
	for _, tenant := range append(slices.Clone(lost), others...) {
		f.connect(warm[0], tenant, true)
		f.listens(warm[1], tenant)
	}
	cluster.Part(t, dies)
	for _, tenant := range lost {
		f.token(warm[0], tenant)
		f.knows(warm[1], tenant, 2)
	}
	for _, w := range warm { // nobody's map of the slots is younger than the failover
		for _, tenant := range others {
			f.token(w, tenant)
		}
	}
	over := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { // the others' tenants are refreshed all the time
		for n := 0; ; n++ {
			clock := redistest.StartStopwatch(f.t)
			f.refreshed(warm[n%2], others[n%4])
			if took, over := clock.Over(most); over {
				t.Errorf("%s, on a node that lives, stood still for %v", others[n%4], took)
			}
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	fail(cluster, t, dies)
	cold := f.workerOn(cluster.Client(t))
	for _, tenant := range lost {
		work.Go(func() { awaitToken(t, f, cold, tenant) })
		work.Go(func() {
			clock := redistest.StartStopwatch(t)
			f.refreshed(warm[1], tenant)
			if took, over := clock.Over(10 * time.Second); over {
				t.Errorf("%s is refreshed again %v after the take-over", tenant, took)
			}
		})
	}
	time.AfterFunc(10*time.Second, func() { close(over) })
	work.Wait()
	for _, tenant := range append(lost, others...) {
		f.lawful(cold, tenant)
	}
}
