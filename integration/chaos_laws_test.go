package integration

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// The laws of chaos, as docs/promises.md has them. All are judged by facts: what the provider's ledger
// says of a presentation and of the claim under which it was made, what was done to whom and when,
// and what is stored in the end.
//
//  1. A refresh token is not presented while an earlier presentation of it may bring a pair, unless
//     the profile says that this is safe: harmless and same pair always, grace within its window.
//     An answer 4xx has said that there is no pair. Otherwise the earlier holder is past its hard
//     deadline, or its answer was lost on the way to it, and the access token has expired or was
//     refused by an API.
//  2. A grant is lost only by a fault that takes a pair away: the provider's answer was lost after
//     its commit, or the holder was killed, stopped past its hard deadline, or hung up at its
//     ExchangeTimeout. Or an answer was lost before the commit, and the provider then refused the
//     recovery presentation by mistake. Where the same pair can be had again, only by the end of one who has used it;
//     where presenting again is harmless, never.
//  3. In the end the stored pair is the provider's living one, no claim stands, a refresh works, and
//     every worker serves the newest token.
//  4. No caller hangs, and no error says that the operator must act.
//  5. No goroutine and no secret is left behind.
//  6. A worker that neither stands still nor is cut off serves no token for long once a newer one is stored.

// loss is a grant that had to be given a new consent.
type loss struct {
	tenant, fp, reason string // fp: of the refresh token that Redis had
	at                 time.Time
}

// settle waits until every grant is at rest: stored as the provider knows it, or lost.
func (c *chaos) settle() {
	end := time.Now().Add(chaosPatience)
	for i := range chaosTenants {
		tenant := fmt.Sprint("t", i)
		for why := "at first"; why != ""; time.Sleep(50 * time.Millisecond) {
			if why = c.unsettled(tenant); why != "" && time.Now().After(end) {
				c.broken("%s does not settle within %v: %s\n%s", tenant, chaosPatience, why, c.server.Ledger().Presentations(tenant))
				break
			}
		}
	}
}

