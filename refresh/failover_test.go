package refresh_test

import (
	"errors"
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
	pin := w.cache.Pin(key(tenant))
	f.t.Cleanup(pin.Unpin)
	if err := pin.Confirmed(f.ctx()); err != nil {
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

func TestWhoRemembersWhatAFailoverLostGivesItBackUnasked(t *testing.T) {
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
func TestWhoComesAfterAFailoverWaitsForTheOthers(t *testing.T) {
	t.Parallel()
	f, fo, _ := lostCommit(t)
	cold := f.workerOn(fo.Client(t))
	awaitToken(t, f, cold, "acme")
	f.exchanged(cold, 1)
}

// A claim can be lost, too, while its holder waits for the provider.
func TestWhoComesAfterAFailoverWaitsForTheHolderOfALostClaim(t *testing.T) {
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
func TestWhoComesAfterARestartAsksTheOthers(t *testing.T) {
	t.Parallel()
	f, rewind, remembers := restarted(t, false)
	for ctx := f.ctx(); remembers.cache.Peek(key("acme")) == nil && ctx.Err() == nil; {
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
