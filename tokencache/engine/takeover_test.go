package engine

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// TestUnresolvedClaimIsTakenOverByTheRules makes pasts and futures by writing the
// record's times, and holds OpensAt, by which waiters wait, against the script.
func TestUnresolvedClaimIsTakenOverByTheRules(t *testing.T) {
	t.Parallel()
	const hour, ago = 3_600_000, -3_600_000 // ms from now
	cases := []struct {
		name                  string
		takeover              grant.Takeover
		first, until, expires int64
		refused               bool
		want                  grant.Outcome
	}{
		{"harmless: at once", grant.AtOnce, 0, hour, hour, false, grant.OutcomeOK},
		{"window open", grant.Takeover(time.Minute), -1000, hour, hour, false, grant.OutcomeOK},
		{"window over, deadline ahead", grant.Takeover(time.Minute), -120_000, hour, ago, false, grant.OutcomeClaimed},
		{"window over, token valid", grant.Takeover(time.Minute), -120_000, ago, hour, false, grant.OutcomeClaimed},
		{"window over, deadline and token past", grant.Takeover(time.Minute), -120_000, ago, ago, false, grant.OutcomeOK},
		{"window below a millisecond", grant.Takeover(time.Microsecond), 0, hour, hour, false, grant.OutcomeClaimed},
		{"dead: deadline ahead", grant.AfterDeadline, ago, hour, ago, false, grant.OutcomeClaimed},
		{"dead: token valid", grant.AfterDeadline, ago, ago, hour, false, grant.OutcomeClaimed},
		{"dead: deadline and token past", grant.AfterDeadline, 2 * ago, ago, ago, false, grant.OutcomeOK},
		{"dead: token refused by an API", grant.AfterDeadline, ago, ago, hour, true, grant.OutcomeOK},
		{"dead: token refused, deadline ahead", grant.AfterDeadline, ago, hour, hour, true, grant.OutcomeClaimed},
		{"window over, token refused", grant.Takeover(time.Minute), -120_000, ago, hour, true, grant.OutcomeOK},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := freshCache(t)
			base := claim(t, c, connect(t, c, acme, 1), "first")
			now := base.At()
			hset(t, c, acme, "claim_at", now+tc.first, "claim_until", now+tc.until, "expires_at", now+tc.expires)
			if tc.refused {
				hset(t, c, acme, "rejected_gen", base.Generation)
			}
			base = read(t, c, acme)
			o, s, err := c.Grant(base.Key).As("second").Claim(t.Context(), base, NewID(), time.Minute, tc.takeover)
			if err != nil || o != tc.want {
				t.Fatalf("%s %v, not %s", o, err, tc.want)
			}
			if open := base.OpensAt(tc.takeover) <= base.Now(); open != (tc.want == grant.OutcomeOK) {
				t.Errorf("OpensAt says %v", open)
			}
			if o == grant.OutcomeOK && (s.Claim.Prior != now+tc.until || s.Claim.Until < now+tc.until || s.Claim.At != now+tc.first || s.Claim.N != 2) {
				t.Errorf("claim %+v", s.Claim)
			}
		})
	}
}

// The hard deadline of the first of several holders is never forgotten.
func TestEarliestHolderKeepsItsDeadlineThroughTakeovers(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	var longest int64
	for n, ttl := range []time.Duration{time.Hour, time.Minute, time.Second} {
		o, s, err := c.Grant(base.Key).As("holder").Claim(t.Context(), base, NewID(), ttl, grant.AtOnce)
		if o != grant.OutcomeOK || err != nil {
			t.Fatal(o, err)
		}
		if s.Claim.N != int64(n+1) || s.Claim.Until < longest || n > 0 && s.Claim.Prior < longest {
			t.Errorf("claim %d: %+v, an earlier one ends at %d", n, s.Claim, longest)
		}
		longest = max(longest, s.Claim.Until)
	}
}

