package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// storm lets things fail until ctx ends, and then no more. It runs on the test's goroutine, since
// only that one may start and stop servers and processes.
type storm struct {
	*chaos
	r    *rand.Rand
	now  []fault // under way
	lost int     // answers of the provider that were lost, or may have been

	mistaken map[string]bool // tenants of whom the provider has said wrongly that their grant is dead

	switched time.Time // when the master last had to change
	emptied  time.Time // when Redis last was; zero for never
}

// givesBack is how long the workers have to give back what Redis has lost.
const givesBack = 6 * time.Second

// fault is one that lasts.
type fault struct {
	what   string
	target any // nothing else happens to it meanwhile: a *slot, "redis", or a tenant
	worker string
	since  time.Time
	until  time.Time
	undo   func()
	gate   *refreshtest.Gate // of one that waits for an exchange: see ambush
	hold   time.Duration     // how long that exchange is to wait
}

func (c *chaos) storm(ctx context.Context) {
	s := &storm{chaos: c, r: c.random(1), mistaken: map[string]bool{}}
	deadline, _ := ctx.Deadline()
	half := time.Now().Add(time.Until(deadline) / 2)
	for next := time.Now(); ctx.Err() == nil; pause(ctx, 10*time.Millisecond) {
		s.end(func(f fault) bool { return !time.Now().Before(f.until) })
		s.ambush()
		if s.flushed && s.emptied.IsZero() && time.Now().After(half) {
			s.emptyForSure(ctx)
		}
		if time.Now().Before(next) {
			continue
		}
		s.strike()
		next = time.Now().Add(s.millis(30, 500))
	}
	c.server.ClearScript()
	s.end(func(fault) bool { return true })
	c.server.ClearScript()                              // what a worker's end has asked for meanwhile
	if s.flushed && s.emptied.IsZero() && !s.consents { // else a tenant that has left may be known to nobody
		s.broken("Redis was never emptied")
	}
	c.note(happening{what: "all faults have ended"})
}

func (s *storm) millis(from, to int) time.Duration {
	return time.Duration(from+s.r.IntN(to-from)) * time.Millisecond
}

// end undoes the faults that are over.
func (s *storm) end(over func(fault) bool) {
	for i := 0; i < len(s.now); {
		f := s.now[i]
		if !over(f) {
			i++
			continue
		}
		s.now = slices.Delete(s.now, i, i+1)
		f.undo()
		s.note(happening{at: f.since, until: time.Now(), what: f.what, worker: f.worker})
	}
}

// begin is a fault that lasts for d.
func (s *storm) begin(what string, target any, d time.Duration, undo func()) {
	f := fault{what: what, target: target, since: time.Now(), until: time.Now().Add(d), undo: undo}
	if slot, ok := target.(*slot); ok {
		if p := slot.worker(); p != nil {
			f.worker = p.name
		}
	}
	s.now = append(s.now, f)
}

func (s *storm) busy(target any) bool {
	return slices.ContainsFunc(s.now, func(f fault) bool { return f.target == target })
}

// strike makes one thing fail. It draws the same numbers whether or not the thing is busy.
func (s *storm) strike() {
	kind, which, how, long := s.r.IntN(20), s.r.IntN(chaosWorkers), s.r.IntN(1000), s.r.Float64()
	slot := s.slots[which]
	switch {
	case kind < 8:
		if !s.busy(slot) {
			s.network(slot, how, long)
		}
	case kind < 14:
		s.answers(how, long)
	case kind < 17:
		if !s.busy(slot) {
			s.process(slot, how, long)
		}
	default:
		if s.busy("redis") {
			return
		}
		if s.failover != nil && how%2 == 0 {
			s.change(how, long)
		} else {
			s.master(how, long)
		}
	}
}

func between(from, to time.Duration, at float64) time.Duration {
	return from + time.Duration(at*float64(to-from))
}

// losing reports whether two replies are to be lost already on each way. One request may match them all: a
// server that closes the connection at the same command three times in a row does not know the command.
func (s *slot) losing() bool {
	s.eaten = slices.DeleteFunc(s.eaten, func(e *redistest.Eaten) bool {
		select {
		case <-e.Done():
			return true
		default:
			return false
		}
	})
	return len(s.eaten) >= 2*len(s.proxies)
}

