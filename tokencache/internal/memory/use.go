package memory

import (
	"iter"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Unnoted are the hot grants of an app that somebody has asked for since that was noted, if an earlier note is
// older than coarse.
func (m *Memory) Unnoted(app string, coarse time.Duration) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, e := range m.hot.app(app).tenants.All() {
			if e.untold(coarse) && !yield(e) {
				return
			}
		}
	}
}

// untold reports whether somebody has asked for the grant's token since that was noted, and
// an earlier note is older than coarse.
func (e *Entry) untold(coarse time.Duration) bool {
	asked, touched := mono.Time(e.asked.Load()), mono.Time(e.touched.Load())
	if asked == 0 || asked <= touched || touched != 0 && mono.Now()-touched < coarse {
		return false
	}
	s := e.snap.Load()
	return s != nil && s.State == grant.Active && s.Now()-s.UsedAt >= coarse.Milliseconds()
}

// MarkNoted has it known that Redis was told, at a moment, that somebody asks for the grant.
func (e *Entry) MarkNoted(at mono.Time) { e.touched.Store(int64(at)) }

// NoteCold notes that a grant was asked for that memory has no room for.
func (m *Memory) NoteCold(k grant.Key) {
	m.seen.again(k)
	m.cold.note(k)
}

// TakeCold are an app's grants that were asked for, and that memory had no room for, since it was last called:
// the first thousand.
func (m *Memory) TakeCold(app string) []grant.Key { return m.cold.take(app) }

// coldUse is which grants were asked for that memory has no room for.
type coldUse struct {
	mu     sync.Mutex // guards grants
	grants map[grant.Key]struct{}
}

const maxCold = 1000

func (u *coldUse) note(k grant.Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.grants == nil {
		u.grants = make(map[grant.Key]struct{})
	}
	if len(u.grants) < maxCold {
		u.grants[k] = struct{}{}
	}
}

func (u *coldUse) take(app string) (grants []grant.Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k := range u.grants {
		if k.App == app {
			grants = append(grants, k)
			delete(u.grants, k)
		}
	}
	return grants
}
