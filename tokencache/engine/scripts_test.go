package engine

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// A world is one grant, and two caches on it: one does what is tested, the other sets
// the scene and looks at the result.
type world struct {
	*testing.T
	c, stage *Cache
	k        grant.Key
}

// by is the holder's name in what is tested. The lossy backend loses the first reply to
// a script that holds it.
const by = "worker-under-test"

// An operation is one call, with what it has to answer and to leave behind: run once, run
// on miniredis, or run twice because its first reply was lost.
type operation struct {
	name    string
	stage   func(w *world) *Snapshot              // the base of the call
	call    func(w *world, base *Snapshot) result // nil: commit of pair 2
	want    grant.Outcome
	journal []string // kinds that the call adds; each is published once

	published []string // if others are than are journaled
	check     func(w *world, base, now *Snapshot)
}

type result struct {
	outcome grant.Outcome
	snap    *Snapshot
	err     error
}

func connected(w *world) *Snapshot { return connect(w.T, w.stage, w.k, 1) }
func claimed(w *world) *Snapshot   { return claim(w.T, w.stage, connected(w), by) }

func doClaim(takeover grant.Takeover) func(*world, *Snapshot) result {
	return func(w *world, base *Snapshot) result {
		o, s, err := w.c.Grant(base.Key).As(by).Claim(w.Context(), base, NewID(), time.Minute, takeover)
		return result{o, s, err}
	}
}

func doCommit(n int, spare bool) func(*world, *Snapshot) result {
	return func(w *world, base *Snapshot) result {
		o, s, err := w.c.Grant(base.Key).As(by).Commit(w.Context(), base, NewID(), pairNo(n)(base.At()), spare, false)
		return result{o, s, err}
	}
}

func doFail(f grant.Failure) func(*world, *Snapshot) result {
	return func(w *world, base *Snapshot) result {
		f := f // operations run in parallel
		f.ID, f.Error = NewID(), "transient/timeout/0"
		o, s, err := w.c.Grant(base.Key).As(by).Fail(w.Context(), base, f)
		return result{o, s, err}
	}
}

func doExtend(failure string) func(*world, *Snapshot) result {
	return func(w *world, base *Snapshot) result {
		o, s, err := w.c.Grant(base.Key).As(by).Extend(w.Context(), base, time.Hour, failure, time.Minute)
		return result{o, s, err}
	}
}

func doConnect(w *world, _ *Snapshot) result {
	s, err := w.c.Grant(w.k).As(by).Connect(w.Context(), pairNo(2))
	return result{grant.OutcomeOK, s, err}
}

func doDisconnect(w *world, _ *Snapshot) result {
	return result{grant.OutcomeOK, nil, w.c.Grant(w.k).As(by).Disconnect(w.Context())}
}

func doRead(w *world, _ *Snapshot) result {
	s, err := w.c.Grant(w.k).Read(w.Context())
	return result{grant.OutcomeOK, s, err}
}

// refusals are rules with those waits.
func refusals(waits ...time.Duration) grant.Refusals {
	return grant.Refusals{Waits: waits, Forget: time.Hour, Fresh: 10 * time.Minute, Early: 25, Foreign: 3}
}

// rejected reports the access token of the stored pair as refused, and commits the next
// one, n times.
func rejected(w *world, n int) *Snapshot {
	s := connected(w)
	for i := range n {
		o, noted, err := w.stage.Grant(s.Key).As("stage").Reject(w.Context(), s, refusals(0, time.Minute, time.Hour))
		if err != nil || o != grant.OutcomeOK {
			w.Fatalf("refusal %d: %s, %v", i, o, err)
		}
		s = commit(w.T, w.stage, noted, i+2)
	}
	return s
}

func doReject(w *world, base *Snapshot) result {
	o, s, err := w.c.Grant(base.Key).As(by).Reject(w.Context(), base, refusals(0, time.Minute, time.Hour))
	return result{o, s, err}
}

// rejects asserts how many refusals count, and that the next is to wait for `wait`.
func rejects(n int64, wait time.Duration) func(w *world, base, now *Snapshot) {
	return func(w *world, base, now *Snapshot) {
		since := now.RejectAt - wait.Milliseconds() // when it was noted; a snapshot's time may be some ms ahead
		if now.Rejects != n || now.RejectedGen != base.Generation || since < base.At()-5 || since > now.At()+5 || now.Reason != "" {
			w.Errorf("%d refusals, of generation %d, next in %d ms, reason %q", now.Rejects, now.RejectedGen, now.RejectAt-now.At(), now.Reason)
		}
	}
}

