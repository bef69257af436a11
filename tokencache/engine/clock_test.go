package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// A process that was stopped reads its events late; a token must not live longer for it.
func TestDelayedEventDoesNotLengthenATokensLife(t *testing.T) {
	c := freshCache(t)
	connect(t, c, acme, 1)
	hot(t, c, acme)
	s := c.Grant(acme).Peek()
	c.clock.Shift(2 * time.Hour) // as if we had been stopped since
	ev := grant.Event{Kind: "commit", Now: s.At(), Record: s.Record, Sealed: mustSeal(t, c, acme, s.Epoch, s.Generation+1, pairNo(2)(s.At()))}
	ev.Record.Generation++
	c.in.ApplyEvent(entryOf(t, c, acme), ev, mono.Now())
	late := c.Grant(acme).Recall()
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
		d := memory.NewDraft(acme, 1_000, at)
		d.Pair = grant.Pair{AccessToken: grant.Hide("at"), ExpiresAt: 10_000, RefreshAt: 8_000}
		s := d.Finish()
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
	d := memory.NewDraft(acme, 1_000, mono.Now())
	d.Pair = grant.Pair{AccessToken: grant.Hide("at"), ExpiresAt: 10_000}
	s := d.Finish()
	if s.Fresh() || !s.Valid() {
		t.Errorf("fresh %v, valid %v", s.Fresh(), s.Valid())
	}
	if s := memory.NewDraft(acme, 1_000, mono.Now()).Finish(); s.Fresh() || s.Valid() || s.Token() != nil {
		t.Error("a grant without a pair has a token")
	}
}