// network fails between one worker and Redis.
func (s *storm) network(slot *slot, how int, long float64) {
	each := func(do func(*redistest.Proxy)) {
		for _, p := range slot.proxies {
			do(p)
		}
	}
	thaw := func() { each((*redistest.Proxy).Thaw) }
	name := "nobody"
	if p := slot.worker(); p != nil {
		name = p.name
	}
	switch how % 8 {
	case 0:
		each((*redistest.Proxy).Cut)
		s.note(happening{what: "network: cut", worker: name})
	case 1, 2, 3:
		of := []string{":journal", "evalsha", ":lock", "publish", ":grant", ":secret", "eval"}[how/8%7]
		if slot.losing() {
			return
		}
		each(func(p *redistest.Proxy) { slot.eaten = append(slot.eaten, p.EatReply(of)) })
		s.note(happening{what: "network: a lost reply to " + of, worker: name})
	case 4:
		each((*redistest.Proxy).Freeze)
		s.begin("network: a delay", slot, between(20*time.Millisecond, 300*time.Millisecond, long), thaw)
	case 5:
		each((*redistest.Proxy).Freeze)
		s.begin("network: a black hole", slot, between(500*time.Millisecond, 4*time.Second, long), thaw)
	case 6:
		each((*redistest.Proxy).Freeze)
		s.begin("network: half-open, then cut", slot, between(500*time.Millisecond, 4*time.Second, long), func() {
			each((*redistest.Proxy).Cut)
			thaw()
		})
	case 7:
		each((*redistest.Proxy).Refuse)
		each((*redistest.Proxy).Cut)
		s.begin("network: refused", slot, between(200*time.Millisecond, 2500*time.Millisecond, long), func() {
			each((*redistest.Proxy).Accept)
		})
	}
}

// provider fails in one exchange of a tenant.
func (s *storm) answers(how int, long float64) {
	tenant := fmt.Sprint("t", how%chaosTenants)
	step := refreshtest.Step{Tenant: tenant}
	switch how / 10 % 12 {
	case 0:
		step.Fault = refreshtest.Reset
	case 1:
		step.Fault = refreshtest.Drop
	case 2:
		step.Status, step.Body = http.StatusInternalServerError, "{}"
	case 3:
		step.Status, step.Header = http.StatusServiceUnavailable, http.Header{"Retry-After": {"1"}}
	case 4:
		step.Status, step.Header = http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}
	case 5, 6:
		s.slow(refreshtest.BeforeCommit, tenant, between(200*time.Millisecond, 3*time.Second, long))
		return
	case 8:
		// A provider's own mistake. One is survived; of two in a row nobody can tell.
		if s.mistaken[tenant] {
			return
		}
		s.mistaken[tenant] = true
		step.Status, step.Body = http.StatusBadRequest, `{"error":"invalid_grant"}`
	case 7:
		s.slow(refreshtest.AfterCommit, tenant, between(200*time.Millisecond, 3*time.Second, long))
		return
	default:
		s.lose(tenant, how/120, long)
		return
	}
	s.note(happening{what: "provider: before the commit, " + faultOf(step) + " for " + tenant})
	s.chaos.server.Script(step)
}

func faultOf(step refreshtest.Step) string {
	if step.Fault != refreshtest.NoFault {
		return string(step.Fault)
	}
	return fmt.Sprint(step.Status)
}

// slow has the next exchange of the tenant wait.
func (s *storm) slow(at refreshtest.Point, tenant string, d time.Duration) {
	if s.busy(tenant) {
		return
	}
	gate := s.chaos.server.Hold(at, tenant)
	s.begin("provider: slow for "+tenant, tenant, 5*time.Second, gate.Release)
	f := &s.now[len(s.now)-1]
	f.gate, f.hold = gate, d
}

