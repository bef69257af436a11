package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

func TestEventsTimeIsNeverEarlierThanOurOwnEstimate(t *testing.T) {
	var c clock
	if got := c.arrived(time.Hour, 5000); got != 5000 {
		t.Errorf("an unknown clock says %d", got)
	}
	c.observe(2*time.Second, 2*time.Second, 1_000_000) // Redis was at 1,000,000 ms when we were at most at 2 s
	cases := []struct {
		name      string
		at        mono.Time
		said, now int64
	}{
		{"in time", 3 * time.Second, 1_001_000, 1_001_000},
		{"a little early by our estimate", 3 * time.Second, 1_001_040, 1_001_040},
		{"read an hour late", time.Hour + 3*time.Second, 1_001_000, 4_601_000},
		{"Redis' clock jumped ahead", 3 * time.Second, 9_000_000, 9_000_000},
		{"Redis' clock jumped back", 3 * time.Second, 500_000, 1_001_000},
	}
	for _, tc := range cases {
		if got := c.arrived(tc.at, tc.said); got != tc.now {
			t.Errorf("%s: %d, not %d", tc.name, got, tc.now)
		}
	}
	c.observe(4*time.Second, 4*time.Second, 400_000) // the next reply corrects it, also backwards
	if got := c.arrived(5*time.Second, 401_000); got != 401_000 {
		t.Errorf("after a correction: %d", got)
	}
}

// What another process wrote after the clock was set back, before this one noticed it, is as young as it is.
func TestOnlyWhatIsKnownToBeOlderThanAClockThatWasSetBackIsOlderThanItSeems(t *testing.T) {
	var c clock
	const hour = 3_600_000
	c.observe(10*time.Second, 10*time.Second, 10*hour)
	c.observe(40*time.Second, 40*time.Second, 9*hour+30_000) // set back at some time in these 30 s
	for name, tc := range map[string]struct{ issued, behind int64 }{
		"long before":          {8 * hour, hour},
		"just before":          {10 * hour, hour},
		"while nobody noticed": {9*hour + 1000, 0},
		"now":                  {9*hour + 30_000, 0},
	} {
		if got := c.behind(&grant.Record{IssuedAt: tc.issued}, 9*hour+30_000); got != tc.behind && got < hour-30_000 {
			t.Errorf("%s: %d, want %d", name, got, tc.behind)
		}
	}
	c.observe(50*time.Second, 50*time.Second, 10*hour+40_000) // and forward again
	if got := c.behind(&grant.Record{IssuedAt: 8 * hour}, 10*hour+40_000); got != 0 || c.setAt.Load() == 0 {
		t.Errorf("behind by %d", got)
	}
}

func TestSlowReplyDoesNotSpoilTheClock(t *testing.T) {
	var c clock
	if at := c.observe(time.Second, 6*time.Second, 100_000); at != time.Second {
		t.Errorf("a first, slow reply counts from %s, want from before it was sent", at)
	}
	if at := c.observe(10*time.Second, 10*time.Second, 106_000); at != 10*time.Second {
		t.Errorf("a fast reply does not correct it: %s", at)
	}
	if at := c.observe(11*time.Second, 15*time.Second, 110_000); at != 14*time.Second {
		t.Errorf("a slow reply that agrees counts from %s, want 14s", at)
	}
}

// What Redis has told a second ago, at most, need not be asked for again: and is not taken to be earlier
// than it was. Redis' ms are whole ones: what it told as 100000 can have been almost 100001.
func TestWhatRedisToldOfTheTimeHoldsForASecondAndIsNotEarly(t *testing.T) {
	var c clock
	if now, ok := c.toldJustNow(500 * time.Millisecond); ok {
		t.Errorf("never told, and known: %d", now)
	}
	c.observe(10*time.Second, 10*time.Second+50*time.Millisecond, 100_000)
	if now, ok := c.toldJustNow(10*time.Second + 200*time.Microsecond); !ok || now < 100_001 {
		t.Errorf("%d, %v", now, ok)
	}
	last := 11*time.Second + 50*time.Millisecond
	if now, ok := c.toldJustNow(last); !ok || now < 101_050 || now > 101_051 {
		t.Errorf("a second later: %d, %v", now, ok)
	}
	if now, ok := c.toldJustNow(last + time.Millisecond); ok {
		t.Errorf("after more than a second: %d", now)
	}
}

// A process that was stopped reads its events late; a token must not live longer for it.
func TestDelayedEventDoesNotLengthenATokensLife(t *testing.T) {
	c := freshCache(t)
	connect(t, c, acme, 1)
	p := hot(t, c, acme)
	s := c.Grant(acme).Peek()
	c.clock.offset.Add(int64(2 * time.Hour)) // as if we had been stopped since
	ev := grant.Event{Kind: "commit", Now: s.At(), Record: s.Record, Sealed: mustSeal(t, c, acme, s.Epoch, s.Generation+1, pairNo(2)(s.At()))}
	ev.Record.Generation++
	c.take(p.e, ev, mono.Now())
	late := c.Grant(acme).Remembered()
	if late.Generation != s.Generation+1 || late.Valid() || late.Fresh() || late.Until(late.Pair.ExpiresAt) != 0 {
		t.Errorf("a token for an hour, two hours later: valid %v, fresh %v", late.Valid(), late.Fresh())
	}
	if late.Token().Expiry.After(time.Now()) {
		t.Errorf("it says that it expires at %v", late.Token().Expiry)
	}
}

func TestSnapshotCountsByTheMonotonicClock(t *testing.T) {
	defer mono.Sleepless.Store(mono.Sleepless.Swap(nil)) // a bubble has a time of its own
	synctest.Test(t, func(t *testing.T) {
		at := mono.Now()
		s := (&Snapshot{
			Pair: grant.Pair{AccessToken: grant.Hide("at"), ExpiresAt: 10_000, RefreshAt: 8_000}, now: 1_000, at: at,
		}).finish()
		if got := time.Until(s.Token().Expiry); got != 9*time.Second {
			t.Errorf("expires in %v", got)
		}
		for _, tc := range []struct {
			after        time.Duration
			fresh, valid bool
		}{{0, true, true}, {6999 * time.Millisecond, true, true}, {7 * time.Second, false, true}, {8999 * time.Millisecond, false, true}, {9 * time.Second, false, false}, {time.Hour, false, false}} {
			time.Sleep(tc.after - (mono.Now() - at))
			if s.Fresh() != tc.fresh || s.Valid() != tc.valid {
				t.Errorf("after %v: fresh %v, valid %v", tc.after, s.Fresh(), s.Valid())
			}
			if want := max(0, 9*time.Second-tc.after); s.Until(10_000) != want || s.Now() != 1_000+tc.after.Milliseconds() {
				t.Errorf("after %v: Until %v, Now %d", tc.after, s.Until(10_000), s.Now())
			}
		}
	})
}

func TestPairWithoutRefreshAtIsNeverFresh(t *testing.T) {
	s := (&Snapshot{Pair: grant.Pair{AccessToken: grant.Hide("at"), ExpiresAt: 10_000}, now: 1_000, at: mono.Now()}).finish()
	if s.Fresh() || !s.Valid() {
		t.Errorf("fresh %v, valid %v", s.Fresh(), s.Valid())
	}
	if s := (&Snapshot{now: 1_000, at: mono.Now()}).finish(); s.Fresh() || s.Valid() || s.Token() != nil {
		t.Error("a grant without a pair has a token")
	}
}