var operations = []operation{
	// Reject: one exchange for each refused generation, ever more rarely in a row.
	{name: "reject", stage: connected, call: doReject, want: grant.OutcomeOK, journal: []string{"reject"}, check: rejects(1, 0)},
	{name: "reject of a fresh generation", call: doReject, want: grant.OutcomeOK, journal: []string{"reject"}, check: rejects(2, time.Minute),
		stage: func(w *world) *Snapshot { return rejected(w, 1) }},
	{name: "reject by a straggler", call: doReject, want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { base := connected(w); commit(w.T, w.stage, base, 2); return base }},
	{name: "reject of a pair that shares its generation with the stored one", call: doReject, want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot {
			base := connected(w)
			hset(w.T, w.stage, w.k, "at_fp", grant.Fingerprint("of the sibling"))
			return base
		}},
	{name: "reject of what another has reported", call: doReject, want: grant.OutcomeOK,
		stage: func(w *world) *Snapshot {
			base := rejected(w, 1)
			_, _, err := w.stage.Grant(base.Key).As("stage").Reject(w.Context(), base, refusals(0, time.Minute))
			if err != nil {
				w.Fatal(err)
			}
			return base
		}, check: func(w *world, _, now *Snapshot) {
			if now.Rejects != 2 {
				w.Errorf("%d refusals count", now.Rejects)
			}
		}},
	{name: "reject of a third in a row", call: doReject, want: grant.OutcomeWait, journal: []string{"suspect"},
		stage: func(w *world) *Snapshot { return rejected(w, 2) },
		check: func(w *world, _, now *Snapshot) {
			if now.Rejects != 2 || now.Reason != "suspect" || now.State != grant.Active {
				w.Errorf("%d refusals, reason %q", now.Rejects, now.Reason)
			}
		}},
	{name: "reject of a third in a row, known to be suspect", call: doReject, want: grant.OutcomeWait,
		stage: func(w *world) *Snapshot {
			base := rejected(w, 2)
			_, base, err := w.stage.Grant(base.Key).As("stage").Reject(w.Context(), base, refusals(0, time.Minute))
			if err != nil {
				w.Fatal(err)
			}
			return base
		}},
	{name: "reject when the time has come", call: doReject, want: grant.OutcomeOK, journal: []string{"reject"}, check: rejects(3, time.Hour),
		stage: func(w *world) *Snapshot {
			rejected(w, 2)
			hset(w.T, w.stage, w.k, "reject_at", read(w.T, w.stage, w.k).At()-1)
			return read(w.T, w.stage, w.k)
		}},
	{name: "reject long after the last", call: doReject, want: grant.OutcomeOK, journal: []string{"reject"}, check: rejects(1, 0),
		stage: func(w *world) *Snapshot {
			rejected(w, 2)
			hset(w.T, w.stage, w.k, "reject_at", read(w.T, w.stage, w.k).At()-3_600_100)
			return read(w.T, w.stage, w.k)
		}},
	{name: "reject more often than waits are given", call: doReject, want: grant.OutcomeOK, journal: []string{"reject"}, check: rejects(9, time.Hour),
		stage: func(w *world) *Snapshot {
			base := rejected(w, 1)
			hset(w.T, w.stage, w.k, "rejects", 8)
			return base
		}},
	{name: "reject of a token that has worked for a while", call: doReject, want: grant.OutcomeOK, journal: []string{"reject"}, check: rejects(2, time.Minute),
		stage: func(w *world) *Snapshot {
			s := rejected(w, 2)
			hset(w.T, w.stage, w.k, "issued_at", s.At()-600_000)
			return read(w.T, w.stage, w.k)
		}},
	{name: "reject after a consent", call: doReject, want: grant.OutcomeOK, journal: []string{"reject"}, check: rejects(1, 0),
		stage: func(w *world) *Snapshot { rejected(w, 2); return connect(w.T, w.stage, w.k, 9) }},
	{name: "reject of a dead grant", call: doReject, want: grant.OutcomeDead,
		stage: func(w *world) *Snapshot { return dead(w, claimed(w)) }},

	// Claim: only the generation and epoch that were read, active, unclaimed, not too early.
	{name: "claim", stage: connected, call: doClaim(grant.AfterDeadline), want: grant.OutcomeOK, journal: []string{"claim"},
		check: func(w *world, base, now *Snapshot) {
			if now.Claim.By != by || now.Claim.N != 1 || now.Claim.Prior != 0 || now.Claim.Until != now.Claim.At+60_000 || now.Generation != base.Generation {
				w.Errorf("claim: %+v", now.Claim)
			}
		}},
	{name: "claim of a generation that has moved on", call: doClaim(grant.AtOnce), want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { base := connected(w); commit(w.T, w.stage, base, 2); return base }},
	{name: "claim after another consent", call: doClaim(grant.AtOnce), want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { base := connected(w); connect(w.T, w.stage, w.k, 2); return base }},
	{name: "claim after Disconnect", call: doClaim(grant.AtOnce), want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { base := connected(w); disconnect(w.T, w.stage, w.k); return base }},
	{name: "claim of a dead grant", call: doClaim(grant.AtOnce), want: grant.OutcomeDead,
		stage: func(w *world) *Snapshot { return dead(w, claimed(w)) }},
	{name: "claim before retry_at", call: doClaim(grant.AtOnce), want: grant.OutcomeWait,
		stage: func(w *world) *Snapshot {
			base := claimed(w)
			doFailAs(w, base, grant.Failure{Verdict: grant.VerdictClear, Retry: time.Hour})
			return base
		}},
	{name: "claim after retry_at", call: doClaim(grant.AfterDeadline), want: grant.OutcomeOK, journal: []string{"claim"},
		stage: func(w *world) *Snapshot {
			base := claimed(w)
			doFailAs(w, base, grant.Failure{Verdict: grant.VerdictClear})
			hset(w.T, w.stage, w.k, "retry_at", base.At()-1)
			return base
		}},
	{name: "claim of a claimed generation", stage: claimed, call: doClaim(grant.AfterDeadline), want: grant.OutcomeClaimed},
	{name: "claim taken over", stage: claimed, call: doClaim(grant.AtOnce), want: grant.OutcomeOK, journal: []string{"claim"},
		check: func(w *world, base, now *Snapshot) {
			if now.Claim.N != 2 || now.Claim.At != base.Claim.At || now.Claim.Prior != base.Claim.Until || now.Claim.Until < base.Claim.Until {
				w.Errorf("the earlier claim %+v became %+v", base.Claim, now.Claim)
			}
		}},

	// Extend: only the claim under which it is asked for.
	{name: "extend", stage: claimed, call: doExtend(""), want: grant.OutcomeOK, published: []string{"extend"},
		check: func(w *world, base, now *Snapshot) {
			if late := now.Claim.Until - base.Claim.Until; late < 3_000_000 || now.Claim.ID != base.Claim.ID || now.Claim.At != base.Claim.At || now.RetryAt != 0 {
				w.Errorf("claim %+v became %+v", base.Claim, now.Claim)
			}
			has(w, now, "at-1")
		}},
	{name: "extend with an error that callers get", stage: claimed, call: doExtend("ambiguous/slow/0"), want: grant.OutcomeOK, journal: []string{"extend"},
		check: func(w *world, base, now *Snapshot) {
			if now.Error != "ambiguous/slow/0" || now.RetryAt < base.At()+60_000 || now.RetryAt > now.At()+60_000 || now.Fails != 0 || now.Claim.Until <= base.Claim.Until {
				w.Errorf("record: %+v", now.Record)
			}
		}},
	{name: "extend never brings the deadline nearer", stage: claimed, want: grant.OutcomeOK,
		call: func(w *world, base *Snapshot) result {
			o, s, err := w.c.Grant(base.Key).As(by).Extend(w.Context(), base, time.Second, "", 0)
			return result{o, s, err}
		},
		check: func(w *world, base, now *Snapshot) {
			if now.Claim != base.Claim {
				w.Errorf("claim %+v became %+v", base.Claim, now.Claim)
			}
		}},
	{name: "extend with an error never brings the deadline nearer", stage: claimed, want: grant.OutcomeOK, journal: []string{"extend"},
		call: func(w *world, base *Snapshot) result {
			o, s, err := w.c.Grant(base.Key).As(by).Extend(w.Context(), base, time.Second, "ambiguous/slow/0", time.Minute)
			return result{o, s, err}
		},
		check: func(w *world, base, now *Snapshot) {
			if now.Claim != base.Claim {
				w.Errorf("claim %+v became %+v", base.Claim, now.Claim)
			}
		}},
	{name: "extend after a takeover", call: doExtend(""), want: grant.OutcomeClaimed,
		stage: func(w *world) *Snapshot {
			base := claimed(w)
			if o, _, err := w.stage.Grant(base.Key).As("second").Claim(w.Context(), base, NewID(), time.Minute, grant.AtOnce); o != grant.OutcomeOK {
				w.Fatal(o, err)
			}
			return base
		}},
	{name: "extend after the commit", call: doExtend(""), want: grant.OutcomeMoved, check: func(w *world, _, now *Snapshot) { has(w, now, "at-2") },
		stage: func(w *world) *Snapshot { base := claimed(w); commit(w.T, w.stage, base, 2); return base }},

	// Commit: judged by generation alone.
	{name: "commit", stage: claimed, want: grant.OutcomeOK, journal: []string{"commit"},
		check: func(w *world, base, now *Snapshot) {
			if now.Generation != base.Generation+1 || now.Epoch != base.Epoch || now.Claim != (grant.Claim{}) || now.By != by || now.AccessFP != grant.Fingerprint("at-2") {
				w.Errorf("record: %+v", now.Record)
			}
		}},
	{name: "commit of a lapsed claim that another took over", want: grant.OutcomeOK, journal: []string{"commit"},
		stage: func(w *world) *Snapshot {
			base := claimed(w)
			if o, _, err := w.stage.Grant(base.Key).As("other").Claim(w.Context(), base, NewID(), time.Minute, grant.AtOnce); o != grant.OutcomeOK {
				w.Fatal(o, err)
			}
			return base
		}},
	{name: "commit after the claim was cleared", want: grant.OutcomeOK, journal: []string{"commit"},
		stage: func(w *world) *Snapshot {
			base := claimed(w)
			doFailAs(w, base, grant.Failure{Verdict: grant.VerdictClear})
			return base
		},
		check: func(w *world, _, now *Snapshot) {
			if now.Fails != 0 || now.Error != "" || now.RetryAt != 0 {
				w.Errorf("failure left: %+v", now.Record)
			}
		}},
	{name: "late successor heals a dead grant", want: grant.OutcomeOK, journal: []string{"commit"},
		stage: func(w *world) *Snapshot { base := claimed(w); dead(w, base); return base },
		check: func(w *world, _, now *Snapshot) {
			if now.State != grant.Active || now.Reason != "" {
				w.Errorf("state %s, reason %q", now.State, now.Reason)
			}
		}},
	// Its refresh token is spent: what it brought is what is left of that consent.
	{name: "commit after another consent", want: grant.OutcomeMoved, journal: []string{"spare"},
		stage: func(w *world) *Snapshot { base := claimed(w); connect(w.T, w.stage, w.k, 3); return base },
		check: func(w *world, _, now *Snapshot) { has(w, now, "at-3"); spareIs(w, now, "rt-2") }},
	{name: "commit after Disconnect", want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { base := claimed(w); disconnect(w.T, w.stage, w.k); return base },
		check: func(w *world, _, now *Snapshot) {
			hasNoSpare(w)
			if now.State != grant.Disconnected || w.stage.rdb.Exists(w.Context(), w.stage.Grant(w.k).keys().Secret()).Val() != 0 {
				w.Error("resurrected")
			}
		}},
	{name: "commit after a sibling", want: grant.OutcomeMoved, journal: []string{"spare"},
		stage: func(w *world) *Snapshot { base := claimed(w); commit(w.T, w.stage, base, 3); return base },
		check: func(w *world, base, now *Snapshot) {
			has(w, now, "at-3")
			spareIs(w, base, "rt-2")
		}},
	{name: "commit after a sibling with the same pair", want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { base := claimed(w); commit(w.T, w.stage, base, 2); return base },
		check: func(w *world, _, now *Snapshot) { hasNoSpare(w); has(w, now, "at-2") }},
	{name: "commit repeated after its pair was spent", want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { return claimed(w) },
		call: func(w *world, base *Snapshot) result {
			id, pair := NewID(), pairNo(2)(base.At())
			o, s, err := w.stage.Grant(base.Key).As(by).Commit(w.Context(), base, id, pair, false, false)
			if o != grant.OutcomeOK || err != nil {
				w.Fatal(o, err)
			}
			commit(w.T, w.stage, claim(w.T, w.stage, s, "next"), 3)
			o, s, err = w.c.Grant(base.Key).As(by).Commit(w.Context(), base, id, pair, false, false)
			return result{o, s, err}
		},
		journal: []string{"commit", "claim", "commit"},
		check:   func(w *world, _, now *Snapshot) { hasNoSpare(w); has(w, now, "at-3") }},
	{name: "commit repeated after it became the spare", want: grant.OutcomeMoved, journal: []string{"spare"},
		stage: func(w *world) *Snapshot { base := claimed(w); commit(w.T, w.stage, base, 3); return base },
		call: func(w *world, base *Snapshot) result {
			id, pair := NewID(), pairNo(2)(base.At())
			if o, _, err := w.stage.Grant(base.Key).As(by).Commit(w.Context(), base, id, pair, false, false); o != grant.OutcomeMoved || err != nil {
				w.Fatal(o, err)
			}
			o, s, err := w.c.Grant(base.Key).As(by).Commit(w.Context(), base, id, pair, false, false) // sealed anew
			return result{o, s, err}
		}},
	{name: "commit of the spare", call: doCommit(2, true), want: grant.OutcomeOK, journal: []string{"commit"},
		stage: func(w *world) *Snapshot { return withSpare(w) },
		check: func(w *world, _, now *Snapshot) { hasNoSpare(w); has(w, now, "at-2") }},
	{name: "commit of the spare after it moved on", call: doCommit(2, true), want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot {
			base := withSpare(w)
			commit(w.T, w.stage, base, 4)
			return base
		},
		check: func(w *world, base, now *Snapshot) {
			has(w, now, "at-4")
			if _, ok, _ := w.stage.Grant(base.Key).Spare(w.Context(), base); !ok {
				w.Error("a genuine pair was thrown away")
			}
		}},
	{name: "commit after Redis lost the grant", want: grant.OutcomeOK, journal: []string{"commit"},
		stage: func(w *world) *Snapshot { base := claimed(w); lose(w.T, w.stage, w.k); return base },
		check: func(w *world, base, now *Snapshot) {
			if now.Generation != base.Generation+1 || now.Epoch != base.Epoch {
				w.Errorf("record: %+v", now.Record)
			}
		}},
	{name: "commit over an older generation", want: grant.OutcomeOK, journal: []string{"commit"},
		stage: func(w *world) *Snapshot {
			base := connected(w)
			backup := remember(w.T, w.stage, w.k)
			base = claim(w.T, w.stage, commit(w.T, w.stage, base, 3), by)
			rewind(w.T, w.stage, w.k, backup)
			return base
		},
		check: func(w *world, base, now *Snapshot) {
			if now.Generation != base.Generation+1 {
				w.Errorf("generation %d after %d", now.Generation, base.Generation)
			}
		}},
	{name: "commit over an older consent", want: grant.OutcomeOK, journal: []string{"commit"},
		stage: func(w *world) *Snapshot {
			connect(w.T, w.stage, w.k, 3)
			backup := remember(w.T, w.stage, w.k)
			base := claim(w.T, w.stage, connect(w.T, w.stage, w.k, 3), by)
			rewind(w.T, w.stage, w.k, backup)
			return base
		},
		check: func(w *world, base, now *Snapshot) {
			if now.Epoch != base.Epoch || now.Generation != base.Generation+1 {
				w.Errorf("record: %+v", now.Record)
			}
		}},

	// Fail: by CAS on generation, epoch and claim.
	{name: "fail unspent", stage: claimed, call: doFail(grant.Failure{Verdict: grant.VerdictClear, Retry: time.Minute}), want: grant.OutcomeOK, journal: []string{"fail"},
		check: func(w *world, base, now *Snapshot) {
			if now.Claim != (grant.Claim{}) || now.Fails != 1 || now.RetryAt != now.ErrorAt+60_000 || now.Error != "transient/timeout/0" || now.State != grant.Active {
				w.Errorf("record: %+v", now.Record)
			}
			has(w, now, "at-1")
		}},
	{name: "fail unspent after a takeover", call: doFail(grant.Failure{Verdict: grant.VerdictClear}), want: grant.OutcomeOK, journal: []string{"fail"},
		stage: func(w *world) *Snapshot {
			_, s, _ := w.stage.Grant(w.k).As("second").Claim(w.Context(), claimed(w), NewID(), time.Minute, grant.AtOnce)
			return s
		},
		check: func(w *world, base, now *Snapshot) {
			if !now.Claim.Unresolved() || now.Claim.N != 1 || now.Claim.At != base.Claim.At || now.Claim.Until < base.Claim.Prior {
				w.Errorf("the earlier claim %+v became %+v", base.Claim, now.Claim)
			}
		}},
	{name: "fail perhaps spent", stage: claimed, call: doFail(grant.Failure{Verdict: grant.VerdictKeep, Retry: time.Second, Deadline: true}), want: grant.OutcomeOK, journal: []string{"fail"},
		check: func(w *world, base, now *Snapshot) {
			if now.Claim != base.Claim || now.RetryAt != base.Claim.Until {
				w.Errorf("claim %+v, retry_at %d", now.Claim, now.RetryAt)
			}
		}},
	{name: "fail perhaps spent, and over", stage: claimed, call: doFail(grant.Failure{Verdict: grant.VerdictKeep, Retry: time.Second, Deadline: true, Over: 40 * time.Second}), want: grant.OutcomeOK, journal: []string{"fail"},
		check: func(w *world, base, now *Snapshot) {
			if sooner := base.Claim.Until - now.Claim.Until; sooner != 40_000 || now.RetryAt != now.Claim.Until || !now.Claim.Unresolved() {
				w.Errorf("claim %+v, %d ms sooner, retry_at %d", now.Claim, sooner, now.RetryAt)
			}
		}},
	{name: "fail perhaps spent, and over while an earlier one is not", call: doFail(grant.Failure{Verdict: grant.VerdictKeep, Deadline: true, Over: time.Minute}), want: grant.OutcomeOK, journal: []string{"fail"},
		stage: func(w *world) *Snapshot {
			_, s, _ := w.stage.Grant(w.k).As("second").Claim(w.Context(), claimed(w), NewID(), time.Hour, grant.AtOnce)
			return s
		},
		check: func(w *world, base, now *Snapshot) {
			if now.Claim.Until < base.Claim.Prior || now.Claim.Until >= base.Claim.Until {
				w.Errorf("the earlier claim %+v became %+v", base.Claim, now.Claim)
			}
		}},
	{name: "fail perhaps spent, replay harmless", stage: claimed, call: doFail(grant.Failure{Verdict: grant.VerdictKeep, Retry: time.Second}), want: grant.OutcomeOK, journal: []string{"fail"},
		check: func(w *world, base, now *Snapshot) {
			if !now.Claim.Unresolved() || now.RetryAt != now.ErrorAt+1000 {
				w.Errorf("claim %+v, retry_at %d", now.Claim, now.RetryAt)
			}
		}},
	{name: "fail dead", stage: claimed, call: doFail(grant.Failure{Verdict: grant.VerdictDead, Reason: "invalid_grant", Retry: time.Hour}), want: grant.OutcomeOK, journal: []string{"reauthorize"},
		check: func(w *world, base, now *Snapshot) {
			if now.State != grant.Reauthorize || now.Reason != "invalid_grant" || now.Claim.Unresolved() || now.RetryAt != now.ErrorAt+time.Hour.Milliseconds() || now.Generation != base.Generation {
				w.Errorf("record: %+v", now.Record)
			}
		}},
	{name: "fail refused once", stage: claimed, call: doFail(grant.Failure{Verdict: grant.VerdictAgain, Retry: time.Hour}), want: grant.OutcomeOK, journal: []string{"refused"},
		check: func(w *world, base, now *Snapshot) {
			if now.State != grant.Active || now.Claim.ID != base.Claim.ID || now.Claim.N != 1 || now.Claim.Until < now.ErrorAt+time.Hour.Milliseconds() || now.RetryAt != 0 || now.Fails != 0 {
				w.Errorf("record: %+v", now.Record)
			}
		}},
	{name: "claim for a revival", stage: func(w *world) *Snapshot { return mortal(w, "retry_at", 1) }, call: doClaim(grant.AfterDeadline), want: grant.OutcomeOK, journal: []string{"claim"}},
	{name: "claim for a revival too early", stage: func(w *world) *Snapshot { return mortal(w) }, call: doClaim(grant.AfterDeadline), want: grant.OutcomeWait},
	{name: "claim for a revival that is not to be", stage: func(w *world) *Snapshot { return mortal(w, "retry_at", "") }, call: doClaim(grant.AfterDeadline), want: grant.OutcomeDead},
	{name: "fail a revival", stage: revival, call: doFail(grant.Failure{Verdict: grant.VerdictDead, Reason: "other", Retry: time.Hour}), want: grant.OutcomeOK, journal: []string{"revival"}, check: stillDead(false)},
	{name: "fail a revival, unspent", stage: revival, call: doFail(grant.Failure{Verdict: grant.VerdictClear, Retry: time.Hour}), want: grant.OutcomeOK, journal: []string{"revival"}, check: stillDead(false)},
	{name: "fail a revival, perhaps spent", stage: revival, call: doFail(grant.Failure{Verdict: grant.VerdictKeep, Retry: time.Hour}), want: grant.OutcomeOK, journal: []string{"revival"}, check: stillDead(true)},
	{name: "fail a revival after another consent", call: doFail(grant.Failure{Verdict: grant.VerdictDead}), want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { base := revival(w); connect(w.T, w.stage, w.k, 3); return base },
		check: func(w *world, _, now *Snapshot) { has(w, now, "at-3") }},
	{name: "commit of a revival", stage: revival, want: grant.OutcomeOK, journal: []string{"commit"},
		check: func(w *world, _, now *Snapshot) {
			if now.State != grant.Active || now.Reason != "" || now.Revivals != 0 || now.RetryAt != 0 {
				w.Errorf("record: %+v", now.Record)
			}
		}},
	{name: "fail in a way that no rule knows", call: doFail(grant.Failure{Verdict: grant.VerdictClear, Retry: time.Hour, Unknown: true}), want: grant.OutcomeOK, journal: []string{"fail"},
		stage: func(w *world) *Snapshot {
			base := claimed(w)
			hset(w.T, w.stage, w.k, "refused_at", 1700000000000)
			return base
		},
		check: func(w *world, _, now *Snapshot) {
			if now.RefusedAt != 1700000000000 {
				w.Errorf("refused since %d", now.RefusedAt)
			}
		}},
	{name: "fail dead after it moved on", call: doFail(grant.Failure{Verdict: grant.VerdictDead}), want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { base := claimed(w); commit(w.T, w.stage, base, 3); return base },
		check: func(w *world, _, now *Snapshot) { has(w, now, "at-3") }},
	{name: "fail dead after another consent", call: doFail(grant.Failure{Verdict: grant.VerdictDead}), want: grant.OutcomeMoved,
		stage: func(w *world) *Snapshot { base := claimed(w); connect(w.T, w.stage, w.k, 3); return base },
		check: func(w *world, _, now *Snapshot) { has(w, now, "at-3") }},
	{name: "fail dead after a takeover", call: doFail(grant.Failure{Verdict: grant.VerdictDead}), want: grant.OutcomeClaimed,
		stage: func(w *world) *Snapshot {
			base := claimed(w)
			_, _, _ = w.stage.Grant(base.Key).As("second").Claim(w.Context(), base, NewID(), time.Minute, grant.AtOnce)
			return base
		},
		check: func(w *world, _, now *Snapshot) {
			if now.State != grant.Active || now.Claim.By != "second" {
				w.Errorf("record: %+v", now.Record)
			}
		}},

	// Consent.
	{name: "first connect", stage: func(*world) *Snapshot { return nil }, call: doConnect, want: grant.OutcomeOK, journal: []string{"connect"},
		check: func(w *world, _, now *Snapshot) {
			if now.Generation != 1 || now.State != grant.Active || now.Epoch > now.At() || now.Epoch < now.At()-60_000 {
				w.Errorf("record: %+v", now.Record)
			}
		}},
	{name: "connect over a claimed, failed grant with a spare", call: doConnect, want: grant.OutcomeOK, journal: []string{"connect"},
		stage: func(w *world) *Snapshot {
			base := claim(w.T, w.stage, withSpare(w), by)
			doFailAs(w, base, grant.Failure{Verdict: grant.VerdictKeep, Retry: time.Hour})
			return base
		},
		check: func(w *world, base, now *Snapshot) {
			spareIs(w, now, "rt-3") // of the consent that was replaced a moment after
			if now.Epoch <= base.Epoch || now.Generation != base.Generation+1 || now.Claim != (grant.Claim{}) || now.RetryAt != 0 || now.Fails != 0 {
				w.Errorf("record: %+v", now.Record)
			}
		}},
	{name: "connect while Redis' clock is behind", call: doConnect, want: grant.OutcomeOK, journal: []string{"connect"},
		stage: inTheFuture, check: epochGrew},
	{name: "disconnect", call: doDisconnect, want: grant.OutcomeOK, journal: []string{"disconnect"},
		stage: func(w *world) *Snapshot { return claim(w.T, w.stage, withSpare(w), by) },
		check: func(w *world, base, now *Snapshot) {
			epochGrew(w, base, now)
			hasNoSpare(w)
			if now.State != grant.Disconnected || now.Claim != (grant.Claim{}) || now.AccessFP != "" || now.Token() != nil || now.Pair.AccessToken.Reveal() != "" {
				w.Errorf("tombstone: %+v", now.Record)
			}
		}},
	{name: "disconnect while Redis' clock is behind", call: doDisconnect, want: grant.OutcomeOK, journal: []string{"disconnect"},
		stage: inTheFuture, check: epochGrew},
	{name: "connect over a tombstone", call: doConnect, want: grant.OutcomeOK, journal: []string{"connect"}, check: epochGrew,
		stage: func(w *world) *Snapshot { connected(w); disconnect(w.T, w.stage, w.k); return read(w.T, w.stage, w.k) }},

	// Read, and the repair of what Redis lost.
	{name: "read", stage: claimed, call: doRead, want: grant.OutcomeOK, check: func(w *world, _, now *Snapshot) { has(w, now, "at-1") }},
	{name: "restore after Redis lost the grant", call: doRead, want: grant.OutcomeOK, journal: []string{"restore"}, check: restored,
		stage: func(w *world) *Snapshot { s := inMemory(w); lose(w.T, w.stage, w.k); return s }},
	{name: "restore over an older generation", call: doRead, want: grant.OutcomeOK, journal: []string{"restore"}, check: restored,
		stage: func(w *world) *Snapshot {
			connect(w.T, w.stage, w.k, 3)
			backup := remember(w.T, w.stage, w.k)
			s := inMemory(w)
			rewind(w.T, w.stage, w.k, backup)
			return s
		}},
	{name: "restore over an older state of the same generation", call: doRead, want: grant.OutcomeOK, journal: []string{"restore"}, check: restored,
		stage: func(w *world) *Snapshot {
			s := inMemory(w)
			backup := remember(w.T, w.stage, w.k)
			s = claim(w.T, w.c, s, by)
			rewind(w.T, w.stage, w.k, backup)
			return s
		}},
	{name: "restore of an older memory is refused", want: grant.OutcomeOK,
		stage: func(w *world) *Snapshot {
			old, err := w.stage.Grant(w.k).As(by).Connect(w.Context(), pairNo(1))
			if err != nil {
				w.Fatal(err)
			}
			commit(w.T, w.stage, claim(w.T, w.stage, old, by), 2)
			return old
		},
		call: func(w *world, old *Snapshot) result {
			s, err := w.c.Grant(old.Key).in().Restore(w.Context(), old)
			return result{grant.OutcomeOK, s, err}
		},
		check: func(w *world, _, now *Snapshot) { has(w, now, "at-2") }},
	{name: "restore of a tombstone", call: doRead, want: grant.OutcomeOK, journal: []string{"restore"},
		stage: func(w *world) *Snapshot {
			inMemory(w)
			if err := w.c.Grant(w.k).As(by).Disconnect(w.Context()); err != nil {
				w.Fatal(err)
			}
			lose(w.T, w.stage, w.k)
			return w.c.Grant(w.k).Recall()
		},
		check: func(w *world, base, now *Snapshot) {
			if now.State != grant.Disconnected || now.Epoch != base.Epoch || w.stage.rdb.Exists(w.Context(), w.stage.Grant(w.k).keys().Secret()).Val() != 0 {
				w.Errorf("tombstone: %+v", now.Record)
			}
		}},
}

