package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

const (
	// deadFor is how long a stored pair must be dead before it counts as lost: a
	// living one may be on its way from the provider.
	deadFor = 700 * time.Millisecond
	// consentAfter is how long a tenant takes to consent again. People need longer.
	consentAfter = 1500 * time.Millisecond
)

// alive reports whether the stored pair lives at the server.
func (g *grants) alive(name, fp string) bool {
	newest, ok := g.server.Living(name)
	if ok && refreshtest.Fingerprint(newest) == fp {
		return true
	}
	siblings := g.profile.Replay == provider.ReplayHarmless || g.profile.Replay == provider.ReplayGrace
	return ok && siblings
}

// settle tells what became of the grants whose holder was killed. With mu held.
func (g *grants) settle(t *tenant) {
	for _, k := range g.kills {
		if k.tenant != t.name || k.settled {
			continue
		}
		switch {
		case t.seen.epoch != k.epoch || t.seen.dead:
			k.settled = true
		case t.seen.generation > k.generation:
			k.settled, k.recovered = true, true
			g.feed.add(cli.Calm, "%s: taken over by %s after %.1fs; generation %d lives", t.name, pidOr(t.seen.by, "another"), time.Since(k.at).Seconds(), t.seen.generation)
		}
	}
}

// lose notes a grant that is gone, and reports whether it is newly so. With mu held.
func (g *grants) lose(t *tenant, dead, alive bool) bool {
	now := time.Now()
	switch {
	case alive && !dead:
		t.deadSince, t.lost = time.Time{}, false
		return false
	case t.deadSince.IsZero():
		t.deadSince = now
	}
	// tokenlatch says so itself, after a last attempt.
	unsure := !dead && (!g.naive || now.Sub(t.deadSince) < deadFor)
	if t.lost || unsure {
		return false
	}
	g.noteLoss(t)
	return true
}

// noteLoss is called with mu held.
func (g *grants) noteLoss(t *tenant) {
	t.lost = true
	g.losses = append(g.losses, loss{t.name, t.consents})
	g.feed.add(cli.Alarm, "%s: consent again (%s)", t.name, g.why(t))
}

// why says in words why a grant is lost. With mu held.
func (g *grants) why(t *tenant) string {
	switch {
	case g.naive:
		return "two workers presented one refresh token"
	case t.seen.reason == "":
		return "the stored pair is dead"
	case t.seen.reason != "lost_response":
		return t.seen.reason
	}
	for _, k := range g.kills {
		if k.tenant == t.name && k.epoch == t.seen.epoch && !k.recovered {
			return fmt.Sprintf("lost_response: the new pair died with %d", k.pid)
		}
	}
	return "lost_response: the new pair was lost on its way"
}

func (g *grants) unsettled(name string) bool {
	for _, k := range g.kills {
		if k.tenant == name && !k.settled {
			return true
		}
	}
	return false
}

func (g *grants) reconsent(ctx context.Context, t *tenant) {
	if !sleep(ctx, consentAfter) {
		return
	}
	tok := g.server.Grant(t.name)
	g.mu.Lock()
	t.consents++
	t.deadSince = time.Time{}
	g.mu.Unlock()
	if err := g.store.consent(ctx, t.name, tok); err != nil {
		g.feed.add(cli.Alarm, "%s: its new consent could not be stored", t.name)
		return
	}
	g.feed.add(cli.Calm, "%s: its admin has consented again", t.name)
}

// close looks at every grant a last time. Now that nobody works any more, a stored
// pair that does not live is lost.
func (g *grants) close(ctx context.Context) {
	for _, t := range g.tenants {
		if err := g.look(ctx, t); err != nil {
			continue // said by the calls' errors
		}
		alive := g.alive(t.name, t.seen.fingerprint)
		g.mu.Lock()
		if !alive && !t.lost {
			g.noteLoss(t)
		}
		g.mu.Unlock()
	}
}