// A process that has only heard a slow reply does not know what time it is in Redis. It serves the access token
// for a shorter time, and takes no claim over before that has ended.
func TestASlowReplyEndsNoAccessToken(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	c := newCache(t, server.Client(t), prefix)
	const life, slow = 8 * time.Second, 5 * time.Second
	base, err := c.Grant(acme).As("connector").Connect(t.Context(), func(now int64) grant.Pair {
		p := pairNo(1)(now)
		p.ExpiresAt, p.RefreshAt = now+life.Milliseconds(), now+life.Milliseconds()/2
		return p
	})
	if err != nil {
		t.Fatal(err)
	}
	if o, _, err := c.Grant(acme).As("dead").Claim(t.Context(), base, NewID(), time.Millisecond, grant.AfterDeadline); o != grant.OutcomeOK || err != nil {
		t.Fatal(o, err)
	}
	proxy := redistest.NewProxy(t, server.Addr())
	far := newCache(t, server.ClientWith(t, func(o *redis.Options) { o.Addr, o.ReadTimeout = proxy.Addr(), time.Minute }), prefix)
	proxy.Freeze()
	type got struct {
		s   *Snapshot
		err error
	}
	came := make(chan got, 1)
	go func() {
		s, err := far.Grant(acme).Read(t.Context())
		came <- got{s, err}
	}()
	time.Sleep(slow) // the network's
	proxy.Thaw()
	g := <-came
	if g.err != nil {
		t.Fatal(g.err)
	}
	o, s, err := far.Grant(acme).As("far").Claim(t.Context(), g.s, NewID(), time.Minute, grant.AfterDeadline)
	if err != nil {
		t.Fatal(err)
	}
	if left := s.ExpiresAt - s.At(); o == grant.OutcomeOK && left > 0 {
		t.Errorf("taken over %d ms before the access token ends", left)
	}
	t.Logf("%s, %d ms before the access token ends", o, s.ExpiresAt-s.At())
	for s = read(t, far, acme); s.At() < base.ExpiresAt; s = read(t, far, acme) {
		time.Sleep(s.Until(base.ExpiresAt) + time.Millisecond)
	}
	if o, _, err := far.Grant(acme).As("far").Claim(t.Context(), read(t, far, acme), NewID(), time.Minute, grant.AfterDeadline); o != grant.OutcomeOK || err != nil {
		t.Errorf("after its end: %s, %v", o, err)
	}
}

func TestClaimWaitsForRetryAtByRedisClock(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := claim(t, c, connect(t, c, acme, 1), "first")
	_, failed, err := c.Grant(base.Key).As("first").Fail(t.Context(), base, grant.Failure{ID: NewID(), Verdict: grant.VerdictClear, Retry: 60 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "retry_at", patience, func() bool {
		o, s, err := c.Grant(base.Key).As("second").Claim(t.Context(), base, NewID(), time.Minute, grant.AtOnce)
		if err != nil {
			t.Fatal(err)
		}
		if early := s.At() < failed.RetryAt; (o == grant.OutcomeWait) != early {
			t.Fatalf("%s at %d, retry_at is %d", o, s.At(), failed.RetryAt)
		}
		return o == grant.OutcomeOK
	})
}

func TestRacingConnectsHaveEpochsOfTheirOwn(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	const n = 16
	epochs := make(chan int64, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			s, err := c.Grant(acme).As("racer").Connect(t.Context(), pairNo(i))
			if err != nil {
				t.Error(err)
				return
			}
			epochs <- s.Epoch
		})
	}
	all.Wait()
	close(epochs)
	seen, last := map[int64]bool{}, int64(0)
	for e := range epochs {
		if seen[e] {
			t.Errorf("epoch %d twice", e)
		}
		seen[e] = true
		last = max(last, e)
	}
	if s := read(t, c, acme); s.Epoch != last || s.Generation != int64(len(seen)) || s.Err != nil {
		t.Errorf("stored: epoch %d generation %d (%v), the last of %d connects had %d", s.Epoch, s.Generation, s.Err, len(seen), last)
	}
}