// inMemory makes the grant one that the cache under test remembers, stored by `by`.
func inMemory(w *world) *Snapshot {
	p := w.c.Grant(w.k).Pin()
	w.Cleanup(p.Unpin)
	confirm(w.T, p)
	s, err := w.c.Grant(w.k).As(by).Connect(w.Context(), pairNo(1))
	if err != nil {
		w.Fatal(err)
	}
	return s
}

func restored(w *world, mem, now *Snapshot) {
	has(w, now, mem.Pair.AccessToken.Reveal())
	if now.Epoch != mem.Epoch || now.Generation != mem.Generation || now.Rev <= mem.Rev || now.Claim != mem.Claim || now.RefreshTokenExpiresAt != mem.RefreshTokenExpiresAt {
		w.Errorf("%+v was restored as %+v", mem.Record, now.Record)
	}
	if quiet := now.RetryAt - now.At(); quiet <= 0 || quiet > grant.RestoreQuiet.Milliseconds() {
		w.Errorf("nobody presents it for %d ms", quiet)
	}
}

func inTheFuture(w *world) *Snapshot {
	s := connected(w)
	hset(w.T, w.stage, w.k, "epoch", s.At()+3_600_000)
	s.Epoch = s.At() + 3_600_000
	return s
}

func epochGrew(w *world, base, now *Snapshot) {
	if now.Epoch <= base.Epoch {
		w.Errorf("epoch %d after %d", now.Epoch, base.Epoch)
	}
}

