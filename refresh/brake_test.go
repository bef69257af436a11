package refresh_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// wrapped is a success in which no token is found: the refresh token is spent, the pair is lost.
var wrapped = refreshtest.Step{Times: -1, At: refreshtest.AfterCommit, Status: 200, Body: `{"code":200,"payload":{"tokens":"…"}}`}

// braked lets one tenant lose its pair, which stops the app.
func (f *fleet) braked(w *worker, tenant string) {
	f.t.Helper()
	f.server.Script(wrapped)
	f.connect(w, tenant, true)
	_, err := w.Token(f.ctx(), tenant)
	kind(f.t, err, refresh.ErrUnavailable, "")
	f.state(w, "the brake", func(s *engine.AppState) bool { return s.Open && s.Brake != "" })
}

func TestASuccessThatCannotBeReadStopsAnAppOfWhichNoneWasRead(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	workers := []*worker{f.worker(), f.worker()}
	tenants := f.expired(workers[0], 50)
	events := workers[1].Events(t.Context())
	f.listening(workers[1], 1)
	f.braked(workers[0], "first")
	f.hears(events, refresh.EventCircuitOpen, "")
	for _, w := range workers {
		for tenant, err := range f.all(w, tenants) {
			e := kind(t, err, refresh.ErrClientConfig, "unreadable_answer")
			if e.RetryAfter < 30*time.Second || !strings.Contains(err.Error(), "provider.Profile") {
				t.Errorf("%s: %v", tenant, err)
			}
		}
	}
	if n := len(f.server.Ledger()); n != 1 {
		t.Errorf("%d exchanges, of which each loses a pair", n)
	}
	// The profile is mended and deployed; the old processes hear of it.
	f.server.ClearScript()
	f.profile.CodeKeys = []string{"fault"}
	mended := f.worker()
	f.token(mended, tenants[0])
	f.hears(events, refresh.EventCircuitClosed, "")
	f.state(workers[0], "the end of the brake", func(s *engine.AppState) bool { return !s.Open })
	f.token(workers[0], tenants[1])
	f.lawful(workers[0], tenants[1])
}

func TestAProfileThatReadsNothingEitherIsStoppedToo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	old := f.worker()
	tenants := f.expired(old, 5)
	f.braked(old, "first")
	f.profile.CodeKeys = []string{"fault"}
	w := f.worker()
	_, err := w.Token(f.ctx(), tenants[0])
	kind(t, err, refresh.ErrUnavailable, "")
	for _, w := range []*worker{w, old} {
		f.state(w, "both profiles", func(s *engine.AppState) bool { return strings.Contains(s.Brake, " ") })
		_, err := w.Token(f.ctx(), tenants[1])
		kind(t, err, refresh.ErrClientConfig, "unreadable_answer")
	}
	if n := len(f.server.Ledger()); n != 2 {
		t.Errorf("%d exchanges", n)
	}
}

func TestABrakeThatAnOperatorDeletesIsOver(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	f.braked(w, "first")
	f.server.ClearScript()
	if err := w.rdb.Del(f.ctx(), w.cache.App("zoom").AppKey()).Err(); err != nil {
		t.Fatal(err)
	}
	f.state(w, "the end of the brake", func(s *engine.AppState) bool { return !s.Open })
	f.token(w, "acme")
}

func TestOneUnreadableSuccessStopsNobodyOnceOthersWereRead(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.accepted(w)
	f.connect(w, "unlucky", true)
	step := wrapped
	step.Tenant = "unlucky"
	f.server.Script(step)
	_, err := w.Token(f.ctx(), "unlucky")
	kind(t, err, refresh.ErrUnavailable, "")
	f.connect(w, "acme", true)
	f.token(w, "acme")
}

// An answer that was torn on its way says nothing about the profile.
func TestATornAnswerStopsNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "unlucky", true)
	f.connect(w, "acme", true)
	f.server.Script(refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Truncate})
	_, err := w.Token(f.ctx(), "unlucky")
	kind(t, err, refresh.ErrUnavailable, "")
	f.token(w, "acme")
}

func TestManyDeathsWithinMinutesAreNotBelieved(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.profile.Replay = provider.ReplayDead
	w, other := f.worker(), f.worker()
	tenants := f.expired(w, 40)
	f.connect(w, "healthy", true)
	f.token(w, "healthy")
	events := other.Events(t.Context())
	for _, tenant := range tenants {
		f.server.Script(refreshtest.Step{Tenant: tenant, Times: -1, Status: 400, Body: `{"error":"invalid_grant"}`})
	}
	dead := map[string]bool{}
	for tenant, err := range f.all(w, tenants) {
		if dead[tenant] = f.reauthorize(w, tenant); dead[tenant] {
			kind(t, err, refresh.ErrReauthorize, "invalid_grant")
			continue
		}
		if e := kind(t, err, refresh.ErrUnavailable, "mass_death"); e.RetryAfter < 30*time.Second || e.RetryAfter > 3*time.Minute {
			t.Errorf("%s: %v", tenant, err)
		}
	}
	n := 0
	var doubted []string
	for tenant, is := range dead {
		if is {
			n++
		} else {
			doubted = append(doubted, tenant)
		}
	}
	if n != 10 {
		t.Errorf("%d grants were declared dead, want 10", n)
	}
	if e := f.hears(events, refresh.EventMassDeath, ""); e.At.IsZero() {
		t.Errorf("%+v", e)
	}
	_, err := other.Token(f.ctx(), doubted[0]) // from Redis
	kind(t, err, refresh.ErrUnavailable, "mass_death")
	if err := w.Refresh(f.ctx(), "healthy"); err != nil { // nobody else is stopped
		t.Error(err)
	}
	// A minute later one of them may try, and one only.
	f.minuteLater(w, doubted)
	before := len(f.server.Ledger())
	later := f.worker()
	for tenant, err := range f.all(later, doubted[:5]) {
		if !f.reauthorize(w, tenant) {
			kind(t, err, refresh.ErrUnavailable, "mass_death")
		}
	}
	if n := len(f.server.Ledger()) - before; n != 1 {
		t.Errorf("%d exchanges, want one a minute", n)
	}
	// The provider has mended it: the first that is accepted ends the doubt for all.
	f.server.ClearScript()
	f.minuteLater(w, doubted)
	last := f.worker()
	f.recovers(last, doubted[5:6])
	f.state(last, "the end of the doubt", func(s *engine.AppState) bool { return s.MassAt == 0 })
	f.recovers(last, doubted)
	for _, tenant := range doubted {
		f.living(w, tenant)
	}
}

func (f *fleet) reauthorize(w *worker, tenant string) bool {
	f.t.Helper()
	st, err := w.Status(f.ctx(), tenant)
	if err != nil {
		f.t.Fatal(err)
	}
	return st.State == tokencache.Reauthorize
}

// minuteLater lets the waits of doubted grants pass, for workers that read them from now on.
func (f *fleet) minuteLater(w *worker, tenants []string) {
	f.t.Helper()
	w.rdb.HDel(f.ctx(), w.cache.App("zoom").AppKey(), "mass_try_at")
	for _, tenant := range tenants {
		name := fmt.Sprintf("%s:{zoom:%s}:grant", f.prefix, tenant)
		if err := w.rdb.HSet(f.ctx(), name, "retry_at", 1).Err(); err != nil {
			f.t.Fatal(err)
		}
	}
}
