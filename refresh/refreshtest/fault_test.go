package refreshtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestLostAnswersSpendTheTokenAfterTheCommitAndNotBefore(t *testing.T) {
	faults := map[refreshtest.Fault]error{
		refreshtest.Drop:     io.EOF,
		refreshtest.Reset:    syscall.ECONNRESET,
		refreshtest.Truncate: io.ErrUnexpectedEOF,
	}
	for fault, want := range faults {
		for _, at := range []refreshtest.Point{refreshtest.BeforeCommit, refreshtest.AfterCommit} {
			s := start(t, provider.Profile{Replay: provider.ReplayDead})
			first := s.Grant("acme")
			s.Script(refreshtest.Step{At: at, Fault: fault})
			a := present(t, s, first.RefreshToken)
			if !errors.Is(a.err, want) {
				t.Errorf("%s: client saw %v, want %v", fault, a.err, want)
			}
			spent := at == refreshtest.AfterCommit
			if s.Alive(first.RefreshToken) == spent {
				t.Errorf("%s at %d: token spent: %v, want %v", fault, at, !spent, spent)
			}
			p := s.Ledger()[0]
			if p.Fault != fault || p.Outcome.Committed() != spent {
				t.Errorf("ledger says %v", p)
			}
			if living, ok := s.Living("acme"); !ok || (living != first.RefreshToken) != spent {
				t.Errorf("%s at %d: wrong living token", fault, at)
			}
		}
	}
}

func TestScriptedAnswersSpendNothingBeforeTheCommit(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	s.Script(refreshtest.Step{Status: 429, Header: http.Header{"Retry-After": {"7"}}, Body: `{"error":"slow_down"}`, Times: 2})
	for range 2 {
		a := present(t, s, first.RefreshToken)
		if a.status != 429 || a.header.Get("Retry-After") != "7" || a.text(t, "error") != "slow_down" {
			t.Errorf("got %d %v", a.status, a.header)
		}
	}
	mustRefresh(t, s, first.RefreshToken)
	wantOutcomes(t, s, refreshtest.NotProcessed, refreshtest.NotProcessed, refreshtest.Rotated)
	if bad := s.Ledger().Violations(provider.Profile{}); len(bad) > 0 {
		t.Errorf("presenting an unspent token again is no violation:\n%v", bad)
	}
}

func TestABadGatewayAfterTheCommitLosesALivingPair(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	s.Script(refreshtest.Step{At: refreshtest.AfterCommit, Status: 502, Body: "<html>", Header: http.Header{"Content-Type": {"text/html"}}})
	if a := present(t, s, first.RefreshToken); a.status != 502 || a.body != "<html>" {
		t.Errorf("got %d %q", a.status, a.body)
	}
	if living, ok := s.Living("acme"); !ok || living == first.RefreshToken {
		t.Error("the pair was not issued")
	}
}

func TestStepsWaitForTheirTenantAndZeroStepsPass(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	a, b := s.Grant("a"), s.Grant("b")
	s.Script(refreshtest.Step{Tenant: "b"}, refreshtest.Step{Tenant: "b", Status: 503, Times: -1})
	_, next := mustRefresh(t, s, a.RefreshToken)
	_, b2 := mustRefresh(t, s, b.RefreshToken)
	for range 3 {
		if got := present(t, s, b2); got.status != 503 {
			t.Errorf("got %d, want 503", got.status)
		}
	}
	mustRefresh(t, s, next)
	s.ClearScript()
	mustRefresh(t, s, b2)
}

func TestEditChangesAGenuineAnswer(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	s.Script(refreshtest.Step{Edit: func(m map[string]any) {
		delete(m, "expires_in")
		m["api_domain"] = s.URL // the server may be used meanwhile:
		m["stats"] = s.Stats().Pairs
	}})
	a := present(t, s, first.RefreshToken)
	if a.member(t, "expires_in") != nil || a.text(t, "api_domain") != s.URL {
		t.Errorf("answer was not edited: %d", a.status)
	}
	if !s.Alive(a.text(t, "refresh_token")) {
		t.Error("the pair was not committed")
	}
}

func TestAClientThatHangsUpDoesNotStopTheCommit(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	gate := s.Hold(refreshtest.BeforeCommit)
	ctx, hangUp := context.WithCancel(t.Context())
	got := background(ctx, s, first.RefreshToken)
	gate.Await(t)
	hangUp()
	if a := <-got; !errors.Is(a.err, context.Canceled) {
		t.Fatalf("client saw %v", a.err)
	}
	gate.Release()
	s.AwaitIdle(t)
	wantOutcomes(t, s, refreshtest.Rotated)
	if living, ok := s.Living("acme"); !ok || living == first.RefreshToken {
		t.Error("the token was not spent")
	}
}