func dead(w *world, base *Snapshot) *Snapshot {
	return doFailAs(w, base, grant.Failure{Verdict: grant.VerdictDead, Reason: "invalid_grant"})
}

// mortal is a grant that died by a refusal, and is to be presented again in an hour.
func mortal(w *world, fields ...any) *Snapshot {
	doFailAs(w, claimed(w), grant.Failure{Verdict: grant.VerdictDead, Reason: "invalid_grant", Retry: time.Hour})
	if len(fields) > 0 {
		hset(w.T, w.stage, w.k, fields...)
	}
	return read(w.T, w.stage, w.k)
}

// revival is one that is being presented again.
func revival(w *world) *Snapshot {
	return claim(w.T, w.stage, mortal(w, "retry_at", 1), by)
}

// stillDead is what a revival that failed leaves: nobody is told that it died again.
func stillDead(claimed bool) func(w *world, base, now *Snapshot) {
	return func(w *world, base, now *Snapshot) {
		if now.State != grant.Reauthorize || now.Reason != "invalid_grant" || now.Revivals != 1 || now.CommitID != base.CommitID ||
			now.ErrorAt != base.ErrorAt || now.Fails != base.Fails || now.Claim.Unresolved() != claimed || now.RetryAt <= now.At() {
			w.Errorf("record: %+v", now.Record)
		}
	}
}

