package fleet

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func one(t *testing.T, rdb redis.UniversalClient, prefix string) *Exporter {
	t.Helper()
	in, err := inspect.New(rdb, inspect.Config{Prefix: prefix, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{
		Inspector: in, Locker: lock.New(lock.Config{TTL: 6 * time.Second}, rdb), Key: prefix + ":exporter", Every: 20 * time.Millisecond,
		Tell: func(text string, err error) { t.Log(text, err) },
	})
}

func starts(t *testing.T, rdb redis.UniversalClient, prefix string) (e *Exporter, end func()) {
	t.Helper()
	e = one(t, rdb, prefix)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = e.Run(ctx)
	}()
	end = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(end)
	return e, end
}

// told is what an exporter tells: names of metrics, and how many of each.
func told(t *testing.T, e *Exporter) map[string]int {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(e)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for _, f := range families {
		all[f.GetName()] = len(f.GetMetric())
	}
	return all
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestOneOfSeveralExportersTellsAndTheNextTakesItsTurn(t *testing.T) {
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	a, endA := starts(t, server.Client(t), prefix)
	eventually(t, "the first scans", func() bool { return told(t, a)["tokenlatch_fleet_scan_duration_seconds"] == 1 })
	b, _ := starts(t, server.Client(t), prefix)
	for range 50 {
		if got := told(t, b); len(got) != 1 || got["tokenlatch_exporter_leads"] != 1 {
			t.Fatalf("one that stands by tells %v; the other %v", got, told(t, a))
		}
		time.Sleep(2 * time.Millisecond)
	}
	endA()
	eventually(t, "the second scans", func() bool { return told(t, b)["tokenlatch_fleet_scan_duration_seconds"] == 1 })
	if got := told(t, a); len(got) != 1 {
		t.Errorf("one that has ended tells %v", got)
	}
}

func TestAnExporterThatLosesItsLeaseIsSilent(t *testing.T) {
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	rdb := server.Client(t)
	e, _ := starts(t, rdb, prefix)
	eventually(t, "it scans", func() bool { return len(told(t, e)) > 1 })
	if err := rdb.Set(t.Context(), prefix+":exporter", "another", 0).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is silent", func() bool { return len(told(t, e)) == 1 })
}

// Half of the grants look like a fleet that has shrunk: a scan that fails leaves what there was, and its time.
func TestAScanThatFailsTellsNoPart(t *testing.T) {
	server, prefix := redistest.Own(t), redistest.Prefix(t)
	e := one(t, server.Client(t), prefix)
	if err := e.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := e.found
	server.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := e.scan(ctx)
	server.Resume(t)
	if err == nil || e.found != before || e.failures == 0 {
		t.Errorf("%v, %d failures", err, e.failures)
	}
}

func TestAGrantIsCounted(t *testing.T) {
	const now, day = 1_800_000_000_000, 86_400_000
	row := func(r grant.Record, err error) *inspect.Row { return &inspect.Row{Record: r, Now: now, Err: err} }
	active := grant.Record{State: grant.Active, IssuedAt: now, ExpiresAt: now + day}
	warned := func(ends int64) *inspect.Row {
		r := active
		r.WarnedAt, r.RefreshTokenExpiresAt = now, ends
		return row(r, nil)
	}
	claimed := active
	claimed.Claim = grant.Claim{ID: "x", By: "w", At: now - 90_000, Until: now - 1}
	rolling := active
	rolling.RefreshTokenExpiresAt = now + day // it is renewed with each exchange
	a := newApp()
	for _, r := range []*inspect.Row{
		row(active, nil), row(rolling, nil), row(claimed, nil), warned(now + 3*day), warned(now + 20*day), warned(now + day/2), warned(now + 100*day),
		row(grant.Record{State: grant.Reauthorize}, nil), row(claimed, errors.Join(grant.ErrDamaged)), row(active, grant.ErrNewer),
	} {
		a.count(r)
	}
	if want := map[string]int64{"24h": 1, "7d": 2, "30d": 3}; !maps.Equal(a.reauthDue, want) {
		t.Errorf("consents that end: %v, want %v", a.reauthDue, want)
	}
	if a.oldest != 90*time.Second || a.states["reauthorize"] != 1 || a.states["damaged"] != 1 || a.states["newer"] != 1 || a.states["active"] != 6 {
		t.Errorf("oldest %v, %v", a.oldest, a.states)
	}
}

func TestAnAppIsLookedAt(t *testing.T) {
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	rdb := server.Client(t)
	now := rdb.Time(t.Context()).Val()
	until := now.Add(time.Minute).UnixMilli()
	for _, err := range []error{
		rdb.HSet(t.Context(), prefix+":app:zoom", "circuit", "open", "opened_at", now.UnixMilli(), "throttled_until", until,
			"circuit@a", "open", "throttled_until@b", until, "refused@c", "0123abcd",
			"changed_at@a", now.UnixMilli(), "changed_at@b", now.UnixMilli(), "changed_at@c", now.UnixMilli()).Err(),
		rdb.ZAdd(t.Context(), prefix+":due:zoom:03", redis.Z{Score: float64(now.Add(-time.Hour).UnixMilli()), Member: "acme"}).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	e := one(t, rdb, prefix)
	if err := e.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := e.found.apps["zoom"]
	if a == nil || !a.open || a.hosts != 2 || a.overdue != 1 || a.pausedTo.UnixMilli() != until || a.oldest != 0 {
		t.Errorf("%+v", a)
	}
}
