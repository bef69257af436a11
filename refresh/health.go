package refresh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// The states of a Health.
const (
	HealthOK       = "ok"
	HealthDegraded = "degraded" // tokens are served; something does not work, or waits
	HealthFailing  = "failing"  // no token can be refreshed here until somebody acts
)

// Health is how a Coordinator of this process is.
type Health struct {
	// Status is that of the worst reason; HealthOK without any.
	Status string `json:"status"`
	// Ready is false while this process should get no work, since others can do it and this one cannot: see
	// the codes in docs/operations.md. A Redis that is away is no such reason: it is away for all.
	Ready   bool           `json:"ready"`
	Reasons []HealthReason `json:"reasons,omitempty"`
}

// HealthReason is one thing that is not well.
type HealthReason struct {
	// Code is for programs, e.g. "redis_away".
	Code string `json:"code"`
	// Status is HealthDegraded or HealthFailing.
	Status string `json:"status"`
	// Text is one sentence. It holds no token and no tenant's name, but perhaps that of a token endpoint's host.
	Text string `json:"text"`
}

// lookFor is how long Health waits for Redis.
const lookFor = time.Second

// Health says how this process is: for a readiness probe, a page and a dashboard. It is not for a liveness
// probe: a restart mends nothing of what it tells, and loses what only this process remembers.
//
// While the process receives its own heartbeat, Health asks Redis nothing. Otherwise, and until Redis has once
// said that it can do what is needed, it asks one thing, once a second at most however often it is called.
// It returns when ctx ends, or after a second.
func (c *Coordinator) Health(ctx context.Context) Health {
	v := vitals{
		draining: c.work.Waiting.Err() != nil, unopened: c.judge.Unopened(), kept: c.tools.Keeper.Keeps(),
		remembers: c.grants.Any(), app: c.app.KnownApp(), rests: c.tools.Economy.Rests(),
	}
	v.braked = v.app != nil && c.tools.Economy.Brakes(v.app)
	v.opens = len(v.unopened) > 0 && c.grants.OpensOthers(c.cfg.Locker.Name())
	v.link = c.app.Link()
	if !v.draining && (!v.link.Live || !c.judge.KnownFit()) {
		v.look(ctx, c)
	}
	v.reached = v.link.Reached || c.judge.KnownFit() || v.answers
	return v.judge()
}

// vitals is what Health goes by.
type vitals struct {
	draining  bool
	unopened  []string // keys of pairs that this process cannot open
	opens     bool     // but it opens the youngest pair of another process
	unfit     error    // Redis refuses what is needed
	away      error    // Redis does not answer
	unasked   error    // the caller's ctx ended before Redis answered
	answers   bool     // Redis does answer
	reached   bool     // it has, at any time
	link      engine.Link
	remembers bool             // grants are in memory
	kept      int              // pairs that Redis has not taken
	app       *engine.AppState // nil for unknown
	braked    bool             // the app is stopped, by this process's profile
	rests     bool             // the part of Redis that holds the app's state does not answer
}

// look asks Redis.
func (v *vitals) look(ctx context.Context, c *Coordinator) {
	type said struct{ unfit, away error }
	bounded, cancel := context.WithTimeoutCause(ctx, lookFor, work.ErrSlow)
	defer cancel()
	got, err := work.Call(bounded, c.work, func(ctx context.Context) (said, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, lookFor, work.ErrSlow) // the caller's ended with its call
		defer cancel()
		unfit, away := c.judge.Look(ctx)
		return said{unfit, away}, nil
	})
	switch {
	case errors.Is(err, work.ErrClosed):
		v.draining = true
	case err != nil && ctx.Err() != nil:
		v.unasked = err
	case err != nil:
		v.away = err
	default:
		v.unfit, v.away, v.answers = got.unfit, got.away, got.unfit == nil && got.away == nil
	}
}

// notReady are the codes of what makes a process not ready.
var notReady = []string{"draining", "keyset", "redis_unfit", "redis_unreached"}

