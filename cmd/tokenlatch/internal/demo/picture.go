package demo

import (
	"fmt"
	"time"
)

// frame is the picture of this moment.
func (d *demo) frame() *frame {
	waiting := d.fleet.waiting()
	t := d.fleet.soFar()
	events, _ := d.feed.since(0)
	d.mu.Lock()
	found, ending := d.found, d.ending
	d.mu.Unlock()
	f := &frame{
		heading: fmt.Sprintf("%s, %s, %s, %s", d.opt.mode(), plural(d.opt.Workers, "worker"), plural(d.opt.Tenants, "tenant"), d.backend),
		rule:    d.opt.Profile.Name + ": " + inRules(d.opt.Profile),
		elapsed: min(time.Since(d.start), d.opt.Duration), total: d.opt.Duration, ending: ending, events: events,
	}
	f.sums = sums{calls: t.calls, exchanges: found.exchanges, unauthorized: t.surfaced,
		expiries: found.expiries, repeats: found.repeats, lost: found.lost, lostResponse: found.lostResponse}
	d.grants.draw(f, waiting)
	return f
}

// draw fills in the rows and sums that the grants know.
func (g *grants) draw(f *frame, waiting map[string]int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for _, t := range g.tenants {
		n := waiting[t.name]
		state, tone := stateOf(t, now, g.killed, n)
		f.rows = append(f.rows, row{
			tenant: t.name, generation: t.seen.generation, state: state, tone: tone,
			left: t.ends().Sub(now), holder: t.seen.holder, waiting: n, exchanges: t.exchanges, kills: t.kills,
		})
		f.sums.waiting += n
	}
	f.sums.kills = len(g.kills)
	for _, k := range g.kills {
		if k.recovered {
			f.sums.recovered++
		}
	}
}
