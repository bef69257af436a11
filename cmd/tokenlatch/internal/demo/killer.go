package demo

import (
	"context"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// killer kills the process that presents a refresh token, one at a time. Killing takes
// no luck: a gate at the server holds the exchange where the kill shall find it.
type killer struct {
	server *refreshtest.Server
	fleet  *fleet
	grants *grants
	storms *storms
	feed   *feed
	count  int
}

const (
	firstKill = time.Second
	nextKill  = 2 * time.Second
	patience  = 5 * time.Second // with one tenant's exchange, before another one is chosen
)

// hunt lasts until ctx ends.
func (k *killer) hunt(ctx context.Context) {
	for pause := firstKill; sleep(ctx, pause); {
		pause = nextKill
		t := k.grants.candidate(ctx)
		if t == nil || !k.strike(ctx, t.name, k.moment()) {
			pause = 100 * time.Millisecond
		}
	}
}

// moment is mostly before the provider's commit: then the grant survives, whatever the
// profile. Every fifth comes after it: the new pair is lost with its only reader.
func (k *killer) moment() refreshtest.Point {
	if k.count%5 == 1 {
		return refreshtest.AfterCommit
	}
	return refreshtest.BeforeCommit
}

// strike waits for the tenant's next exchange, holds it at the moment and kills the
// process that waits for its answer.
func (k *killer) strike(ctx context.Context, tenant string, moment refreshtest.Point) bool {
	gate := k.server.Hold(moment, tenant)
	k.storms.strike(tenant) // an expired token is exchanged now, another one at its end
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p, err := gate.AwaitContext(ctx)
	victim := k.fleet.byAgent(p.UserAgent)
	if err != nil || victim == nil {
		gate.Release()
		return false
	}
	seen, err := k.grants.store.look(ctx, tenant)
	if err != nil || !k.alone(ctx, p) { // alone last: nothing may come between it and the kill
		gate.Release()
		return false
	}
	victim.kill()
	k.count++
	k.grants.bury(&kill{agent: p.UserAgent, tenant: tenant, at: time.Now(), epoch: seen.epoch, generation: seen.generation}, victim.pid())
	when := "before"
	if moment == refreshtest.AfterCommit {
		when = "after"
		gate.Release()
	} // else its request went down with it: behind the shut gate the provider never commits it
	k.feed.add(cli.Alarm, "%s: holder %d killed in mid-exchange (%s the commit)", tenant, victim.pid(), when)
	k.alsoHit(p, victim.pid())
	return true
}

// alsoHit tells of other tenants' exchanges that began after the last look.
func (k *killer) alsoHit(p refreshtest.Presentation, pid int) {
	for _, other := range inHand(k.server.Ledger(), p.UserAgent, time.Now()) {
		if other != p.Tenant {
			k.feed.add(cli.Alarm, "%s: its holder %d died in the same kill", other, pid)
		}
	}
}

// alone waits until the process at the gate has no other exchange under way: one tenant
// is to be hit, not two. The exchange's own timeout bounds the wait.
func (k *killer) alone(ctx context.Context, p refreshtest.Presentation) bool {
	for range 20 {
		if len(inHand(k.server.Ledger(), p.UserAgent, time.Now())) == 1 {
			return true
		}
		if !sleep(ctx, 25*time.Millisecond) {
			return false
		}
	}
	return false
}
