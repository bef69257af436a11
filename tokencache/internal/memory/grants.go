package memory

import (
	"iter"
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v4"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
)

// Grants is one app's hot grants, for readers in a hurry. A look-up hashes and compares
// the tenant alone.
type Grants struct {
	hub     *hub.Hub
	tenants *xsync.Map[string, *Entry]
}

// Fresh returns a tenant's access token if memory holds it, coherent (see [Memory.Peek]),
// and it is neither due nor expired; else nil. It takes no lock, does not allocate and, but
// for the last seconds of a token's freshness, reads no clock. A process that was stopped for
// longer may be given what memory held then, until its clock has ticked, a moment later.
func (g *Grants) Fresh(tenant string) *oauth2.Token {
	e, ok := g.tenants.Load(tenant)
	if !ok {
		return nil
	}
	return e.fresh(g.hub)
}

// Calm reports, without a look at the clock, that s is fresh for a while; false says nothing.
func (g *Grants) Calm(s *Snapshot) bool {
	h := g.hub
	return h.Session()%2 == 0 && s.token != nil && h.Tick() < s.calm
}

// Any reports whether there are any.
func (g *Grants) Any() bool { return g.tenants.Size() > 0 }

// OpensOthers reports whether this process opens what the others seal now: of the pairs in memory that
// another process than own has stored, the youngest one could be opened.
func (g *Grants) OpensOthers(own string) bool {
	opened, shut := int64(0), int64(0)
	for _, e := range g.tenants.All() {
		s := e.snap.Load()
		switch {
		case s == nil || s.By == own:
		case s.Err == nil && s.Pair.AccessToken.Reveal() != "":
			opened = max(opened, s.IssuedAt)
		default:
			if _, is := grant.SealedBy(s.Err); is {
				shut = max(shut, s.IssuedAt)
			}
		}
	}
	return opened > shut
}

// Handle returns a tenant's handle.
func (g *Grants) Handle(tenant string) *Handle { return &Handle{grants: g, tenant: tenant} }

// Handle is [Grants.Fresh] for one tenant, without the look-up. It may outlive the grant's
// stay in memory and is safe for concurrent use.
type Handle struct {
	grants *Grants
	tenant string
	entry  atomic.Pointer[Entry]
}

// Fresh is [Grants.Fresh].
func (h *Handle) Fresh() *oauth2.Token {
	if e := h.entry.Load(); e != nil {
		if tok := e.fresh(h.grants.hub); tok != nil {
			return tok
		}
	}
	e, ok := h.grants.tenants.Load(h.tenant) // forgotten and remembered again, perhaps
	if !ok {
		return nil
	}
	h.entry.Store(e)
	return e.fresh(h.grants.hub)
}

// hotMap is all hot grants: a map of tenants per app.
type hotMap struct {
	hub     *hub.Hub
	channel func(grant.Key) string // of a grant's events
	apps    *xsync.Map[string, *Grants]
	count   atomic.Int64
}

func newHotMap(h *hub.Hub, channel func(grant.Key) string) *hotMap {
	return &hotMap{hub: h, channel: channel, apps: xsync.NewMap[string, *Grants]()}
}

func (m *hotMap) app(app string) *Grants {
	g, _ := m.apps.LoadOrCompute(app, func() (*Grants, bool) {
		return &Grants{hub: m.hub, tenants: xsync.NewMap[string, *Entry]()}, false
	})
	return g
}

func (m *hotMap) load(k grant.Key) (*Entry, bool) {
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
func (m *hotMap) loadOrAdd(k grant.Key) *Entry {
	e, was := m.app(k.App).tenants.LoadOrCompute(k.Tenant, func() (*Entry, bool) {
		return &Entry{Key: k, Channel: m.channel(k), changed: make(chan struct{})}, false
	})
	if !was {
		m.count.Add(1)
	}
	return e
}

func (m *hotMap) size() int { return int(m.count.Load()) }

func (m *hotMap) all() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, g := range m.apps.All() {
			for _, e := range g.tenants.All() {
				if !yield(e) {
					return
				}
			}
		}
	}
}