// judge says how a process is.
func (v *vitals) judge() Health {
	h := Health{Status: HealthOK, Ready: true}
	add := func(status, code, format string, args ...any) {
		h.Reasons = append(h.Reasons, HealthReason{code, status, fmt.Sprintf(format, args...)})
		h.Ready = h.Ready && !slices.Contains(notReady, code)
		if h.Status != HealthFailing {
			h.Status = status
		}
	}
	if v.draining {
		add(HealthDegraded, "draining", "Close has begun: no refresh begins here any more.")
	}
	slices.Sort(v.unopened)
	switch shut := strings.Join(v.unopened, ", "); {
	case v.opens: // a key that was taken out too early must not stop the whole fleet
		add(HealthDegraded, "keyset_lacks", "This process cannot open some pairs, which are sealed with %s; what others seal now it opens: give all the keyset that has that key.", shut)
	case shut != "":
		add(HealthFailing, "keyset", "This process cannot open pairs that are sealed with %s: give it the keyset that has it, and restart it.", shut)
	}
	v.judgeRedis(add)
	if v.kept > 0 {
		add(HealthDegraded, "pairs_pending", "Redis has not taken %d new pairs that only this process has: do not kill it.", v.kept)
	}
	if v.app != nil {
		judgeApp(v.app, v.app.Now(), v.braked, add)
	}
	return h
}

// judgeRedis judges Redis, and the way to it.
func (v *vitals) judgeRedis(add func(status, code, format string, args ...any)) {
	switch {
	case v.draining:
	case v.unfit != nil:
		add(HealthFailing, "redis_unfit", "%s.", oneLine(strings.TrimPrefix(v.unfit.Error(), "tokencache: ")))
	case v.unasked != nil:
		add(HealthDegraded, "unknown", "This call ended before Redis could answer: %s.", oneLine(v.unasked.Error()))
	case v.away != nil && !v.reached:
		add(HealthFailing, "redis_unreached", "This process has not reached Redis since it began: %s.", oneLine(v.away.Error()))
	case v.away != nil && v.remembers:
		add(HealthDegraded, "redis_away", "Redis does not answer: valid tokens are served from memory, nothing is refreshed (%s).", oneLine(v.away.Error()))
	case v.away != nil:
		add(HealthFailing, "redis_away", "Redis does not answer, and this process remembers no grant (%s).", oneLine(v.away.Error()))
	case !v.link.Live && v.link.Wanted && v.link.Why != nil:
		add(HealthDegraded, "no_push", "Redis answers, and no push arrives: tokens are read from Redis, and refreshes wait for the connection (%s).", oneLine(v.link.Why.Error()))
	case v.rests:
		add(HealthDegraded, "app_state_away", "Redis does not answer for the app's circuit, pauses and budget: exchanges go on at a tenth of the budget.")
	}
}

// some are the first of several names, and how many more there are.
func some(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
}

// judgeApp judges what the fleet knows of the app.
func judgeApp(s *engine.AppState, now int64, braked bool, add func(status, code, format string, args ...any)) {
	since := func(ms int64) string { return redisTime(ms).UTC().Format(time.RFC3339) }
	switch {
	case braked:
		add(HealthFailing, "unreadable_answer", "The app is stopped since %s: no token was found in the provider's first success.", since(s.OpenedAt))
	case s.Open && s.Brake == "": // a changed profile goes on
		add(HealthFailing, "circuit_open", "The provider refuses the app's client since %s (%s).", since(s.OpenedAt), oneLine(s.Error))
	case s.ThrottledUntil > now:
		add(HealthDegraded, "throttled", "The provider wants a pause of all exchanges until %s.", since(s.ThrottledUntil))
	}
	if names := s.HostsWhere(func(h *engine.AppState) bool { return h.Open }); names != nil {
		h := s.Hosts[names[0]]
		add(HealthDegraded, "host_circuit_open", "The provider refuses the app's client at %s since %s (%s); the tenants of other hosts go on.", some(names), since(h.OpenedAt), oneLine(h.Error))
	}
	if names := s.HostsWhere(func(h *engine.AppState) bool { return h.ThrottledUntil > now }); names != nil {
		add(HealthDegraded, "host_throttled", "The provider wants a pause of the exchanges at %s until %s; the tenants of other hosts go on.", some(names), since(s.Hosts[names[0]].ThrottledUntil))
	}
	if s.DownAt != 0 {
		add(HealthDegraded, "provider_down", "The provider gives no usable answer since %s, for several tenants (%s).", since(s.DownAt), oneLine(s.Error))
	}
	if policy.MassDies(s.MassAt, now) {
		add(HealthDegraded, "mass_death", "Many grants die at once since %s, which is not believed: ask the provider.", since(s.MassAt))
	}
	if s.LostAt != 0 {
		add(HealthDegraded, "redis_lost_data", "Redis lost data of the app at %s: restore the backup, or accept the loss.", since(s.LostAt))
	}
}
