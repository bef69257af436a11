package engine

import (
	"hash/maphash"
	"iter"
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v4"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Grants is one app's hot grants, for readers in a hurry. A look-up hashes and compares
// the tenant alone.
type Grants struct {
	cache   *Cache
	tenants *xsync.Map[string, *entry]
}

// Grants returns the hot grants of an app.
func (app App) Grants() *Grants { return app.c.hot.app(app.c, app.name) }

// Fresh returns a tenant's access token if memory holds it, coherent (see [Grant.Peek]),
// and it is neither due nor expired; else nil. It takes no lock, does not allocate and, but
// for the last seconds of a token's freshness, reads no clock. A process that was stopped for
// longer may be given what memory held then, until its clock has ticked, a moment later.
func (g *Grants) Fresh(tenant string) *oauth2.Token {
	e, ok := g.tenants.Load(tenant)
	if !ok {
		return nil
	}
	return e.fresh(g.cache.hub)
}

// Calm reports, without a look at the clock, that s is fresh for a while; false says nothing.
func (g *Grants) Calm(s *Snapshot) bool {
	h := g.cache.hub
	return h.Session()%2 == 0 && s.token != nil && h.Tick() < s.calm
}

// Handle returns a tenant's handle.
func (g *Grants) Handle(tenant string) *Handle { return &Handle{grants: g, tenant: tenant} }

// Handle is [Grants.Fresh] for one tenant, without the look-up. It may outlive the grant's
// stay in memory and is safe for concurrent use.
type Handle struct {
	grants *Grants
	tenant string
	entry  atomic.Pointer[entry]
}

// Fresh is [Grants.Fresh].
func (h *Handle) Fresh() *oauth2.Token {
	if e := h.entry.Load(); e != nil {
		if tok := e.fresh(h.grants.cache.hub); tok != nil {
			return tok
		}
	}
	e, ok := h.grants.tenants.Load(h.tenant) // forgotten and remembered again, perhaps
	if !ok {
		return nil
	}
	h.entry.Store(e)
	return e.fresh(h.grants.cache.hub)
}

// hotMap is all hot grants: a map of tenants per app.
type hotMap struct {
	apps  *xsync.Map[string, *Grants]
	seen  doorkeeper
	count atomic.Int64
}

// newHotMap is for so many grants.
func newHotMap(limit int) *hotMap {
	return &hotMap{apps: xsync.NewMap[string, *Grants](), seen: newDoorkeeper(limit)}
}

func (m *hotMap) app(c *Cache, app string) *Grants {
	g, _ := m.apps.LoadOrCompute(app, func() (*Grants, bool) {
		return &Grants{cache: c, tenants: xsync.NewMap[string, *entry]()}, false
	})
	return g
}

func (m *hotMap) load(k grant.Key) (*entry, bool) {
	g, ok := m.apps.Load(k.App)
	if !ok {
		return nil, false
	}
	return g.tenants.Load(k.Tenant)
}

func (m *hotMap) delete(k grant.Key) {
	if g, ok := m.apps.Load(k.App); ok {
		if _, was := g.tenants.LoadAndDelete(k.Tenant); was {
			m.count.Add(-1)
		}
	}
}

// loadOrAdd returns a grant's entry, a new one if there is none.
func (m *hotMap) loadOrAdd(c *Cache, k grant.Key) *entry {
	e, was := m.app(c, k.App).tenants.LoadOrCompute(k.Tenant, func() (*entry, bool) {
		return &entry{key: k, channel: c.Grant(k).keys().Events(), changed: make(chan struct{})}, false
	})
	if !was {
		m.count.Add(1)
	}
	return e
}

func (m *hotMap) size() int { return int(m.count.Load()) }

func (m *hotMap) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, g := range m.apps.All() {
			for _, e := range g.tenants.All() {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// doorkeeper remembers roughly which grants were asked for lately, so that a pass over
// many cold ones does not push the hot ones out.
type doorkeeper struct {
	seed maphash.Seed
	last []atomic.Uint64 // hash of the last that knocked here
}

// newDoorkeeper does not look back further than memory reaches: a grant that is asked for again after more
// others than there is room for would be pushed out before the next time, too.
func newDoorkeeper(limit int) doorkeeper {
	return doorkeeper{seed: maphash.MakeSeed(), last: make([]atomic.Uint64, min(max(limit, 64), 4096))}
}

// again reports whether k has knocked before, not long ago, and is a knock.
func (d *doorkeeper) again(k grant.Key) bool {
	place, h := d.place(k)
	return place.Swap(h) == h
}

// lately is again without a knock.
func (d *doorkeeper) lately(k grant.Key) bool {
	place, h := d.place(k)
	return place.Load() == h
}

func (d *doorkeeper) place(k grant.Key) (*atomic.Uint64, uint64) {
	h := maphash.Comparable(d.seed, k)
	return &d.last[h%uint64(len(d.last))], h
}