// The server sees a hang-up when its kernel tells, some time after the client
// hung up: one of the attempts is late enough.
func TestAClientThatIsSeenToHangUpIsGone(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayDead}})
	first := s.Grant("acme")
	for range 1000 {
		gate := s.Hold(refreshtest.AfterCommit)
		ctx, hangUp := context.WithCancel(t.Context())
		got := background(ctx, s, first.RefreshToken)
		n := gate.Await(t).N
		hangUp()
		<-got
		gate.Release()
		s.AwaitIdle(t)
		if s.Ledger()[n-1].Gone {
			return
		}
	}
	t.Error("no hang-up was seen")
}

func TestAGateStopsOneExchangeOfItsTenant(t *testing.T) {
	s := start(t, provider.Profile{Replay: provider.ReplayDead})
	a, b := s.Grant("a"), s.Grant("b")
	s.Hold(refreshtest.BeforeCommit).Release() // stops nothing
	gate := s.Hold(refreshtest.AfterCommit, "b")
	_, next := mustRefresh(t, s, a.RefreshToken)
	got := background(t.Context(), s, b.RefreshToken)
	if p := gate.Await(t); p.Tenant != "b" || p.Outcome != refreshtest.Rotated || !p.Answered.IsZero() {
		t.Errorf("held: %v", p)
	}
	mustRefresh(t, s, next)
	mustRefuse(t, s, b.RefreshToken) // the second of its tenant passes
	gate.Release()
	gate.Release()
	if ans := <-got; ans.status != http.StatusOK {
		t.Errorf("got %d %v", ans.status, ans.err)
	}
}

func TestAwaitExchangeHandsOutEveryArrivalOnce(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	a, b := s.Grant("a"), s.Grant("b")
	mustRefresh(t, s, a.RefreshToken)
	mustRefresh(t, s, b.RefreshToken)
	if p := s.AwaitExchange(t); p.Tenant != "a" {
		t.Errorf("first: %v", p)
	}
	if p := s.AwaitExchange(t); p.Tenant != "b" {
		t.Errorf("second: %v", p)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := s.AwaitExchangeContext(ctx); !errors.Is(err, cause) {
		t.Errorf("got %v, want the ctx's cause", err)
	}
}

func TestLatencyPassesBeforeAndAfterTheCommit(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{LatencyBefore: 20 * time.Millisecond})
	first := s.Grant("acme")
	_, next := mustRefresh(t, s, first.RefreshToken)
	s.SetLatency(0, 20*time.Millisecond)
	mustRefresh(t, s, next)
	l := s.Ledger()
	if d := l[0].Decided.Sub(l[0].Arrived); d < 20*time.Millisecond {
		t.Errorf("committed after %v", d)
	}
	if d := l[1].Answered.Sub(l[1].Decided); d < 20*time.Millisecond {
		t.Errorf("answered %v after the commit", d)
	}
}

func TestCloseCutsLatenciesAndGates(t *testing.T) {
	for name, at := range map[string]refreshtest.Point{"before": refreshtest.BeforeCommit, "after": refreshtest.AfterCommit} {
		t.Run(name, func(t *testing.T) {
			s, err := refreshtest.New(refreshtest.Config{})
			if err != nil {
				t.Fatal(err)
			}
			a, b := s.Grant("a"), s.Grant("b")
			gate := s.Hold(at, "a")
			held := background(t.Context(), s, a.RefreshToken)
			gate.Await(t)
			s.AwaitExchange(t)
			if at == refreshtest.BeforeCommit {
				s.SetLatency(time.Hour, 0)
			} else {
				s.SetLatency(0, time.Hour)
			}
			slow := background(t.Context(), s, b.RefreshToken)
			s.AwaitExchange(t)
			if err := errors.Join(s.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}
			for _, p := range s.Ledger() {
				if p.Answered.IsZero() {
					t.Errorf("Close did not wait for %v", p)
				}
			}
			for _, got := range []<-chan answer{held, slow} {
				if ans := <-got; ans.err == nil {
					t.Errorf("got an answer of a closed server: %d", ans.status)
				}
			}
			if spent := s.Ledger()[0].Outcome.Committed(); spent != (at == refreshtest.AfterCommit) {
				t.Errorf("committed: %v", spent)
			}
			if _, err := s.AwaitExchangeContext(t.Context()); !errors.Is(err, refreshtest.ErrClosed) {
				t.Errorf("await on a closed server: %v", err)
			}
		})
	}
}
