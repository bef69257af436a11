package policy

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

const idleAfter = 25 * time.Hour // as Config.IdleAfter has it by default

func TestTheBudgetIsReckonedAhead(t *testing.T) {
	crowdIn := func(n int64, in time.Duration) func(time.Duration) int64 {
		return func(h time.Duration) int64 {
			if h < in {
				return 0
			}
			return n
		}
	}
	evenly := func(perSecond float64) func(time.Duration) int64 {
		return func(h time.Duration) int64 { return int64(perSecond * h.Seconds()) }
	}
	for _, c := range []struct {
		name        string
		perSecond   float64
		due         func(time.Duration) int64 // within that time
		least, most time.Duration             // to be renewed ahead
	}{
		{"nothing due", 10, evenly(0), 0, 0},
		{"it fits", 10, evenly(7), 0, 90 * time.Second},
		{"a crowd that will take 17 minutes, in ten", 10, crowdIn(10_000, 10*time.Minute), 16 * time.Minute, 21 * time.Minute},
		{"in an hour", 10, crowdIn(10_000, time.Hour), 0, 0},
		{"in 18 minutes", 10, crowdIn(10_000, 18*time.Minute), 18 * time.Minute, 21 * time.Minute},
		{"far too many", 1, crowdIn(10_000, 0), time.Hour, 2 * time.Hour},
	} {
		counts := make([]int64, len(Horizons))
		for i, h := range Horizons {
			counts[i] = c.due(h)
		}
		if got := LookAhead(counts, c.perSecond); got < c.least || got > c.most {
			t.Errorf("%s: %s, want %s to %s", c.name, got, c.least, c.most)
		}
	}
}

// 10,000 grants that were minted in one second become due together. What the budget allows
// in their hour is enough: with a look ahead all of them are renewed before they expire, and
// most of them late in their life.
func TestACrowdIsRenewedBeforeItExpiresIfTheBudgetAllowsIt(t *testing.T) {
	const grants = 10_000
	limit := BackgroundLimit(provider.Budget{Requests: 10, Per: time.Second})
	perSecond := float64(limit.Rate) / limit.Period.Seconds()
	p := Rules{IdleAfter: idleAfter}
	var due []grant.Record
	for i := range grants {
		r := grant.Record{State: grant.Active, UsedAt: 1, IssuedAt: 1, ExpiresAt: 1 + time.Hour.Milliseconds()}
		r.RefreshAt = RefreshAt(provider.Profile{}, 1, r.ExpiresAt, float64(i)/grants)
		due = append(due, r)
	}
	slices.SortFunc(due, func(a, b grant.Record) int { return cmp.Compare(a.RefreshAt, b.RefreshAt) })
	var allowed, earliest float64
	for second := range int64(3600) {
		now := second * 1000
		counts := make([]int64, len(Horizons))
		for i, h := range Horizons {
			n, _ := slices.BinarySearchFunc(due, now+h.Milliseconds(), func(r grant.Record, at int64) int { return cmp.Compare(r.RefreshAt, at) })
			counts[i] = int64(n)
		}
		p.Ahead = LookAhead(counts, perSecond)
		for allowed = min(allowed+perSecond, perSecond); allowed >= 1 && len(due) > 0; allowed-- {
			if due[0].RefreshAt > now+p.Ahead.Milliseconds() || p.Plan(View{Record: due[0], Now: now}).Do != DoExchange {
				break
			}
			if earliest == 0 {
				earliest = float64(second) / 3600
			}
			due = due[1:]
		}
	}
	if len(due) > 0 {
		t.Errorf("%d of %d grants expired in the queue", len(due), grants)
	}
	if earliest < 0.4 {
		t.Errorf("the first was renewed after %.0f %% of its life", 100*earliest)
	}
}

// The world of the next test: a clock that jumps from one thing to the next.
type world struct {
	now    int64
	rules  Rules
	grants []*simulated
	rand   *rand.Rand
	agenda agenda
}

// simulated is a grant, and what the provider knows of it.
type simulated struct {
	grant.Record
	name       string
	diesAt     int64 // the refresh token, at the provider
	consentsIn int64 // after a warning, the tenant consents again
	uses       time.Duration
	stop       int64

	exchanges, warned, expired, asked int
	lost                              bool
}

type appointment struct {
	at   int64
	call func()
}

type agenda []appointment

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at < a[j].at }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(appointment)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

func (w *world) at(t int64, call func()) { heap.Push(&w.agenda, appointment{t, call}) }

func (w *world) run(until int64) {
	for len(w.agenda) > 0 && w.agenda[0].at <= until {
		next := heap.Pop(&w.agenda).(appointment)
		w.now = max(w.now, next.at)
		next.call()
	}
}

// stored makes a new pair of the grant, as commit and Connect do.
func (w *world) stored(g *simulated) {
	p := w.rules.Profile
	g.Generation++
	g.RefreshFP = fmt.Sprintf("%s/%d", g.name, g.Generation)
	g.IssuedAt, g.ExpiresAt = w.now, w.now+time.Hour.Milliseconds()
	g.RefreshAt = RefreshAt(p, g.IssuedAt, g.ExpiresAt, w.rand.Float64())
	g.RefreshTokenExpiresAt = RefreshTokenExpiry(p, 0, w.now, g.Epoch, g.RefreshTokenExpiresAt)
	g.diesAt = int64(1) << 60
	if p.RefreshTokenIdle > 0 {
		g.diesAt = w.now + p.RefreshTokenIdle.Milliseconds()
	}
	if p.RefreshTokenLife > 0 {
		g.diesAt = min(g.diesAt, g.Epoch+p.RefreshTokenLife.Milliseconds())
	}
	gen := g.Generation
	w.at(g.RefreshAt, func() { w.look(g, gen) })
}