func doFailAs(w *world, base *Snapshot, f grant.Failure) *Snapshot {
	f.ID = NewID()
	o, s, err := w.stage.Grant(base.Key).As("stage").Fail(w.Context(), base, f)
	if o != grant.OutcomeOK || err != nil {
		w.Fatal(o, err)
	}
	return s
}

// withSpare is a grant whose pair 2 lost against pair 3.
func withSpare(w *world) *Snapshot {
	base := claimed(w)
	s := commit(w.T, w.stage, base, 3)
	if o, _, err := w.stage.Grant(base.Key).As("loser").Commit(w.Context(), base, NewID(), pairNo(2)(base.At()), false, false); o != grant.OutcomeMoved {
		w.Fatal(o, err)
	}
	return s
}

func spareIs(w *world, base *Snapshot, refreshToken string) {
	if p, ok, err := w.stage.Grant(base.Key).Spare(w.Context(), base); err != nil || !ok || p.RefreshToken.Reveal() != refreshToken {
		w.Errorf("the spare is %v %v %v, not %s", p, ok, err, refreshToken)
	}
}

func hasNoSpare(w *world) {
	if w.stage.rdb.Exists(w.Context(), w.stage.Grant(w.k).keys().Spare()).Val() != 0 {
		w.Error("there is a spare")
	}
}

