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

// reply is one that Redis gave at a time of our clock, on a way of so long there and back. Redis' clock is
// 100 s ahead, and it tells whole ms.
type reply struct{ at, there, back, ahead time.Duration }

func (r reply) observe(c *Clock) (at, doubt mono.Time) {
	return c.Observe(r.at-r.there, r.at+r.back, (r.at + 100*time.Second + r.ahead).Milliseconds())
}

// However slow replies are, the time they count from is not late, and early by no more than is said. Nobody has
// set the clock.
func TestSlowRepliesDoNotSpoilTheClock(t *testing.T) {
	const us, ms, s = time.Microsecond, time.Millisecond, time.Second
	for name, tc := range map[string]struct {
		replies []reply
		early   time.Duration // how early the last one may count
	}{
		"a slow one first": {[]reply{{at: 5 * s, there: 4 * s, back: s}}, 4*s + ms},
		"then a fast one":  {[]reply{{at: 5 * s, there: 4 * s, back: s}, {at: 10 * s, there: 50 * us}}, ms},
		"then a slow one":  {[]reply{{at: 5 * s}, {at: 10 * s, there: 4 * s, back: s}}, ms},
		"slow ways back":   {[]reply{{at: 5 * s, back: 8 * s}, {at: 10 * s}}, ms},
		"a slow way there after one that was rounded more": {[]reply{{at: 5*s + 900*us, there: 50 * us}, {at: 10 * s, there: 3 * s}}, 2 * ms},
		"and what was slower since": {[]reply{
			{at: 5*s + 900*us, there: 50 * us}, {at: 10 * s, there: 3 * s}, {at: 10 * s, there: 1500 * ms}, {at: 10 * s},
		}, 2 * ms},
		"clocks that drift apart":    {[]reply{{at: 5 * s}, {at: 10 * s, ahead: 5 * ms}, {at: 15 * s, there: 3 * s, ahead: 10 * ms}}, 2 * ms},
		"and the other way":          {[]reply{{at: 5 * s}, {at: 10 * s, ahead: -5 * ms}, {at: 15 * s, there: 3 * s, ahead: -10 * ms}}, 12 * ms},
		"both at once, fast in slow": {[]reply{{at: 5 * s}, {at: 20 * s, there: 9 * s, back: 9 * s}, {at: 12 * s}}, ms},
	} {
		t.Run(name, func(t *testing.T) {
			var c Clock
			var at, doubt mono.Time
			for _, r := range tc.replies {
				at, doubt = r.observe(&c)
			}
			last := tc.replies[len(tc.replies)-1]
			if late := at - last.at; late > ms || late < -tc.early {
				t.Errorf("what was said at %s counts from %s", last.at, at)
			}
			if doubt < 0 || at+doubt < last.at-10*ms || doubt > tc.early+last.back+2*ms {
				t.Errorf("what was said at %s counts from %s, or up to %s later", last.at, at, doubt)
			}
			if _, set := c.Ago(); set {
				t.Error("somebody is said to have set the clock")
			}
		})
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
