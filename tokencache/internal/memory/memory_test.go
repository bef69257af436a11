package memory

import (
	"sync"
	"testing"

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
