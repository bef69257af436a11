package refresh

import (
	"context"
	"errors"
	"strings"

	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/refresh/internal/trouble"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// Explain says why a tenant's grant is as it is, since when, who acts next, and what to do. It uses
// what Redis holds of the grant, and what this process knows besides. It presents nothing. It costs
// a few reads: call it for people, not for each request.
//
// It also explains a grant that is not there, a pair that does not open, and a Redis that refuses a
// command. If Redis does not answer, the error is of kind ErrUnavailable. If ctx ends, the error is
// the cause with which it ended.
func (c *Coordinator) Explain(ctx context.Context, tenant string) (explain.Explanation, error) {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return explain.Explanation{}, err
	}
	found, err := evidenceOf(ctx, c, k)
	switch {
	case err != nil && ctx.Err() != nil:
		return explain.Explanation{}, work.Left(ctx, k)
	case err != nil:
		return explain.Explanation{}, c.about(k, err)
	}
	return explain.Judge(found), nil
}

// evidenceOf returns what is known of a grant.
func evidenceOf(ctx context.Context, c *Coordinator, k tokencache.Key) (explain.Case, error) {
	profile := c.tools.Rules.Profile
	if c.tools.Rules.Mints {
		profile.Replay = provider.ReplayHarmless // nothing is spent
	}
	found := explain.Case{
		App: k.App, Tenant: k.Tenant, Profile: &profile, IdleAfter: c.cfg.IdleAfter,
		Process: explain.Process{Name: c.cfg.Locker.Name()},
	}
	s, trace, err := readTogether(ctx, c, k)
	if unfit := engine.Unfit(err); unfit != nil {
		found.Process.Code, found.Process.Detail = trouble.Unfit, unfit.Error()
		return found, nil
	}
	found.Trace, found.Now = trace, trace.Now
	switch {
	case errors.Is(err, tokencache.ErrDamaged), errors.Is(err, tokencache.ErrNewer):
		found.Damaged = err
	case err != nil && !errors.Is(err, tokencache.ErrNone):
		return found, err
	case err == nil:
		found.Record, found.Pair = &s.Record, pairOf(s)
		found.Process = processOf(ctx, c, s, trace.Now)
	}
	if a, err := c.app.AppState(ctx); err == nil {
		found.State = &a.AppTrouble
		if h := c.tools.Economy.HostFor(a, k.Tenant, s); h != nil {
			found.Host = h.About
		}
	}
	return found, nil
}

// readTogether reads record and journal of one moment: nothing was written to the journal in between.
func readTogether(ctx context.Context, c *Coordinator, k tokencache.Key) (s *engine.Snapshot, t journal.Trace, err error) {
	before, failed := c.app.Trace(ctx, k.Tenant)
	for range 3 {
		if failed != nil {
			return nil, t, failed
		}
		s, err = work.Call(ctx, c.work, c.app.Grant(k.Tenant).Read)
		if t, failed = c.app.Trace(ctx, k.Tenant); failed == nil && lastID(t) == lastID(before) {
			break
		}
		before = t
	}
	if failed != nil {
		err = failed
	}
	return s, t, err
}

func lastID(t journal.Trace) string {
	if len(t.Entries) == 0 {
		return ""
	}
	return t.Entries[len(t.Entries)-1].ID
}

// pairOf says whether a snapshot's pair opened.
func pairOf(s *engine.Snapshot) explain.Pair {
	if _, sealed := grant.SealedBy(s.Err); sealed {
		return explain.PairSealed
	}
	if s.Err != nil {
		return explain.PairMissing
	}
	return explain.PairOpens
}

// processOf returns what this process knows of a grant that is in no key of Redis.
func processOf(ctx context.Context, c *Coordinator, s *engine.Snapshot, now int64) explain.Process {
	p := explain.Process{Name: c.cfg.Locker.Name()}
	insecure := c.insecure.lately(s.Tenant)
	switch {
	case s.Err != nil:
		p.Detail = strings.TrimPrefix(s.Err.Error(), "tokencache: ")
	case insecure != nil:
		p.Code, p.Detail = "insecure_url", insecure.Error()
	case c.flights.Flies(s.Tenant) && c.tools.Economy.Waits():
		p.Code = "budget"
	}
	if c.tools.Takeover != grant.AtOnce && c.cfg.Replicas == 0 && s.State == tokencache.Active {
		if _, left, doubtful, err := c.app.Grant(s.Tenant).MayHaveLost(ctx, s); err == nil && doubtful && left > 0 {
			p.Doubted = now + left.Milliseconds()
		}
	}
	return p
}
