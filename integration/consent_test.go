package integration

import (
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
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
