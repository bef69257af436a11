package clock

import (
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

func TestEventsTimeIsNeverEarlierThanOurOwnEstimate(t *testing.T) {
	var c Clock
	if got := c.Arrived(time.Hour, 5000); got != 5000 {
		t.Errorf("an unknown clock says %d", got)
	}
	c.Observe(2*time.Second, 2*time.Second, 1_000_000) // Redis was at 1,000,000 ms when we were at most at 2 s
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
		if got := c.Arrived(tc.at, tc.said); got != tc.now {
			t.Errorf("%s: %d, not %d", tc.name, got, tc.now)
		}
	}
	c.Observe(4*time.Second, 4*time.Second, 400_000) // the next reply corrects it, also backwards
	if got := c.Arrived(5*time.Second, 401_000); got != 401_000 {
		t.Errorf("after a correction: %d", got)
	}
}

// What another process wrote after the clock was set back, before this one noticed it, is as young as it is.
func TestOnlyWhatIsKnownToBeOlderThanAClockThatWasSetBackIsOlderThanItSeems(t *testing.T) {
	var c Clock
	const hour = 3_600_000
	c.Observe(10*time.Second, 10*time.Second, 10*hour)
	c.Observe(40*time.Second, 40*time.Second, 9*hour+30_000) // set back at some time in these 30 s
	for name, tc := range map[string]struct{ issued, behind int64 }{
		"long before":          {8 * hour, hour},
		"just before":          {10 * hour, hour},
		"while nobody noticed": {9*hour + 1000, 0},
		"now":                  {9*hour + 30_000, 0},
	} {
		if got := c.Behind(&grant.Record{IssuedAt: tc.issued}, 9*hour+30_000); got != tc.behind && got < hour-30_000 {
			t.Errorf("%s: %d, want %d", name, got, tc.behind)
		}
	}
	c.Observe(50*time.Second, 50*time.Second, 10*hour+40_000) // and forward again
	if got := c.Behind(&grant.Record{IssuedAt: 8 * hour}, 10*hour+40_000); got != 0 || c.setAt.Load() == 0 {
		t.Errorf("behind by %d", got)
	}
}

func TestSlowReplyDoesNotSpoilTheClock(t *testing.T) {
	var c Clock
	if at := c.Observe(time.Second, 6*time.Second, 100_000); at != time.Second {
		t.Errorf("a first, slow reply counts from %s, want from before it was sent", at)
	}
	if at := c.Observe(10*time.Second, 10*time.Second, 106_000); at != 10*time.Second {
		t.Errorf("a fast reply does not correct it: %s", at)
	}
	if at := c.Observe(11*time.Second, 15*time.Second, 110_000); at != 14*time.Second {
		t.Errorf("a slow reply that agrees counts from %s, want 14s", at)
	}
}

// What Redis has told a second ago, at most, need not be asked for again: and is not taken to be earlier
// than it was. Redis' ms are whole ones: what it told as 100000 can have been almost 100001.
func TestRedisTimeHoldsForASecondAndIsNotEarly(t *testing.T) {
	var c Clock
	if now, ok := c.ToldJustNow(500 * time.Millisecond); ok {
		t.Errorf("never told, and known: %d", now)
	}
	c.Observe(10*time.Second, 10*time.Second+50*time.Millisecond, 100_000)
	if now, ok := c.ToldJustNow(10*time.Second + 200*time.Microsecond); !ok || now < 100_001 {
		t.Errorf("%d, %v", now, ok)
	}
	last := 11*time.Second + 50*time.Millisecond
	if now, ok := c.ToldJustNow(last); !ok || now < 101_050 || now > 101_051 {
		t.Errorf("a second later: %d, %v", now, ok)
	}
	if now, ok := c.ToldJustNow(last + time.Millisecond); ok {
		t.Errorf("after more than a second: %d", now)
	}
}
