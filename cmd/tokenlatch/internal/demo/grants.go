package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// grants watches every grant: what becomes of those whose holder was killed, and who
// must consent again.
type grants struct {
	store   store
	server  *refreshtest.Server
	profile provider.Profile
	naive   bool // nobody says of a dead grant that it is dead
	feed    *feed
	admins  sync.WaitGroup // consenting again

	mu      sync.Mutex // guards what follows
	tenants []*tenant
	byName  map[string]*tenant
	kills   []*kill
	killed  map[int]bool // processes
	losses  []loss
}

func newGrants(s store, server *refreshtest.Server, opt Options, f *feed) *grants {
	g := &grants{
		store: s, server: server, profile: opt.Profile, naive: opt.Naive, feed: f,
		byName: map[string]*tenant{}, killed: map[int]bool{},
	}
	for i := range opt.Tenants {
		t := &tenant{name: tenantName(i)}
		g.tenants = append(g.tenants, t)
		g.byName[t.name] = t
	}
	return g
}

var names = []string{
	"acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "tyrell",
	"cyberdyne", "soylent", "wonka", "aperture",
}

func tenantName(i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("tenant-%03d", i+1)
}

// connect lets every tenant consent. The access tokens have expired by now: the first
// webhooks find them so, as after a quiet night.
func (g *grants) connect(ctx context.Context) error {
	for _, t := range g.tenants {
		tok := g.server.Grant(t.name)
		g.server.ExpireAccessTokens(t.name)
		tok.Expiry = time.Now().Add(-time.Second)
		t.consents++
		if err := g.store.consent(ctx, t.name, tok); err != nil {
			return fmt.Errorf("demo: connect %s: %w", t.name, err)
		}
		if err := g.look(ctx, t); err != nil {
			return fmt.Errorf("demo: connect %s: %w", t.name, err)
		}
	}
	return nil
}

// watch looks at every grant, one after the other, until ctx ends.
func (g *grants) watch(ctx context.Context) {
	pause := max(100*time.Millisecond/time.Duration(len(g.tenants)), 3*time.Millisecond)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % len(g.tenants) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = g.look(ctx, g.tenants[i]) // next time
		}
	}
}

// look reads one grant and draws the conclusions.
func (g *grants) look(ctx context.Context, t *tenant) error {
	seen, err := g.store.look(ctx, t.name)
	if err != nil {
		return err
	}
	alive := g.alive(t.name, seen.fingerprint)
	g.mu.Lock()
	t.seen, t.seenAt = seen, time.Now()
	g.settle(t)
	again := g.lose(t, seen.dead, alive)
	g.mu.Unlock()
	if again {
		g.admins.Go(func() { g.reconsent(ctx, t) })
	}
	return nil
}

// bury notes a process that was killed while it held the tenant's grant.
func (g *grants) bury(k *kill, pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k.pid = pid
	g.kills = append(g.kills, k)
	g.killed[pid] = true
	g.byName[k.tenant].kills++
}

func (g *grants) count(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.byName[name]; t != nil {
		t.exchanges++
	}
}

// candidate is the tenant, not in trouble, whose access token ends first: there an
// exchange is to be expected soonest. Nil if all are in trouble.
func (g *grants) candidate(ctx context.Context) *tenant {
	for range 50 {
		t, seen := g.firstToEnd()
		if t == nil {
			return nil
		}
		_ = g.look(ctx, t) // with many tenants the last look is long ago
		if again, now := g.firstToEnd(); again == t && now.generation == seen.generation {
			return t
		}
	}
	return nil
}

func (g *grants) firstToEnd() (*tenant, grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var best *tenant
	for _, t := range g.tenants {
		trouble := t.lost || !t.deadSince.IsZero() || t.seen.holder != 0 || g.unsettled(t.name)
		if !trouble && (best == nil || t.ends().Before(best.ends())) {
			best = t
		}
	}
	if best == nil {
		return nil, grant{}
	}
	return best, best.seen
}

// troubled are the tenants whose killed holder's claim nobody has settled yet.
func (g *grants) troubled() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for _, k := range g.kills {
		if !k.settled {
			names = append(names, k.tenant)
		}
	}
	return names
}

func pidOr(pid int, other string) string {
	if pid == 0 {
		return other
	}
	return fmt.Sprint(pid)
}
