package memory

import (
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// A caller that looked a grant up before it was forgotten must not make it coherent after that.
func TestNothingIsAdoptedIntoAForgottenGrant(t *testing.T) {
	t.Parallel()
	k := grant.Key{App: "zoom", Tenant: "acme"}
	m := New(10, nil, func(grant.Key) string { return "events" })
	base := NewDraft(k, 1_000, mono.Now()).Finish()
	for i := range int64(2000) {
		e := m.hot.loadOrAdd(k)
		d := Next(base)
		d.Generation = base.Generation + i
		d.From(e, 2)
		s := d.Finish()
		e.snap.Store(base)
		var both sync.WaitGroup
		both.Go(func() { m.Adopt(s) })
		both.Go(func() { m.Evict(e) })
		both.Wait()
		if got := e.Recall(); got.session != 0 {
			t.Fatalf("round %d: a forgotten grant looks coherent", i)
		}
	}
}

// What is known of when an access token ends stays as it was first known, should Redis' clock be set: unless
// that was known from a slow reply alone.
func TestASlowReplysDatesYieldToBetterOnes(t *testing.T) {
	t.Parallel()
	k, at := grant.Key{App: "zoom", Tenant: "acme"}, mono.Now()
	known := func(now int64, doubt mono.Time) *Snapshot {
		d := NewDraft(k, now, at)
		d.Pair = grant.Pair{AccessToken: grant.Hide("at"), ExpiresAt: 20_000, RefreshAt: 18_000}
		d.Doubt(doubt)
		return d.Finish()
	}
	for name, tc := range map[string]struct {
		doubt mono.Time
		left  mono.Time
	}{
		"set back":     {0, 13 * time.Second},
		"slow by more": {5 * time.Second, 18 * time.Second},
		"slow by less": {time.Second, 13 * time.Second},
	} {
		s := known(2_000, 0)
		s.keepDates(known(7_000, tc.doubt))
		if got := s.ends - at; got != tc.left {
			t.Errorf("%s: it ends in %v, want %v", name, got, tc.left)
		}
		if s.Ended() || s.ends-at == 13*time.Second && s.doubt != tc.doubt {
			t.Errorf("%s: ended %v, or up to %v later", name, s.Ended(), s.doubt)
		}
	}
}
