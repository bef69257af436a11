package integration

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

func TestInvalidGrantIsHeardTwiceAndIsOneAnswerForAll(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Own(t), refreshtest.Config{})
	workers := f.workers(8)
	f.connect("acme")
	f.server.Revoke("acme")
	gate := f.server.Hold(refreshtest.BeforeCommit)
	asked := ask(workers, "acme", 250)
	gate.Await(t)
	f.subscribed("acme", 8)
	gate.Release()
	within(t, "telling all", secondOpinion+2*promise, func() { f.refused(gather(asked), 8*250, "reauthorize/invalid_grant") })
	f.presented("acme", 2)
	f.dead("acme", "invalid_grant")
	f.explained("acme", "TL301", explain.Tenant, "began to present generation 1")
	if n := f.journaled("acme", "reauthorize"); n != 1 {
		t.Errorf("%d state changes, want 1", n)
	}

	calls := redistest.Commands(t, f.rdb, func() {
		f.refused(herd(workers, "acme", 250), 8*250, "reauthorize/invalid_grant")
	})
	// A process that heard of it before its subscription was confirmed reads once more, and the
	// holder gives its lease back a moment after everybody has the answer.
	for name, n := range calls {
		if n > len(workers)+1 || slices.Contains([]string{"set", "hset", "xadd"}, name) {
			t.Errorf("later calls cost %v, want neither lease nor change", calls)
		}
	}
	f.presented("acme", 2)

	f.expire("acme", workers) // a new consent, of which all have heard
	f.served(herd(workers, "acme", 250), 8*250)
	f.presented("acme", 3)
	f.living("acme")
}

// secondOpinion is how long after a refusal the token is presented once more, at most.
const secondOpinion = 2500 * time.Millisecond

// journaled counts the grant's events of a kind.
func (f *fleet) journaled(tenant, kind string) int {
	f.t.Helper()
	events, err := f.rdb.XRange(f.ctx(), f.key(tenant, "journal"), "-", "+").Result()
	if err != nil || len(events) == 0 {
		f.t.Fatalf("journal: %d events, %v", len(events), err)
	}
	n := 0
	for _, e := range events {
		if e.Values["kind"] == kind {
			n++
		}
	}
	return n
}

func TestTheWholeFleetHonoursRetryAt(t *testing.T) {
	t.Parallel()
	const wish = 12 * time.Second // all ask twice in that
	for name, step := range map[string]refreshtest.Step{
		"503": {Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"12"}}},
		"429": {Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"12"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A 503 may have spent the token: only where that does no harm is it presented again then.
			f := newFleet(t, redistest.Own(t), refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayHarmless}})
			workers := f.workers(4)
			f.connect("acme")
			f.server.Script(step)
			start := time.Now()
			r := herd(workers, "acme", 50)
			f.refused(r, 4*50, "unavailable/")
			if r.RetryMax > wish+wish/4+promise/2 || r.RetryMin+time.Since(start) < wish {
				t.Errorf("retry after %v to %v, want %v and up to a quarter more", r.RetryMin, r.RetryMax, wish)
			}
			calls := redistest.Commands(t, f.rdb, func() { r = herd(workers, "acme", 50) })
			f.refused(r, 4*50, "unavailable/")
			if calls["set"] > 0 || time.Since(start) > wish {
				t.Errorf("tried the lease before retry_at: %v", calls)
			}
			f.presented("acme", 1)
			f.explained("acme", "TL201", explain.Nobody, "began to present generation 1")
			time.Sleep(r.RetryMax + 50*time.Millisecond) // as the error says
			f.served(herd(workers, "acme", 50), 4*50)
			f.presented("acme", 2)
			f.living("acme")
		})
	}
}

func TestAWrongClientSecretMarksNoTenant(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{ClientSecret: "right"})
	f.setup.ClientSecret = "wrong"
	workers := f.workers(3)
	f.connect("acme")
	f.refused(herd(workers, "acme", 20), 3*20, "client_config/invalid_client")
	f.presented("acme", 1)
	if st := f.status("acme"); st.State != tokencache.Active {
		t.Errorf("state %s", st.State)
	}
	f.explained("acme", "TL401", explain.Operator, "")
}