// ambush waits for a moment at which it hurts: a worker has presented a refresh token and has no
// answer yet. Then something happens to it, or to Redis, and the answer comes meanwhile.
func (s *storm) ambush() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for i := range s.now {
		f := &s.now[i]
		if f.gate == nil {
			continue
		}
		p, err := f.gate.AwaitContext(now)
		if err != nil {
			continue
		}
		f.gate, f.until = nil, time.Now().Add(f.hold)
		what, how, long := s.r.IntN(8), s.r.IntN(1000), s.r.Float64()
		slot := s.slotNamed(shownBy(p.UserAgent).worker)
		if slot == nil || s.busy(slot) || what >= 4 && s.busy("redis") {
			continue
		}
		if f.hold < chaosExchange/2 { // else it is to be late, whatever happens
			f.until = time.Now().Add(f.hold / 5)
		}
		switch {
		case what == 0:
			s.process(slot, how, long)
		case what < 4:
			s.network(slot, 5+how%3+8*(how/8), long)
		case what < 7:
			s.master(how, long)
		}
		return
	}
}

func (s *storm) slotNamed(worker string) *slot {
	for _, slot := range s.slots {
		if p := slot.worker(); p != nil && p.name == worker {
			return slot
		}
	}
	return nil
}

// lose has the answer to the next exchange of the tenant lost when its token is spent. Where that
// is the end of a grant it happens a few times only.
func (s *storm) lose(tenant string, how int, long float64) {
	if !s.forgives() {
		if s.lost >= deadly {
			return
		}
		s.lost++
	}
	step := refreshtest.Step{Tenant: tenant, At: refreshtest.AfterCommit}
	switch how % 6 {
	case 0:
		step.Fault = refreshtest.Reset
	case 1:
		step.Fault = refreshtest.Drop
	case 2:
		step.Fault = refreshtest.Truncate
	case 3:
		step.Status, step.Body = http.StatusBadGateway, "<html>"
	case 4:
		step.Status, step.Header = http.StatusServiceUnavailable, http.Header{"Retry-After": {"1"}}
	case 5:
		s.slow(refreshtest.AfterCommit, tenant, between(chaosExchange, chaosExchange+2*time.Second, long))
		return
	}
	s.note(happening{what: "provider: after the commit, " + faultOf(step) + " for " + tenant})
	s.chaos.server.Script(step)
}

// forgives reports whether an answer that is lost can be had again.
func (v variant) forgives() bool {
	switch v.profile.Replay {
	case provider.ReplayHarmless, provider.ReplayGrace, provider.ReplaySamePair:
		return true
	}
	return false
}

// process fails: one worker.
func (s *storm) process(slot *slot, how int, long float64) {
	p := slot.worker()
	if p == nil {
		return
	}
	vacant := func() {
		slot.mu.Lock()
		defer slot.mu.Unlock()
		slot.now = nil
	}
	again := func() { s.employ(slot) }
	switch how % 5 {
	case 0, 1:
		if s.flushed && (s.emptied.IsZero() || time.Since(s.emptied) < givesBack) { // it may be the only one that knows something
			return
		}
		vacant()
		s.note(happening{what: "process: killed", worker: p.name})
		p.kill()
		s.begin("process: nobody in its place", slot, between(100*time.Millisecond, 2*time.Second, long), again)
	case 2, 3:
		p.stop()
		s.begin("process: stopped", slot, between(200*time.Millisecond, 2*chaosLease, long), p.cont)
	case 4:
		vacant()
		s.note(happening{what: "process: asked to end", worker: p.name})
		if p.offer(order{Op: "close"}) == nil {
			s.broken("%s does not take the order to end", p.name)
		}
		s.begin("process: nobody in its place", slot, between(500*time.Millisecond, 2*time.Second, long), again)
	}
}

// server fails: the one that is the master now.
func (s *storm) master(how int, long float64) {
	rs := s.redis
	if s.failover != nil {
		if rs = s.failover.Current(); rs == nil {
			return
		}
	}
	rdb := rs.Client(s.t)
	set := func(name, value string) bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return rdb.ConfigSet(ctx, name, value).Err() == nil
	}
	short, middle := between(200*time.Millisecond, 2*time.Second, long), between(500*time.Millisecond, 4*time.Second, long)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	switch how / 2 % 9 {
	case 0:
		if s.failover != nil { // the Sentinel would change the master
			return
		}
		rs.Kill(s.t)
		s.begin("redis: killed", "redis", short, func() { rs.Restart(s.t) })
	case 1:
		if s.failover != nil {
			return
		}
		rs.Pause(s.t)
		s.begin("redis: stopped", "redis", middle, func() { rs.Resume(s.t) })
	case 2:
		if set("maxmemory", "1") {
			s.begin("redis: out of memory", "redis", middle, func() { set("maxmemory", "0") })
		}
	case 3:
		if set("min-replicas-to-write", "3") {
			s.begin("redis: too few replicas", "redis", middle, func() { set("min-replicas-to-write", "0") })
		}
	case 4:
		rdb.Do(ctx, "client", "pause", short.Milliseconds(), []string{"all", "write"}[how%2])
		s.begin("redis: clients wait", "redis", short, func() {})
	case 5:
		rdb.ClientKillByFilter(ctx, "TYPE", "pubsub")
		s.note(happening{what: "redis: subscribers thrown out"})
	case 6:
		rdb.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes")
		s.note(happening{what: "redis: clients thrown out"})
	case 7:
		rdb.ScriptFlush(ctx)
		s.note(happening{what: "redis: scripts forgotten"})
	case 8:
		s.empty()
	}
}

