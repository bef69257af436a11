package integration

import (
	"maps"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

const (
	stormCost = 30 // Redis commands of a storm of 5 processes × 250 callers
	// beat is what one extension of the lease costs: EVALSHA, GET, PEXPIRE, and the
	// PUBLISH that spares the waiters from asking.
	beat = 4

	// What a warm holder asks of Redis, each in a round trip of its own: lease, claim,
	// commit, release, and the word that it is released. An extension costs it two more.
	holderTrips = 5
	holderBeat  = 2
)

// warmFleet is five processes that have the tenant's grant in memory, expired, and are
// subscribed; Redis knows every script.
func warmFleet(t testing.TB, rs *redistest.Server, cfg refreshtest.Config, alter ...func(*setup)) (*fleet, []*process) {
	t.Helper()
	f := newFleet(t, rs, cfg, alter...)
	workers := f.workers(5)
	f.consent("other", time.Hour)
	f.server.SetLatency(0, min(f.setup.Lease/2, time.Second)) // a short lease is extended
	workers[0].do(order{Op: "refresh", Tenant: "other", Callers: 1})
	f.consent("acme", time.Hour)
	for _, w := range workers {
		w.do(order{Op: "warm", Tenant: "acme"})
	}
	f.expire("acme", workers)
	return f, workers
}

// expire connects again with an expired pair and waits until all have heard of it.
func (f *fleet) expire(tenant string, workers []*process) {
	f.t.Helper()
	f.connect(tenant)
	epoch := f.status(tenant).Epoch.UnixMilli()
	for _, w := range workers {
		w.do(order{Op: "knows", Tenant: tenant, Epoch: epoch})
		w.do(order{Op: "rest"})
		w.do(order{Op: "counts"})
	}
}

// storm is the herd, the commands that Redis executed for it, and by how many of them the
// lease was extended. The workers end in it, so that nothing is left to come.
func (f *fleet) storm(workers []*process) (calls map[string]int, beats int) {
	f.t.Helper()
	var counts []report
	calls = redistest.Commands(f.t, f.rdb, func() {
		f.served(herd(workers, "acme", 250), 5*250)
		for _, w := range workers {
			counts = append(counts, w.settled())
		}
	})
	delete(calls, "unsubscribe") // they ended
	f.presented("acme", 1)
	f.living("acme")
	beats, holders := calls["pexpire"], 0
	for i, c := range counts {
		calls["get"] -= c.Looks["get"]
		if c.Commands["evalsha"] > 0 {
			holders++
			if c.Trips-holderBeat*beats > holderTrips {
				f.t.Errorf("%s extended the lease %d times and asked %d times: %v", workers[i].name, beats, c.Trips, c.Commands)
			}
			continue
		}
		// A waiter: one failed try of the lease, and one look at how long it lives.
		for name, n := range c.Commands {
			if n > 1 || (name != "set" && name != "pttl") {
				f.t.Errorf("%s waited with %v", workers[i].name, c.Commands)
			}
		}
	}
	if holders != 1 {
		f.t.Errorf("%d processes did a holder's work", holders)
	}
	return calls, beats
}

// settled closes the process, so that its release of the lease is done, and returns what
// it has asked of Redis.
func (p *process) settled() report {
	p.t.Helper()
	p.send(order{Op: "drain"}).report()
	counts := p.do(order{Op: "counts"})
	p.close()
	return counts
}

// A process that comes after the answer is no waiter: half a second is time enough for all to come, with nothing else
// of this package beside it.
func TestAStormCostsTheSameHoweverLongTheProviderTakes(t *testing.T) {
	for _, latency := range []time.Duration{500 * time.Millisecond, time.Second, 3 * time.Second} {
		t.Run(latency.String(), func(t *testing.T) {
			t.Parallel()
			f, workers := warmFleet(t, redistest.Own(t), refreshtest.Config{}, func(s *setup) { s.Lease = 10 * time.Second })
			f.server.SetLatency(0, latency)
			calls, beats := f.storm(workers)
			total := redistest.Total(calls) - beats*beat
			t.Logf("%d commands and %d extensions of the lease: %v", total, beats, calls)
			if total > stormCost {
				t.Errorf("%d commands, want at most %d: %v", total, stormCost, calls)
			}
			if beats > 1 { // one, if this machine was so slow that a third of the lease passed
				t.Errorf("%d extensions of the lease", beats)
			}
		})
	}
}

func TestOnlyTheHolderPaysForASlowAnswer(t *testing.T) {
	t.Parallel()
	f, workers := warmFleet(t, redistest.Own(t), refreshtest.Config{}, func(s *setup) { s.Lease = 3 * time.Second })
	f.server.SetLatency(0, 6*time.Second)
	calls, beats := f.storm(workers) // asserts that waiters asked once
	extra := redistest.Total(calls) - beats*beat
	t.Logf("%d commands and %d extensions: %v", extra, beats, calls)
	if beats < 3 || beats > 8 {
		t.Errorf("%d extensions of a lease of 3 s in 6 s, want about 6", beats)
	}
	if extra > stormCost {
		t.Errorf("%d commands besides the extensions, want at most %d: %v", extra, stormCost, calls)
	}
}

// In a storm on a cold fleet each process asks for the key of what is pushed, subscribes to the grant
// and to the app, and reads each of them once; nothing in it grows with callers or time.
func TestAColdStormSubscribesOncePerProcessAndChannel(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Own(t), refreshtest.Config{LatencyAfter: time.Second})
	workers := f.workers(5)
	f.connect("acme")
	calls := redistest.Commands(t, f.rdb, func() { f.served(herd(workers, "acme", 250), 5*250) })
	t.Logf("%d commands: %v", redistest.Total(calls), calls)
	// A process that wants both channels before it is connected names them in one.
	if n := calls["subscribe"]; n < 5 || n > 2*5 {
		t.Errorf("%d subscriptions of 5 processes to 2 channels", n)
	}
	// A process asks for the time once a second, and a busy machine takes more of them.
	const most = 60
	if total := redistest.Total(calls) - max(0, calls["time"]-5); total > most {
		t.Errorf("%d commands, want at most %d: %v", total, most, calls)
	}
}

// What the budgets rest on.
func TestTheSeamCountsATransactionAsOneRoundTrip(t *testing.T) {
	t.Parallel()
	s := newSeam(func(a answer) { t.Errorf("stopped at %q", a.At) })
	rdb, ctx, key := redistest.Start(t).Client(t), t.Context(), redistest.Prefix(t)
	rdb.AddHook(s)
	rdb.Get(ctx, key)
	_, _ = rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HMGet(ctx, key, "gen")
		p.Get(ctx, key)
		return nil
	})
	want := map[string]int{"get": 2, "multi": 1, "hmget": 1, "exec": 1}
	if got := s.counted(); got.Trips != 2 || !maps.Equal(got.Commands, want) || len(got.Sent) > 0 {
		t.Errorf("%d round trips: %v, on the way to %v", got.Trips, got.Commands, got.Sent)
	}
}