func (w *world) consent(g *simulated) {
	g.State, g.Epoch, g.WarnedAt, g.RefreshTokenExpiresAt = grant.Active, w.now, 0, 0
	w.stored(g)
}

func (w *world) present(g *simulated) {
	g.exchanges++
	if w.now > g.diesAt {
		g.lost = true
		return
	}
	w.stored(g)
}

// look is what Run does with a grant that its due set names.
func (w *world) look(g *simulated, gen int64) {
	if g.lost || gen != g.Generation {
		return
	}
	switch p := w.rules.Plan(View{Record: g.Record, Now: w.now}); p.Do {
	case DoExchange:
		w.present(g)
	case DoWarn:
		g.warned++
		g.WarnedAt = w.now
		w.at(w.now+g.consentsIn, func() { w.consent(g) })
		w.at(w.now+1, func() { w.look(g, gen) })
	case DoRest:
		w.at(p.Next, func() { w.look(g, gen) })
	}
}

// use is a call of Token.
func (w *world) use(g *simulated) {
	if g.lost || w.now > g.stop {
		return
	}
	g.asked++
	g.UsedAt = w.now
	if w.now >= g.ExpiresAt {
		g.expired++
		w.present(g)
	}
	w.at(w.now+g.uses.Milliseconds(), func() { w.use(g) })
}

const days = 24 * time.Hour

// 200 days with a clock that jumps, over profiles that slide and that do not.
func TestTwoHundredDaysLoseNoGrantAndCostHardlyMoreThanTheLeast(t *testing.T) {
	for name, profile := range map[string]provider.Profile{
		"slides, 30 days":               {RefreshTokenIdle: 30 * days},
		"slides, 90 days":               {RefreshTokenIdle: 90 * days},
		"slides, 1 day":                 {RefreshTokenIdle: 1 * days},
		"slides, 100 days, for a year":  {RefreshTokenIdle: 100 * days, RefreshTokenLife: 365 * days},
		"slides, 20 days, for 160 days": {RefreshTokenIdle: 20 * days, RefreshTokenLife: 160 * days},
		"fixed, 60 days":                {RefreshTokenLife: 60 * days},
		"fixed, 1 day":                  {RefreshTokenLife: 1 * days},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{rules: Rules{Profile: profile, IdleAfter: idleAfter}, rand: rand.New(rand.NewPCG(1, 2))}
			const idle = 300
			for i := range idle {
				w.add(&simulated{name: fmt.Sprint("idle", i), consentsIn: days.Milliseconds() / 20})
			}
			for i := range 10 { // asked for at noon, and every seven minutes for a week
				w.add(&simulated{name: fmt.Sprint("daily", i), uses: days, consentsIn: days.Milliseconds() / 20, stop: 1 << 60})
				w.add(&simulated{name: fmt.Sprint("busy", i), uses: 7 * time.Minute, consentsIn: days.Milliseconds() / 20, stop: (260 + 7) * days.Milliseconds()})
			}
			// Grants of all ages: they consent in the first 200 days, and the next 200 count.
			w.run(200 * days.Milliseconds())
			before := make([]int, len(w.grants))
			for i, g := range w.grants {
				before[i] = g.exchanges
			}
			w.run(400 * days.Milliseconds())
			exchanges := 0
			for i, g := range w.grants {
				if g.lost {
					t.Errorf("%s was lost after %d exchanges, at day %d", g.name, g.exchanges, w.now/days.Milliseconds())
				}
				if g.expired > 1 { // the first use of an idle one finds it so
					t.Errorf("%s found an expired token %d times of %d", g.name, g.expired, g.asked)
				}
				if i < idle {
					exchanges += g.exchanges - before[i]
				}
			}
			least := w.least(idle)
			if float64(exchanges) > 1.1*least || float64(exchanges) < 0.9*least {
				t.Errorf("%d exchanges for idle grants, the least are %.0f", exchanges, least)
			}
			t.Logf("%d exchanges for idle grants, the least are %.0f", exchanges, least)
			w.warnedInTime(t)
		})
	}
}

// add lets a grant consent at some time of the first 100 days.
func (w *world) add(g *simulated) {
	w.grants = append(w.grants, g)
	start := w.rand.Int64N(100 * days.Milliseconds())
	w.at(start, func() { w.consent(g) })
	if g.uses > 0 {
		w.at(260*days.Milliseconds()+start/100, func() { w.use(g) })
	}
}

// least is how many exchanges keep idle grants alive for 200 days if each comes at the very
// end of a refresh token's life. A consent does that too.
func (w *world) least(idle int) float64 {
	p := w.rules.Profile
	switch {
	case p.RefreshTokenIdle == 0:
		return 0
	case p.RefreshTokenLife == 0:
		return float64(idle) * float64(200*days) / float64(p.RefreshTokenIdle)
	}
	// Each consent lasts until the warning.
	cycle := float64(p.RefreshTokenLife - warnAhead)
	each := math.Ceil(cycle/float64(p.RefreshTokenIdle)) - 1
	return float64(idle) * float64(200*days) / cycle * each
}

func (w *world) warnedInTime(t *testing.T) {
	t.Helper()
	for _, g := range w.grants {
		if w.rules.Profile.RefreshTokenLife == 0 && g.warned > 0 {
			t.Errorf("%s was warned of an end that it does not have", g.name)
		}
		if life := w.rules.Profile.RefreshTokenLife; life > 0 && life < 200*days && g.warned == 0 {
			t.Errorf("%s was never warned", g.name)
		}
	}
}