// empty has Redis lose all data, if a worker that lives can give each grant back.
func (s *storm) empty() {
	if !s.flushed || !s.quietProcesses() || !s.remembered() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), chaosPatience) // clients may still have to wait
	defer cancel()
	if err := s.rdb.FlushAll(ctx).Err(); err != nil {
		s.broken("Redis cannot be emptied: %v", err)
	}
	s.emptied = time.Now()
	s.note(happening{what: "redis: flushed"})
	s.begin("redis: flushed a moment ago", "redis", givesBack, func() {})
}

// emptyForSure ends all faults, and empties Redis as soon as that can be survived.
func (s *storm) emptyForSure(ctx context.Context) {
	for s.end(func(fault) bool { return true }); ctx.Err() == nil && s.emptied.IsZero(); pause(ctx, 10*time.Millisecond) {
		s.empty()
	}
}

// quietProcesses reports whether all workers live: what only a dead one knew is lost with the data.
func (s *storm) quietProcesses() bool {
	return !slices.ContainsFunc(s.slots, func(slot *slot) bool { return slot.worker() == nil || s.busy(slot) })
}

// remembered reports whether the workers that live know all that Redis does: they have been given each grant's
// newest token, or have ended it themselves, and no claim is that of a dead one. What none knows, none gives back.
func (s *storm) remembered() bool {
	living, given := map[string]bool{"": true, "operator": true}, map[string]bool{}
	for _, slot := range s.slots {
		if p := slot.worker(); p != nil {
			living[p.name] = true
		}
	}
	s.mu.Lock()
	for _, seen := range s.sightings {
		if living[seen.worker] {
			given[seen.fp] = true
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for i := range chaosTenants {
		var record struct {
			AccessFP string `redis:"at_fp"`
			By       string `redis:"by"`
			ClaimBy  string `redis:"claim_by"`
		}
		key := s.key(fmt.Sprint("t", i), "grant")
		if err := s.rdb.HMGet(ctx, key, "at_fp", "by", "claim_by").Scan(&record); err != nil {
			return false
		}
		ended := record.AccessFP == "" && record.By != "" && living[record.By]
		if !ended && !given[record.AccessFP] || !living[record.ClaimBy] {
			return false
		}
	}
	return true
}

// change has the Sentinel make the other server the master: as planned, or because this one has died,
// or gone silent.
func (s *storm) change(how int, long float64) {
	old := s.failover.Current()
	if old == nil || time.Since(s.switched) < 10*time.Second || !s.failover.InStep() {
		return
	}
	s.switched = time.Now()
	over := func(back func()) func() {
		return func() {
			for end := time.Now().Add(30 * time.Second); s.failover.Current() == old && time.Now().Before(end); {
				time.Sleep(20 * time.Millisecond)
			}
			back()
		}
	}
	switch how / 2 % 3 {
	case 0:
		if err := s.failover.Switch(); err != nil {
			s.note(happening{what: "redis: no planned failover", worker: err.Error()})
			return
		}
		s.begin("redis: planned failover", "redis", between(2*time.Second, 6*time.Second, long), func() {})
	case 1:
		old.Kill(s.t)
		s.begin("redis: the master is killed", "redis", between(2*time.Second, 6*time.Second, long), over(func() { old.Restart(s.t) }))
	case 2:
		old.Pause(s.t)
		s.begin("redis: the master is silent", "redis", between(2*time.Second, 6*time.Second, long), over(func() { old.Resume(s.t) }))
	}
}