// unsettled says why the grant is not at rest. It lets a worker call the API, since what an API
// says of the access token decides about the rest.
func (c *chaos) unsettled(tenant string) string {
	if c.last[tenant] {
		for _, s := range c.slots {
			s.worker().ask(c, order{Op: "call", Tenant: tenant, Callers: 1, URL: c.server.APIURL(), Patience: 5 * time.Second})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	st, err := c.ops.Status(ctx, tenant)
	switch {
	case err != nil:
		return err.Error()
	case st.State == tokencache.Disconnected && !c.last[tenant]:
		return ""
	case st.State == tokencache.Reauthorize && c.last[tenant]:
		c.mourn(context.Background(), tenant)
		return "it is lost"
	case st.State != tokencache.Active || !c.last[tenant]:
		return fmt.Sprintf("it is %s, and connected: %t", st.State, c.last[tenant])
	case st.ClaimBy != "":
		return fmt.Sprintf("presented by %s since %s, until %s: %s", st.ClaimBy, st.ClaimAt.Format("05.000"), st.ClaimUntil.Format("05.000"), st)
	case st.RetryAt.After(st.Now):
		return fmt.Sprintf("left alone until %s: %s", st.RetryAt.Format("05.000"), st)
	}
	return c.hollow(st)
}

// hollow says why the stored pair is not the living one.
func (c *chaos) hollow(st tokencache.Status) string {
	raw := c.issued(st.RefreshTokenFingerprint)
	spent := c.server.Ledger().Outcome(refreshtest.Rotated, refreshtest.Sibling, refreshtest.SamePair).PerToken()[st.RefreshTokenFingerprint] > 0
	switch {
	case raw == "":
		return "nobody issued the stored refresh token " + st.RefreshTokenFingerprint
	case spent && c.profile.Replay != provider.ReplayHarmless:
		return "the stored refresh token is spent: " + st.RefreshTokenFingerprint
	case !c.server.Alive(raw):
		return "the stored refresh token is dead: " + st.RefreshTokenFingerprint
	}
	return ""
}

// judge checks the laws.
func (c *chaos) judge() {
	l := c.server.Ledger()
	c.wrong = append(c.wrong, c.unlawful(l)...)
	c.mu.Lock()
	c.wrong = append(c.wrong, c.staleServed()...)
	c.mu.Unlock()
	for _, lost := range c.losses {
		if why := c.explained(l, lost); why == "" {
			c.broken("%s was lost (%s) at %s without a reason:\n%s", lost.tenant, lost.reason, lost.at.Format("15:04:05.000"), l.Presentations(lost.tenant))
		} else {
			c.note(happening{at: lost.at, what: "loss: " + why, worker: lost.tenant})
		}
	}
	for i := range chaosTenants {
		if tenant := fmt.Sprint("t", i); c.last[tenant] && !c.alike(tenant) {
			break // each takes its time
		}
	}
	logs := ""
	for _, p := range c.launched {
		if p == c.slotOf(p).worker() {
			if r := p.offer(order{Op: "close", Tidy: true}); r == nil {
				c.broken("%s takes no order to end", p.name)
			} else if a, ok := r.answer(); !ok || a.Failed != "" {
				c.broken("%s does not end well: %s", p.name, a.Failed)
			}
		}
		p.kill()
		logs += p.log.String()
	}
	for name, text := range map[string]string{"keys": redistest.Dump(c.t, c.rdb, "*"), "logs": logs} {
		if at := strings.Index(text, canary); at >= 0 {
			c.broken("a secret shows in the %s: …%q…", name, text[max(0, at-80):min(len(text), at+60)])
		}
	}
}

func (c *chaos) slotOf(p *process) *slot {
	for _, s := range c.slots {
		if s.worker() == p {
			return s
		}
	}
	return &slot{}
}

// answer waits for the answer to an order; false if the process ended without one.
func (s *sent) answer() (answer, bool) {
	select {
	case a := <-s.reply:
		return a, true
	case <-time.After(patience):
	case <-s.p.gone:
		select {
		case a := <-s.reply:
			return a, true
		default:
		}
	}
	return answer{}, false
}

// alike asserts that a refresh works, and that every worker serves what came of it. It reports whether the refresh worked.
func (c *chaos) alike(tenant string) bool {
	var last string
	for end := time.Now().Add(chaosPatience); ; time.Sleep(50 * time.Millisecond) {
		r := c.slots[0].worker().ask(c, order{Op: "refresh", Tenant: tenant, Callers: 1, Patience: 15 * time.Second})
		if r != nil && len(r.Errors) == 0 {
			break
		}
		if last = fmt.Sprint(r); time.Now().After(end) {
			listening := c.rdb.PubSubNumSub(c.ctx(), c.key(tenant, "events")).Val()
			st, err := c.ops.Status(c.ctx(), tenant)
			c.broken("%s cannot be refreshed in the end: %s; Redis says %s, %v; listeners %v", tenant, last, st, err, listening)
			return false
		}
	}
	for i, s := range c.slots {
		for end := time.Now().Add(chaosPatience); ; time.Sleep(50 * time.Millisecond) {
			r := s.worker().ask(c, order{Op: "token", Tenant: tenant, Callers: 1, Patience: 15 * time.Second})
			if r != nil && len(r.Errors) == 0 && c.allAlive(*r) {
				break
			}
			if time.Now().After(end) {
				c.broken("worker %d does not serve a living token of %s: %v", i, tenant, r)
				break
			}
		}
	}
	if st, err := c.ops.Status(c.ctx(), tenant); err != nil {
		c.broken("%s: %v", tenant, err)
	} else if why := c.hollow(st); why != "" {
		c.broken("%s: %s", tenant, why)
	}
	return true
}

func (c *chaos) allAlive(r report) bool {
	for fp := range r.Tokens {
		if !c.server.AccessAlive(c.issued(fp)) {
			return false
		}
	}
	return true
}

// unlawful are the presentations against law 1.
func (c *chaos) unlawful(l refreshtest.Ledger) (wrong []string) {
	for i, later := range l {
		for _, earlier := range l[:i] {
			if earlier.Fingerprint == later.Fingerprint && !c.mayFollow(earlier, later) {
				at := func(ms int64) string { return time.UnixMilli(ms).Format("15:04:05.000") }
				wrong = append(wrong, fmt.Sprintf("presented again against the rules:\n%s until %s\n%s, at %s, its access token ends at %s\n%s", earlier,
					at(shownBy(earlier.UserAgent).until), later, at(later.Arrived.UnixMilli()), at(shownBy(later.UserAgent).expires), l.Presentations(later.Tenant)))
			}
		}
	}
	return wrong
}

// mayFollow reports whether a refresh token that was presented may be presented again.
func (c *chaos) mayFollow(earlier, later refreshtest.Presentation) bool {
	if said4xx(earlier) {
		return true
	}
	switch c.profile.Replay {
	case provider.ReplayHarmless, provider.ReplaySamePair:
		return true
	case provider.ReplayGrace:
		if later.Arrived.Sub(earlier.Arrived) <= c.profile.Grace {
			return true
		}
	}
	claim, next, at := shownBy(earlier.UserAgent), shownBy(later.UserAgent), later.Arrived.UnixMilli()
	return (at >= claim.until || over(earlier, later.Arrived)) && (at >= next.expires || next.refused)
}

// over reports whether an exchange could bring its holder no pair any more at that time: then the
// holder may have given up what was left of its claim.
func over(p refreshtest.Presentation, at time.Time) bool {
	ended := !p.Answered.IsZero() && p.Answered.Before(at)
	return ended && (p.Fault != refreshtest.NoFault || p.Status != 200 || p.Gone)
}

// said4xx reports whether the answer has said that the token brings no pair.
func said4xx(p refreshtest.Presentation) bool {
	return p.Fault == refreshtest.NoFault && p.Status >= 400 && p.Status < 500 && !p.Gone && !p.Outcome.Committed()
}

// explained is the fault that law 2 allows as the reason of a loss, or "".
func (c *chaos) explained(l refreshtest.Ledger, lost loss) string {
	l = l.Presentations(lost.tenant)
	for _, p := range l {
		// Its tenant has consented or disconnected meanwhile, which has revoked what Redis had.
		if p.Fingerprint == lost.fp && p.Outcome == refreshtest.Revoked && c.replaced(l, p) {
			return "its tenant had revoked it"
		}
	}
	for _, p := range l {
		if p.Fingerprint == lost.fp && p.Outcome.Committed() {
			if why := c.tookAway(l, p); why != "" {
				return why
			}
		}
	}
	// A recovery presentation is heard once, unless it follows a 5xx.
	wrongly := func(p refreshtest.Presentation) bool { return p.Fingerprint == lost.fp && mistaken(p) }
	if lost.reason == "lost_response" && slices.ContainsFunc(l, wrongly) {
		return "an answer was lost, and the provider said by mistake that the grant is dead"
	}
	// What Redis has is dead by the replay of one before it.
	for _, p := range l {
		if p.Outcome != refreshtest.FamilyRevoked {
			continue
		}
		for _, q := range l {
			if q.Fingerprint == p.Fingerprint && q.Outcome.Committed() {
				if why := c.tookAway(l, q); why != "" {
					return why
				}
			}
		}
	}
	return ""
}

// mistaken reports whether the provider has said of a living grant that it is dead.
func mistaken(p refreshtest.Presentation) bool {
	return p.Outcome == refreshtest.NotProcessed && p.Status == http.StatusBadRequest
}

// replaced reports whether the family of p was revoked by its tenant, and not by a replay.
func (c *chaos) replaced(l refreshtest.Ledger, p refreshtest.Presentation) bool {
	return !slices.ContainsFunc(l, func(q refreshtest.Presentation) bool {
		return q.Consent == p.Consent && q.Outcome == refreshtest.FamilyRevoked && q.N < p.N
	})
}

// tookAway says what took the pair of a presentation away from its holder, or "".
func (c *chaos) tookAway(l refreshtest.Ledger, p refreshtest.Presentation) string {
	claim := shownBy(p.UserAgent)
	switch {
	case c.profile.Replay == provider.ReplayHarmless:
		return ""
	case c.profile.Replay == provider.ReplaySamePair: // only who has the pair can have used it
	case p.Fault != refreshtest.NoFault:
		return "the provider's answer was lost"
	case p.Status != 200:
		return fmt.Sprintf("the provider's answer was %d", p.Status)
	case p.Gone && (p.Answered.Sub(p.Arrived) >= chaosExchange-time.Second/2 || p.Answered.UnixMilli() >= claim.until-(chaosClaim-chaosExchange).Milliseconds()/2):
		return "the provider answered after ExchangeTimeout"
	}
	for _, h := range c.story {
		if h.worker != claim.worker {
			continue
		}
		switch {
		case h.what == "process: killed": // no process has its name after it; its last request may arrive later
			return "its holder was killed"
		case h.what == "process: stopped" && h.until.UnixMilli() >= claim.until && h.at.UnixMilli() < claim.until:
			return "its holder was stopped past its hard deadline"
		}
	}
	return ""
}