func has(w *world, s *Snapshot, accessToken string) {
	if s.Err != nil || s.Pair.AccessToken.Reveal() != accessToken || s.Token() != nil && s.Token().AccessToken != accessToken {
		w.Errorf("the pair is %v (%v), not that of %s", s.Pair, s.Err, accessToken)
	}
}

func TestScriptsOnMiniredis(t *testing.T) {
	t.Parallel()
	rdb := redistest.Miniredis(t)
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) { run(t, op, rdb, rdb, func() func() { return func() {} }) })
	}
}

func TestScriptsOnRedis(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) { run(t, op, rdb, rdb, func() func() { return func() {} }) })
	}
}

// A command whose reply is lost is sent again by go-redis: each script is safe to run twice.
func TestScriptsRunTwiceAreRunOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	direct := server.Client(t)
	for _, s := range []*redis.Script{store.ClaimScript, store.RejectScript, store.CommitScript, store.FailScript, store.ExtendScript, store.ConnectScript, store.DisconnectScript, store.RestoreScript} {
		if err := s.Load(t.Context(), direct).Err(); err != nil { // else a NOSCRIPT would be lost
			t.Fatal(err)
		}
	}
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			proxy := redistest.NewProxy(t, server.Addr())
			lossy := server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() })
			run(t, op, direct, lossy, func() func() {
				match := by
				if op.name == "read" {
					match = "hmget"
				}
				eaten := proxy.EatReply(match)
				return func() { eaten.Await(t) }
			})
		})
	}
}

