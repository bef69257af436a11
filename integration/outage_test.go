package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// storyTime bounds what must end soon after Redis is back.
const storyTime = 10 * time.Second

// midway brings a fleet to the moment at which the provider has spent the refresh token
// and the answer is still on its way; all processes wait and listen.
func midway(t *testing.T, rs *redistest.Server, n int) (f *fleet, workers []*process, asked []*sent, gate *refreshtest.Gate) {
	t.Helper()
	f = newFleet(t, rs, refreshtest.Config{})
	workers = f.workers(n)
	f.connect("acme")
	gate = f.server.Hold(refreshtest.AfterCommit)
	asked = ask(workers, "acme", 50)
	gate.Await(t)
	f.subscribed("acme", int64(n))
	return f, workers, asked, gate
}

func TestLostSubscriptionsLeaveNobodyHanging(t *testing.T) {
	t.Parallel()
	f, workers, asked, gate := midway(t, redistest.Own(t), 4)
	for range 3 {
		if n := f.rdb.ClientKillByFilter(f.ctx(), "TYPE", "pubsub").Val(); n == 0 {
			t.Error("no subscriber to kill")
		}
		f.subscribed("acme", 4)
	}
	f.rdb.ClientKillByFilter(f.ctx(), "TYPE", "pubsub")
	gate.Release() // the pair is pushed while nobody listens
	within(t, "the end", f.setup.Lease+promise, func() { f.served(gather(asked), 4*50) })
	f.presented("acme", 1)
	f.living("acme")
	f.served(herd(workers, "acme", 50), 4*50)
}

func TestAPausedRedisCostsNoPair(t *testing.T) {
	t.Parallel()
	f, workers, asked, gate := midway(t, redistest.Own(t), 3)
	f.consent("warm", time.Hour)
	for _, w := range workers {
		w.do(order{Op: "warm", Tenant: "warm"})
	}
	holder, i := f.holder(workers, "acme")
	f.explained("acme", "TL103", explain.Nobody, holder.name+" began to present generation 1")
	f.redis.Pause(t)
	if stdout, _, code := f.typed("explain", app, "acme", "--json", "--timeout", "300ms"); code != 1 || !strings.Contains(stdout, `"code":"redis_timeout"`) {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	gate.Release()
	within(t, "serving the new pair from the holder's memory", 3*time.Second, func() { f.served(asked[i].report(), 50) })
	within(t, "serving valid pairs from memory", time.Second, func() { f.served(herd(workers, "warm", 50), 3*50) })
	f.served(holder.token("acme", 50).report(), 50)
	f.redis.Resume(t)
	within(t, "the end", storyTime, func() {
		f.stored("acme", 2)
		f.served(gather(asked[:i]), 50*i)
		f.served(gather(asked[i+1:]), 50*(2-i))
	})
	f.presented("acme", 1)
	f.living("acme")
}

func TestARedisRestartedFromItsAOFCostsNoPair(t *testing.T) {
	t.Parallel()
	f, workers, asked, gate := midway(t, redistest.Own(t, redistest.AOF()), 3)
	_, i := f.holder(workers, "acme")
	f.redis.Kill(t)
	gate.Release()
	within(t, "serving the new pair from the holder's memory", storyTime, func() { f.served(asked[i].report(), 50) })
	// The others know that they cannot know: a typed error, soon.
	for j, s := range asked {
		if j != i {
			r := s.report()
			if n := r.Errors["unavailable/"]; n != 50 {
				t.Errorf("%d of 50 were told to try again: %v %v", n, r.Errors, r.Texts)
			}
		}
	}
	f.redis.Restart(t)
	within(t, "the end", storyTime, func() {
		f.stored("acme", 2)
		f.served(herd(workers, "acme", 50), 3*50)
	})
	f.presented("acme", 1)
	f.living("acme")
}

func TestARestartBetweenRefreshesCostsNoPair(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Own(t, redistest.AOF()), refreshtest.Config{})
	workers := f.workers(3)
	f.connect("acme")
	f.served(herd(workers, "acme", 20), 3*20)
	f.redis.Restart(t)
	f.served(herd(workers, "acme", 20), 3*20)
	if r := workers[1].do(order{Op: "refresh", Tenant: "acme", Callers: 1}); len(r.Errors) > 0 {
		t.Errorf("refresh: %v", r.Texts)
	}
	within(t, "hearing of it", storyTime, func() {
		for _, w := range workers {
			w.do(order{Op: "warm", Tenant: "acme", Generation: 3})
		}
	})
	f.served(herd(append(workers, f.worker()), "acme", 20), 4*20) // a cold one too
	f.presented("acme", 2)
	f.living("acme")
}

func TestWarmWorkersRestoreWhatRedisLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Own(t), refreshtest.Config{})
	workers := f.workers(3)
	f.consent("acme", time.Hour)
	for _, w := range workers {
		w.do(order{Op: "warm", Tenant: "acme"})
	}
	f.rdb.FlushAll(f.ctx())
	f.served(herd(workers, "acme", 20), 3*20)
	f.eventually("the grant to be given back", func() bool { return f.rdb.Exists(f.ctx(), f.key("acme", "grant")).Val() == 1 })
	f.explained("acme", "TL601|TL206", explain.Nobody, "gave back generation 1")
	f.presented("acme", 0)
	// The pair expires, Redis loses it, and all want a new one at once: the record is
	// restored, and presented once.
	f.expire("acme", workers)
	f.rdb.FlushAll(f.ctx())
	f.served(herd(workers, "acme", 20), 3*20)
	for _, w := range append(workers, f.worker()) { // a cold one too
		w.do(order{Op: "warm", Tenant: "acme", Generation: 2})
		f.served(w.token("acme", 20).report(), 20)
	}
	f.presented("acme", 1)
	f.living("acme")
}

func TestFlushAllDuringAnExchangeCostsNoPair(t *testing.T) {
	t.Parallel()
	f, workers, asked, gate := midway(t, redistest.Own(t), 3)
	f.rdb.FlushAll(f.ctx())
	gate.Release()
	within(t, "the end", f.setup.Lease+promise, func() { f.served(gather(asked), 3*50) })
	f.presented("acme", 1)
	f.living("acme")
	f.served(herd(workers, "acme", 50), 3*50)
}

// No claim, no exchange: while Redis does not answer nobody presents. Who can wait gets
// its token when Redis is back, or was told to try again.
func TestNobodyPresentsWhileRedisIsPaused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Own(t), refreshtest.Config{}, func(s *setup) { s.Lease = 2 * time.Second })
	workers := f.workers(3)
	f.consent("acme", time.Hour)
	for _, w := range workers {
		w.do(order{Op: "warm", Tenant: "acme"})
	}
	f.expire("acme", workers)
	f.redis.Pause(t)
	asked := ask(workers, "acme", 50)
	leavers := workers[0].token("acme", 50)
	workers[0].do(order{Op: "cancel", Ref: leavers.id})
	within(t, "leaving while Redis is silent", promise, func() { f.refused(leavers.report(), 50, "canceled/") })
	time.Sleep(2 * f.setup.Lease) // silent for two lease times
	if n := len(f.server.Ledger()); n > 0 {
		t.Errorf("%d presentations without a claim", n)
	}
	f.redis.Resume(t)
	r := gather(asked)
	if r.served()+r.Errors["unavailable/"] != 3*50 {
		t.Errorf("%d tokens, errors %v: %v", r.served(), r.Errors, r.Texts)
	}
	f.served(herd(workers, "acme", 50), 3*50)
	f.presented("acme", 1)
	f.living("acme")
}

// Three processes remember 20 grants, each of them some alone. Redis comes back empty, and the processes
// are replaced one by one, at once or when all is given back.
func TestProcessesGiveBackWhatRedisHasLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(f *fleet){
		"FLUSHALL":            func(f *fleet) { f.rdb.FlushAll(f.ctx()) },
		"a restart, to empty": func(f *fleet) { f.redis.Restart(f.t) },
	} {
		for _, atOnce := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, replaced at once: %v", name, atOnce), func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, redistest.Own(t), refreshtest.Config{})
				workers := f.workers(3)
				const grants = 20
				tenant := func(i int) string { return fmt.Sprint("tenant-", i) }
				for i := range grants {
					f.consent(tenant(i), time.Hour)
					w := workers[i%3]
					w.do(order{Op: "warm", Tenant: tenant(i)})
					w.do(order{Op: "refresh", Tenant: tenant(i), Callers: 1})
					w.do(order{Op: "warm", Tenant: tenant(i), Generation: 2})
				}
				stored := func() (n int) {
					for i := range grants {
						if f.rdb.HGet(f.ctx(), f.key(tenant(i), "grant"), "gen").Val() == "2" {
							n++
						}
					}
					return n
				}
				lose(f)
				if !atOnce {
					f.eventually("all to be given back, unasked", func() bool { return stored() == grants })
				}
				for _, w := range workers {
					w.close()
					f.worker()
				}
				if n := stored(); n != grants {
					t.Errorf("%d of %d grants are there", n, grants)
				}
				f.explained(tenant(0), "TL601|TL206", explain.Nobody, "gave back generation 2")
				f.explained("nobody knows", "TL606", explain.Operator, "Redis came back without this app's data")
				for i := range grants {
					f.living(tenant(i))
					f.presented(tenant(i), 1)
				}
			})
		}
	}
}
