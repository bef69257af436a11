package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

func trace(t testing.TB, c *Cache, k grant.Key) journal.Trace {
	t.Helper()
	got, err := c.App(k.App).Trace(t.Context(), k.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// told is a trace without what differs from run to run.
func told(entries []journal.Entry) (lines []string) {
	for _, e := range entries {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %d %s %s %s %s %s", e.Kind, e.Generation, e.By, e.Why, e.Answer, e.Took, e.RequestID)))
	}
	return lines
}

func TestTheJournalSaysWhyAndWhatCameOfIt(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	if got := trace(t, c, acme); len(got.Entries) != 0 || got.Lease != "" || got.Left != 0 || got.Now == 0 {
		t.Errorf("of no grant: %+v", got)
	}
	base := connect(t, c, acme, 1)
	g := c.Grant(acme).As("w1")
	present := func(why string) {
		t.Helper()
		o, s, err := g.With(journal.Note{Why: why}).Claim(t.Context(), base, NewID(), time.Minute, grant.AtOnce)
		if o != grant.OutcomeOK || err != nil {
			t.Fatal(o, err)
		}
		base = s
	}
	fail := func(f grant.Failure) {
		t.Helper()
		f.ID = NewID()
		o, s, err := g.With(journal.Note{Took: 412 * time.Millisecond, RequestID: "7d1f-62b0"}).Fail(t.Context(), base, f)
		if o != grant.OutcomeOK || err != nil {
			t.Fatal(o, err)
		}
		base = s
	}
	present(journal.Due)
	fail(grant.Failure{Verdict: grant.VerdictClear, Error: "refused/odd/400", Reason: "suspect"})
	present(journal.Asked)
	o, s, err := g.With(journal.Note{Took: time.Second, RequestID: "3c1e", Why: journal.Narrower}).Commit(t.Context(), base, NewID(), pairNo(2)(base.At()), false, false)
	if o != grant.OutcomeOK || err != nil {
		t.Fatal(o, err)
	}
	base = s
	present(journal.ByAPI)
	present(journal.Forced) // takes over
	if o, _, err := g.Extend(t.Context(), base, time.Hour, "ambiguous/slow_exchange/0", time.Minute); o != grant.OutcomeOK || err != nil {
		t.Fatal(o, err)
	}
	fail(grant.Failure{Verdict: grant.VerdictAgain, Error: "refused/invalid_grant/400"})
	fail(grant.Failure{Verdict: grant.VerdictDead, Error: "reauthorize/invalid_grant/400", Reason: "invalid_grant", Retry: time.Millisecond})
	time.Sleep(5 * time.Millisecond)
	present(journal.Due)
	fail(grant.Failure{Verdict: grant.VerdictDead, Error: "reauthorize/invalid_grant/400", Reason: "invalid_grant", Retry: time.Hour})
	c.rdb.Set(t.Context(), c.Grant(acme).LockKey(), "w1/3FYN3PBMXZWVGJWDQ5FEACBFQ5", time.Minute)

	got := trace(t, c, acme)
	want := strings.Join([]string{
		"connect 1 connector   0s",
		"claim 1 w1 due  0s",
		"fail 1 w1 suspect refused/odd/400 412ms 7d1f-62b0",
		"claim 1 w1 asked  0s",
		"commit 2 w1 narrower  1s 3c1e",
		"claim 2 w1 refused  0s",
		"claim 2 w1 takeover  0s",
		"extend 2 w1  ambiguous/slow_exchange/0 0s",
		"refused 2 w1  refused/invalid_grant/400 412ms 7d1f-62b0",
		"reauthorize 2 w1 invalid_grant reauthorize/invalid_grant/400 412ms 7d1f-62b0",
		"claim 2 w1 revival  0s",
		"revival 2 w1 invalid_grant reauthorize/invalid_grant/400 412ms 7d1f-62b0",
	}, "\n")
	if lines := strings.Join(told(got.Entries), "\n"); lines != want {
		t.Errorf("the journal says\n%s, not\n%s", lines, want)
	}
	if got.Holder() != "w1" || got.Left <= 50*time.Second || got.Left > time.Minute {
		t.Errorf("the lease is held by %q for %s", got.Holder(), got.Left)
	}
	if at := got.Entries[0].At; at > got.Now || at < got.Now-60_000 || got.Entries[0].Epoch == 0 {
		t.Errorf("connected at %d of %d: %+v", at, got.Now, got.Entries[0])
	}
}

func TestACompactedJournalForgetsTheRequestIDsOfWhatWentWell(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	g := c.Grant(acme).As("w").With(journal.Note{Why: journal.Due, Took: time.Second, RequestID: "7d1f"})
	for i := range 3 {
		_, s, err := g.Claim(t.Context(), base, NewID(), time.Minute, grant.AfterDeadline)
		if err == nil && i == 1 {
			_, s, err = g.Fail(t.Context(), s, grant.Failure{ID: NewID(), Verdict: grant.VerdictClear, Error: "busy//503"})
			if err == nil {
				_, s, err = g.Claim(t.Context(), s, NewID(), time.Minute, grant.AfterDeadline)
			}
		}
		if err == nil {
			_, s, err = c.Grant(acme).As("w").With(journal.Note{Took: time.Second, RequestID: "7d1f"}).Commit(t.Context(), s, NewID(), pairNo(i+2)(s.At()), false, false)
		}
		if err != nil {
			t.Fatal(err)
		}
		base = s
	}
	for range 2 {
		if err := c.Grant(acme).Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := "connect 1 connector   0s\nfail 2 w  busy//503 1s 7d1f\nclaim 3 w due  0s\ncommit 4 w   1s"
	if lines := strings.Join(told(trace(t, c, acme).Entries), "\n"); lines != want {
		t.Errorf("the journal says\n%s, not\n%s", lines, want)
	}
}