// Of two that claim at once, one presents.
func TestOneOfManyClaimsIsOK(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	outcomes := make(chan grant.Outcome, 16)
	var all sync.WaitGroup
	for range cap(outcomes) {
		all.Go(func() {
			o, _, err := c.Grant(base.Key).As("racer").Claim(t.Context(), base, NewID(), time.Minute, grant.AfterDeadline)
			if err != nil {
				t.Error(err)
			}
			outcomes <- o
		})
	}
	all.Wait()
	close(outcomes)
	count := map[grant.Outcome]int{}
	for o := range outcomes {
		count[o]++
	}
	if count[grant.OutcomeOK] != 1 || count[grant.OutcomeClaimed] != 15 {
		t.Errorf("outcomes %v", count)
	}
}

// Memory that is ahead of a Redis which lost its data raises the epoch of a new consent
// or its end, even if Redis' clock is behind: else the old grant would come back.
func TestConsentWinsOverMemoryThatIsAhead(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"connect", "disconnect"} {
		t.Run(how, func(t *testing.T) {
			c := freshCache(t)
			t.Cleanup(c.Grant(acme).Pin().Unpin)
			s := connect(t, c, acme, 1)
			hset(t, c, acme, "epoch", s.Epoch+3_600_000)
			if err := c.rdb.Set(t.Context(), c.Grant(acme).keys().Secret(), mustSeal(t, c, acme, s.Epoch+3_600_000, s.Generation, s.Pair), 0).Err(); err != nil {
				t.Fatal(err)
			}
			ahead := read(t, c, acme)
			lose(t, c, acme)
			want := grant.Active
			if how == "connect" {
				connect(t, c, acme, 2)
			} else {
				disconnect(t, c, acme)
				want = grant.Disconnected
			}
			if now := read(t, c, acme); now.Epoch <= ahead.Epoch || now.State != want || now.Pair.AccessToken.Reveal() == "at-1" {
				t.Errorf("epoch %d after %d, %s %v", now.Epoch, ahead.Epoch, now.State, now.Pair)
			}
		})
	}
}

func mustSeal(t testing.TB, c *Cache, k grant.Key, epoch, generation int64, p grant.Pair) string {
	t.Helper()
	sealed, err := c.sealer.Seal(k, epoch, generation, p)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// A holder is silent while its claim stands and nobody has the lease: that is told, and nothing is stored.
func TestASilentHolderIsReportedWhileItsClaimIsUnresolved(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	listener := newCache(t, c.rdb, string(c.names))
	told := make(chan Change, 16)
	t.Cleanup(listener.App("zoom").OnChange(func(ch Change) { told <- ch }))
	base := connect(t, c, acme, 1)
	s := claim(t, c, base, "w1")
	if _, err := listener.hub.Confirm(t.Context(), listener.App("zoom").ChangesChannel()); err != nil {
		t.Fatal(err)
	}
	g := c.Grant(acme).As("w2")
	if err := c.rdb.Set(t.Context(), g.LockKey(), "w1", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if silent, err := g.Stalled(t.Context(), s); silent || err != nil {
		t.Errorf("while the lease is held: %t, %v", silent, err)
	}
	c.rdb.Del(t.Context(), g.LockKey())
	for range 2 { // a repeat is the same
		if silent, err := g.Stalled(t.Context(), s); !silent || err != nil {
			t.Fatalf("%t, %v", silent, err)
		}
		ch := <-told
		for ch.Kind != "stalled" {
			ch = <-told
		}
		if ch.Record.Claim.ID != s.Claim.ID || ch.Record.Claim.By != "w1" || ch.Record.Rev != s.Rev {
			t.Errorf("%+v", ch)
		}
	}
	commit(t, c, s, 2)
	if silent, err := g.Stalled(t.Context(), s); silent || err != nil {
		t.Errorf("after the commit: %t, %v", silent, err)
	}
}
