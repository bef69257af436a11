package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// bothPoints runs a law with the exchange held before and after the provider's commit.
func bothPoints(t *testing.T, law func(*testing.T, refreshtest.Point)) {
	t.Run("before the provider's commit", func(t *testing.T) { t.Parallel(); law(t, refreshtest.BeforeCommit) })
	t.Run("after the provider's commit", func(t *testing.T) { t.Parallel(); law(t, refreshtest.AfterCommit) })
}

// interrupted is a fleet whose exchange is held at the point.
func interrupted(t *testing.T, at refreshtest.Point) (f *fleet, own *sent, others []*sent, gate *refreshtest.Gate) {
	t.Helper()
	f = newFleet(t, redistest.Start(t), refreshtest.Config{})
	workers := f.workers(3)
	f.connect("acme")
	gate = f.server.Hold(at)
	own = workers[0].token("acme", 20)
	gate.Await(t)
	others = ask(workers[1:], "acme", 20)
	f.subscribed("acme", 3)
	return f, own, others, gate
}

func TestACallerWhoLeavesLeavesAlone(t *testing.T) {
	t.Parallel()
	bothPoints(t, func(t *testing.T, at refreshtest.Point) {
		f, own, others, gate := interrupted(t, at)
		own.p.do(order{Op: "cancel", Ref: own.id})
		within(t, "leaving", promise, func() { f.refused(own.report(), 20, "canceled/") })
		gate.Release()
		within(t, "the end", promise, func() { f.served(gather(others), 2*20) })
		f.served(own.p.token("acme", 20).report(), 20)
		f.presented("acme", 1)
		f.living("acme")
	})
}

func TestConnectWinsOverAnExchangeUnderWay(t *testing.T) {
	t.Parallel()
	bothPoints(t, func(t *testing.T, at refreshtest.Point) {
		f, own, others, gate := interrupted(t, at)
		f.consent("acme", time.Hour)
		within(t, "hearing of the consent", promise, func() { f.served(gather(others), 2*20) })
		gate.Release()
		within(t, "the end", promise, func() { f.served(own.report(), 20) })
		f.presented("acme", 1)
		f.living("acme")
		if st := f.status("acme"); st.By != "operator" {
			t.Errorf("the last word is %s's", st.By)
		}
	})
}

func TestDisconnectWinsOverAnExchangeUnderWay(t *testing.T) {
	t.Parallel()
	bothPoints(t, func(t *testing.T, at refreshtest.Point) {
		f, own, others, gate := interrupted(t, at)
		if err := f.ops.Disconnect(f.ctx(), "acme"); err != nil {
			t.Fatal(err)
		}
		within(t, "hearing of it", promise, func() { f.refused(gather(others), 2*20, "not_connected/disconnected") })
		gate.Release()
		within(t, "the end", promise, func() { f.refused(own.report(), 20, "not_connected/disconnected") })
		f.presented("acme", 1)
		if st := f.status("acme"); st.State != tokencache.Disconnected {
			t.Errorf("resurrected: %s", st.State)
		}
		if n := f.rdb.Exists(f.ctx(), f.key("acme", "secret"), f.key("acme", "spare")).Val(); n > 0 {
			t.Error("a pair is left in Redis")
		}
	})
}

func TestCloseDrainsTheExchangeUnderWay(t *testing.T) {
	t.Parallel()
	bothPoints(t, func(t *testing.T, at refreshtest.Point) {
		f, own, others, gate := interrupted(t, at)
		closing := own.p.send(order{Op: "drain"})
		gate.Release()
		within(t, "the end", promise, func() { f.served(gather(others), 2*20) })
		f.served(own.report(), 20)
		closing.report()
		f.refused(own.p.token("acme", 1).report(), 1, "unavailable/")
		f.presented("acme", 1)
		f.living("acme")
	})
}

// imported has processes import all rows at the same time, each all of them, and returns how many rows
// were stored.
func imported(workers []*process, rows map[string]*oauth2.Token) (stored int) {
	tenants := slices.Sorted(maps.Keys(rows))
	for some := range slices.Chunk(tenants, 50) {
		var all []*sent
		for _, tenant := range some {
			for _, w := range workers {
				all = append(all, w.send(order{Op: "import", Tenant: tenant, Pair: rows[tenant]}))
			}
		}
		got := gather(all)
		for _, became := range got.Texts {
			switch refresh.ImportResult(became) {
			case refresh.Imported:
				stored++
			case refresh.Exists:
			default:
				workers[0].t.Errorf("import: %s", became)
			}
		}
		if n := len(got.Texts); n != len(all) {
			workers[0].t.Errorf("%d answers to %d imports", n, len(all))
		}
	}
	return stored
}

// Two processes import the same thousand rows. Some of the grants are refreshed then, one is disconnected,
// and the import runs again: the pairs that it brings are dead by now.
func TestAnImportThatRunsAgainChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{}, func(s *setup) { s.Quiet = true })
	workers := f.workers(2)
	rows := map[string]*oauth2.Token{}
	for i := range 1000 {
		tenant := fmt.Sprint("row-", i)
		rows[tenant] = f.server.Grant(tenant)
	}
	if n := imported(workers, rows); n != len(rows) {
		t.Errorf("%d rows were stored, want each of %d once", n, len(rows))
	}
	for tenant := range rows {
		f.living(tenant)
	}
	for i := 0; i < len(rows); {
		var refreshed []*sent
		var orders []order
		for ; i < len(rows) && len(refreshed) < 32; i += 3 { // more at once would time this machine
			orders = append(orders, order{Op: "refresh", Tenant: fmt.Sprint("row-", i), Callers: 1})
			refreshed = append(refreshed, workers[i%2].send(orders[len(orders)-1]))
		}
		ctx := f.ctx()
		for j, s := range refreshed {
			got := s.report()
			for ctx.Err() == nil && got.Errors["unavailable/"] == 1 { // on a busy machine a lease is not had in time
				time.Sleep(got.RetryMin)
				got = s.p.do(orders[j])
			}
			if len(got.Errors) > 0 {
				t.Fatal(got.Errors, got.Texts)
			}
		}
	}
	if err := f.ops.Disconnect(f.ctx(), "row-1"); err != nil {
		t.Fatal(err)
	}
	stored := func() (lines []string) {
		for _, what := range []string{"grant", "secret", "spare"} { // a lease may just be ending
			lines = append(lines, strings.Split(redistest.Dump(t, f.rdb, f.key("row-*", what)), "\n")...)
		}
		return lines
	}
	before := stored()
	if len(before) < 3*len(rows) {
		t.Fatalf("the dump has %d lines only", len(before))
	}
	if n := imported(workers, rows); n != 0 {
		t.Errorf("%d rows were stored again", n)
	}
	after := stored()
	for i := range min(len(before), len(after)) {
		if before[i] != after[i] {
			t.Fatalf("the second import has changed what Redis has of the grants:\n%q\nwas\n%q", after[i], before[i])
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d lines of what Redis has of the grants, %d before", len(after), len(before))
	}
	for tenant := range rows {
		if tenant != "row-1" {
			f.living(tenant)
		}
	}
	if st := f.status("row-1"); st.State != tokencache.Disconnected {
		t.Errorf("the grant that was disconnected is %s", st.State)
	}
	if v := f.server.Ledger().Violations(f.setup.Profile); len(v) > 0 {
		t.Errorf("spent refresh tokens were presented:\n%s", v)
	}
}
