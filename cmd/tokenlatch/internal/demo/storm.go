package demo

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// storms sends webhooks: of every tenant, again and again, many at once to all workers,
// about when its access token ends; and a few in between.
type storms struct {
	fleet *fleet
	burst int           // webhooks per worker and storm
	lull  time.Duration // from one storm of a tenant to its next, at least
}

const (
	spread  = 120 * time.Millisecond // in which the webhooks of a storm arrive
	drizzle = 150 * time.Millisecond // between the few that follow
	drops   = 10
)

func newStorms(f *fleet, opt Options) *storms {
	// Exchanges of all tenants in a second: few enough that a worker can be killed in
	// the middle of one without hitting another tenant's.
	rate := min(20, 0.7*float64(opt.Workers)/max(opt.Latency.Seconds(), 0.05))
	return &storms{
		fleet: f, burst: min(25, max(2, 600/opt.Tenants/opt.Workers)),
		lull: max(tokenLife*2/3, time.Duration(float64(opt.Tenants)/rate*float64(time.Second))-drops*drizzle),
	}
}

// blow lasts until ctx ends.
func (s *storms) blow(ctx context.Context, tenants []*tenant) {
	var all sync.WaitGroup
	for i, t := range tenants {
		all.Go(func() {
			first := (s.lull + drops*drizzle) * time.Duration(i) / time.Duration(len(tenants))
			for pause := first; sleep(ctx, pause); pause = s.lull + rand.N(tokenLife/2) {
				s.storm(ctx, t.name)
			}
		})
	}
	all.Wait()
}

// storm hits all workers, and takes half of a token's life.
func (s *storms) storm(ctx context.Context, tenant string) {
	s.strike(tenant)
	for range drops {
		if !sleep(ctx, drizzle) {
			return
		}
		s.one(tenant)
	}
}

// strike sends the webhooks that come at once.
func (s *storms) strike(tenant string) {
	for _, p := range s.fleet.live() {
		p.tell(order{Tenant: tenant, Webhooks: s.burst, SpreadMS: int(spread.Milliseconds())})
	}
}

// one webhook goes to any worker.
func (s *storms) one(tenant string) {
	if live := s.fleet.live(); len(live) > 0 {
		live[rand.N(len(live))].tell(order{Tenant: tenant, Webhooks: 1})
	}
}

// sleep reports whether d went by before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