// run does one operation and holds its answer against what is stored then.
func run(t *testing.T, op operation, direct, tested redis.UniversalClient, lossy func() (lost func())) {
	prefix := redistest.Prefix(t)
	w := &world{T: t, c: newCache(t, tested, prefix), stage: newCache(t, direct, prefix), k: acme}
	base := op.stage(w)
	before := journaled(t, w.stage, w.k)
	var rev int64
	if base != nil {
		rev, _ = direct.HGet(t.Context(), w.stage.Grant(w.k).keys().Grant(), "rev").Int64()
	}
	events := listen(t, w.stage, direct, direct, w.stage.Grant(w.k).EventsChannel())
	call := op.call
	if call == nil {
		call = doCommit(2, false)
	}
	lost := lossy()
	got := call(w, base)
	lost()
	if got.err != nil {
		t.Fatal(got.err)
	}
	if got.outcome != op.want {
		t.Errorf("answered %q, not %q", got.outcome, op.want)
	}
	published := events()
	added := journaled(t, w.stage, w.k)[len(before):]
	if !slices.Equal(added, append([]string{}, op.journal...)) {
		t.Errorf("journal: %v, not %v", added, op.journal)
	}
	kinds := []string{}
	for _, e := range published {
		if e.Kind != grant.KindAsk { // no change
			kinds = append(kinds, e.Kind)
		}
	}
	late := 0
	if strings.HasPrefix(op.name, "extend") { // a repeat that comes late puts the deadline off once more
		late = len(kinds) - len(slices.Compact(slices.Clone(kinds)))
		kinds = slices.Compact(kinds)
	}
	if want := append(slices.Clone(op.journal), op.published...); !slices.Equal(kinds, append([]string{}, want...)) {
		t.Errorf("published: %v, not %v", kinds, want)
	}
	now := read(t, w.stage, w.k)
	if changes := int64(len(op.journal) + len(op.published) + late); op.want == grant.OutcomeOK && slices.Index(op.journal, "restore") < 0 && base != nil && rev != 0 && now.Rev != rev+changes {
		t.Errorf("revision %d after %d, with %d changes", now.Rev, rev, changes)
	}
	if got.snap != nil && (!reflect.DeepEqual(got.snap.Record, now.Record) || got.snap.Pair.String() != now.Pair.String()) {
		t.Errorf("answered\n%+v %v\nstored is\n%+v %v", got.snap.Record, got.snap.Pair, now.Record, now.Pair)
	}
	if n := len(published); n > 0 && !reflect.DeepEqual(published[n-1].Record, now.Record) {
		t.Errorf("published\n%+v\nstored is\n%+v", published[n-1].Record, now.Record)
	}
	if op.check != nil {
		op.check(w, base, now)
	}
}

