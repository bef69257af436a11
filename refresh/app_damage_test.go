package refresh_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Whoever may write to Redis can damage what the fleet knows of an app, or of a host. Exchanges of healthy tenants
// go on all the same, and one of them makes the state whole.
func TestADamagedStateOfAnAppStopsNoExchange(t *testing.T) {
	t.Parallel()
	e := newEstate(t, 0)
	e.redis = redistest.Own(t)
	root := e.redis.Client(t)
	ofHost := []string{"opened_at", "probes", "probe_at", "throttled_until", "limited", "limited 0123abcd", "changed_at"}
	ofApp := append([]string{
		"ramp", "ramp_at", "mass_at", "mass_try_at", "deaths", "deaths_at", "down_at", "accepted_at", "read_at", "lost_at", "rev", "v",
	}, ofHost...)
	n := 0
	calls := redistest.Commands(t, root, func() {
		for at, fields := range map[string][]string{"": ofApp, "@" + e.name("healthy"): ofHost} {
			for _, field := range fields {
				for _, value := range []string{"abc", "-1", "1000000000000000000", "9007199254740992", "9000000000000", "9000000000000000"} {
					for _, open := range []bool{false, true} {
						n++
						e.goesOn(root, fmt.Sprint("app", n), field, value, at, open)
					}
				}
			}
		}
	})
	t.Logf("%d damaged states: %v", n, calls)
	if total := redistest.Total(calls); total > 100*n {
		t.Errorf("%d commands for %d exchanges: %v", total, n, calls)
	}
	if got := len(e.server.Ledger()); got != n {
		t.Errorf("%d exchanges, not %d", got, n)
	}
}

// goesOn asserts that a tenant has a new token at once whatever a field of its app's state, or of its host's, says.
func (e *estate) goesOn(root *redis.Client, app, field, value, at string, open bool) {
	e.t.Helper()
	what := fmt.Sprintf("%s%s = %s, open %t", field, at, value, open)
	now := time.Now().UnixMilli()
	state := map[string]any{"accepted_at": now - 1000, "read_at": now - 1000, "changed_at": now - 1000, "changed_at" + at: now - 1000, "rev": 5, "v": 1}
	if open {
		state["circuit"+at], state["error"+at], state["opened_at"+at] = "open", "app_refused/invalid_client/401", now-1000
		state["probes"+at], state["probe_at"+at] = 14, now-1000
	}
	field, with, _ := strings.Cut(field, " ")
	state[field+at] = strings.TrimSpace(with + " " + value)
	if err := root.HSet(e.ctx(), e.prefix+":app:"+app, state).Err(); err != nil {
		e.t.Fatal(err)
	}
	w := e.worker(func(cfg *refresh.Config) { cfg.App = app })
	tenant := e.expired(w, "healthy", 1)[0]
	ctx, cancel := context.WithTimeout(e.ctx(), 10*time.Second)
	defer cancel()
	if _, err := w.Token(ctx, tenant); err != nil {
		e.t.Errorf("%s: %v", what, err)
	}
	if err := w.Close(e.ctx()); err != nil { // all is noted
		e.t.Errorf("%s: close: %v", what, err)
	}
	var left engine.AppState
	left.Read(root.HGetAll(e.ctx(), e.prefix+":app:"+app).Val(), time.Now().UnixMilli())
	if left.Open || left.Hosts != nil && open {
		e.t.Errorf("%s: the circuit is open after an acceptance", what)
	}
}