// An answer that is lost after the provider's commit takes the pair with it. What is
// left to do depends on what a second presentation does.
func TestALostAnswer(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		strict := mode.profile.Replay == provider.ReplayDead || mode.profile.Replay == provider.ReplayRevokesFamily
		for _, lost := range []refreshtest.Fault{refreshtest.Drop, refreshtest.Reset, refreshtest.Truncate} {
			if mode.profile.Replay == provider.ReplayHarmless && lost == refreshtest.Truncate {
				continue // half an answer is enough there: see below
			}
			t.Run("after the provider's commit/"+mode.name+"/"+string(lost), func(t *testing.T) {
				t.Parallel()
				f, r := afterLostAnswer(t, mode.profile, refreshtest.Step{At: refreshtest.AfterCommit, Fault: lost})
				if !strict {
					f.served(r, waitingTotal)
					f.ledger(tenant, 2, 2, 0)
					f.living(tenant)
					return
				}
				f.refused(r, waitingTotal, "reauthorize/lost_response")
				f.ledger(tenant, 2, 2, 1) // the one recovery presentation of rule 6.7
				f.dead(tenant, "lost_response")
				f.explained(tenant, "TL302", explain.Tenant, "began to present generation 1")
			})
		}
		t.Run("before the provider's commit/"+mode.name, func(t *testing.T) {
			t.Parallel()
			f, r := afterLostAnswer(t, mode.profile, refreshtest.Step{At: refreshtest.BeforeCommit, Fault: refreshtest.Drop})
			f.served(r, waitingTotal)
			f.ledger(tenant, 2, 2, 0)
			f.living(tenant)
		})
	}
}

// A grace window may be shorter than the claim's hard deadline: then waiting for that
// would lose the grant.
func TestALostAnswerIsAskedForAgainWithinTheGraceWindow(t *testing.T) {
	t.Parallel()
	f, r := afterLostAnswer(t, provider.Profile{Replay: provider.ReplayGrace, Grace: 12 * time.Second},
		refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Drop})
	f.served(r, waitingTotal)
	f.ledger(tenant, 2, 2, 0)
	f.living(tenant)
}

// Where the old refresh token stays good, the access token before the cut is all that
// was needed of the answer.
func TestHalfAnAnswerIsEnoughWhereReplayIsHarmless(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayHarmless}})
	workers := f.workers(2)
	f.connect(tenant)
	f.server.Script(refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Truncate})
	f.served(herd(workers, tenant, waitingEach), waitingTotal)
	f.presented(tenant, 1)
	f.living(tenant)
}

// afterLostAnswer lets one exchange's answer be lost, and all ask again when the error
// says so. Where presenting again is not safe that is after the claim's hard deadline.
func afterLostAnswer(t *testing.T, p provider.Profile, step refreshtest.Step) (*fleet, report) {
	t.Helper()
	f := newFleet(t, redistest.Start(t), refreshtest.Config{Profile: p}, func(s *setup) {
		s.Exchange, s.Claim = 2500*time.Millisecond, 3500*time.Millisecond
	})
	workers := f.workers(2)
	f.connect(tenant)
	f.server.Script(step)
	f.server.SetLatency(time.Second, 0) // or a slow process' callers come when it is time to ask again
	r := herd(workers, tenant, waitingEach)
	f.server.SetLatency(0, 0)
	f.refused(r, waitingTotal, "unavailable/")
	f.presented(tenant, 1)
	f.explained(tenant, "TL201|TL203", explain.Nobody, "began to present generation 1")
	hard := f.status(tenant).ClaimUntil
	time.Sleep(r.RetryMax + 50*time.Millisecond)
	again := herd(workers, tenant, waitingEach)
	l := f.server.Ledger().Presentations(tenant)
	strict := p.Replay == provider.ReplayDead || p.Replay == provider.ReplayRevokesFamily
	if last := l[len(l)-1]; strict && last.Arrived.Before(hard) {
		t.Errorf("presented again %v before the hard deadline", hard.Sub(last.Arrived))
	}
	return f, again
}