// listen returns a function that returns all events published since, up to its call. On
// a Cluster the publisher must be the node of the grant: others are heard in no order.
func listen(t *testing.T, c *Cache, node, publisher redis.UniversalClient, channel string) func() []grant.Event {
	t.Helper()
	ps := node.Subscribe(t.Context(), channel)
	t.Cleanup(func() { _ = ps.Close() })
	if _, err := ps.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() []grant.Event {
		t.Helper()
		const end = "that was all"
		if err := publisher.Publish(t.Context(), channel, end).Err(); err != nil {
			t.Fatal(err)
		}
		var events []grant.Event
		for {
			m, err := ps.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Payload == end {
				return events
			}
			events = append(events, published(t, c, m))
		}
	}
}

func TestNothingIsNone(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	if _, err := c.Grant(acme).Read(t.Context()); !errors.Is(err, grant.ErrNone) {
		t.Errorf("Read: %v", err)
	}
	if _, err := c.Grant(acme).Status(t.Context()); !errors.Is(err, grant.ErrNone) {
		t.Errorf("Status: %v", err)
	}
	base := &Snapshot{Key: acme, Record: grant.Record{Epoch: 1, Generation: 1}}
	if o, _, err := c.Grant(base.Key).As(by).Claim(t.Context(), base, NewID(), time.Minute, grant.AtOnce); o != grant.OutcomeNone || !errors.Is(err, grant.ErrNone) {
		t.Errorf("Claim: %s %v", o, err)
	}
	if o, _, err := c.Grant(base.Key).As(by).Fail(t.Context(), base, grant.Failure{ID: NewID(), Verdict: grant.VerdictDead}); o != grant.OutcomeNone || !errors.Is(err, grant.ErrNone) {
		t.Errorf("Fail: %s %v", o, err)
	}
	if n := c.rdb.Exists(t.Context(), c.Grant(acme).keys().Grant(), c.Grant(acme).keys().Journal()).Val(); n != 0 {
		t.Error("something was stored")
	}
}

// What refusals cost is the caller's policy; the script has none of its own.
func TestTheCallersPolicySaysWhatARefusalMeans(t *testing.T) {
	t.Parallel()
	aged := func(now int64) grant.Pair { // half of its life is left
		p := pairNo(1)(now)
		p.IssuedAt, p.ExpiresAt = now-time.Hour.Milliseconds(), now+time.Hour.Milliseconds()
		return p
	}
	for name, c := range map[string]struct {
		early, row int
		fresh      time.Duration
		reason     string
	}{
		"it died early, once is enough": {49, 1, time.Minute, "external_rotation"},
		"once is not enough":            {49, 2, time.Minute, ""},
		"it had lived for long enough":  {51, 1, time.Minute, ""},
		"it was fresh: it never worked": {49, 1, 2 * time.Hour, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := freshCache(t)
			g := cache.Grant(acme).As("w")
			base, err := g.Connect(t.Context(), aged)
			if err != nil {
				t.Fatal(err)
			}
			o, s, err := g.Reject(t.Context(), base, grant.Refusals{Waits: []time.Duration{0}, Forget: time.Hour, Fresh: c.fresh, Early: c.early, Foreign: c.row})
			if err != nil || o != grant.OutcomeOK || s.Reason != c.reason {
				t.Errorf("%s %q, %v, want %q", o, s.Reason, err, c.reason)
			}
		})
	}
}

// By how much the ages may differ, how many are a row and what is made of them is policy as well.
func TestAnAgeAtWhichTokensDieIsALifeByTheCallersPolicy(t *testing.T) {
	t.Parallel()
	rules := grant.Refusals{Waits: []time.Duration{0}, Forget: time.Hour, Fresh: 10 * time.Minute, Early: 25, Foreign: 3,
		LeastLife: 2 * time.Minute, SameAge: 10, LifeShare: 50}
	minutes := func(n ...int) []int { return n }
	for name, c := range map[string]struct {
		ages  []int
		due   bool // they were
		lived string
	}{
		"once":                       {minutes(60), false, "3600x1"},
		"twice, the lower":           {minutes(60, 58), false, "3480x2"},
		"often enough":               {minutes(58, 60, 62), false, "1740"},
		"too far apart":              {minutes(60, 60, 50), false, "3000x1"},
		"too young":                  {minutes(1, 1, 1), false, ""},
		"due: nobody has asked":      {minutes(60, 60, 60), true, ""},
		"one died at another age":    {minutes(60, 60, 60, 20), false, "1200x1"},
		"one lived its life between": {minutes(60, 60, -1, 60), false, "3600x1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := freshCache(t)
			g := cache.Grant(acme).As("w")
			connect(t, cache, acme, 1)
			for i, age := range c.ages {
				s := read(t, cache, acme)
				if age >= 0 {
					issued := s.Now() - (time.Duration(age) * time.Minute).Milliseconds() - 50
					due := s.Now() + time.Hour.Milliseconds()
					if c.due {
						due = s.Now() - 100
					}
					hset(t, cache, acme, "issued_at", issued, "refresh_at", due, "expires_at", due+1, "rev", s.Rev+1)
					s = read(t, cache, acme)
					if o, _, err := g.Reject(t.Context(), s, rules); err != nil || o != grant.OutcomeOK {
						t.Fatal(o, err)
					}
				}
				if i < len(c.ages)-1 {
					commit(t, cache, claim(t, cache, read(t, cache, acme), "w"), i+2)
				}
			}
			if got := read(t, cache, acme).Lived; got != c.lived {
				t.Errorf("%q, want %q", got, c.lived)
			}
		})
	}
}
