package economy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Pacer lets exchanges through as the app's budget allows, over all processes, and after a pause
// as its ramp does. Without a budget it costs nothing. In this process those for whom somebody
// waits go first; in the fleet a quarter of the budget is theirs alone.
//
// A place among the exchanges in flight is taken under the grant's lease, never before: two that wait
// for what the other has would wait for ever. An exchange that nobody waits for does not wait for a place
// either: without one it gives the lease back, and tries again when one becomes free.
type Pacer struct {
	budget provider.Budget
	app    engine.App
	rdb    redis.UniversalClient
	ttl    time.Duration // after which an exchange has ended for sure
	rate   *redis_rate.Limiter
	asker  *asker
	closed context.Context

	gate chan struct{} // has room for the background exchanges that try for lease and place just now

	mu    sync.Mutex // guards what follows
	queue []*Ticket
	alone alone
	full  time.Time       // until then there is no place for a background exchange
	freed <-chan struct{} // or until this is closed
}

// trying is how many background exchanges of a process try for a place at once.
const trying = 4

// Ticket is one place in the queue.
type Ticket struct {
	urgent func() bool
	id     string
	paid   bool          // the budget of background exchanges has been asked
	alone  bool          // let through while Redis did not answer
	place  bool          // it has one among the exchanges in flight
	ramp   bool          // which it keeps for a step of the ramp
	since  time.Time     // it was let through
	turn   chan struct{} // has room for one: it is the first now
	gated  *atomic.Bool  // it is among those that try for a place; of a background exchange
}

// NewTicket returns a ticket for an exchange for which somebody waits once urgent says so.
func NewTicket(urgent func() bool) *Ticket {
	return &Ticket{urgent: urgent, id: engine.NewID(), turn: make(chan struct{}, 1), gated: new(atomic.Bool)}
}

func newPacer(cfg Config, a *asker) *Pacer {
	return &Pacer{
		budget: cfg.Profile.Budget, app: cfg.App, ttl: cfg.ClaimTimeout,
		rdb: cfg.Redis, rate: redis_rate.NewLimiter(underPrefix{cfg.Redis}), asker: a, closed: cfg.Waiting,
		gate: make(chan struct{}, trying),
	}
}

var (
	errBudget = errors.New("the app's budget of requests to the provider is used up for the moment")
	// ErrNoPlace is errBudget for an exchange that nobody waits for.
	ErrNoPlace = errors.New("the app's budget has no room for an exchange that nobody waits for just now")
)

// enter waits until the budget allows one exchange. The caller calls leave when that has
// ended. The error is the cause of ctx.
func (p *Pacer) enter(ctx context.Context, urgent func() bool) (leave func(), err error) {
	if p.unlimited() {
		return func() {}, nil
	}
	t := NewTicket(urgent)
	p.change(func() { p.queue = append(p.queue, t) })
	defer p.change(func() { p.queue = slices.DeleteFunc(p.queue, func(o *Ticket) bool { return o == t }) })
	for {
		if p.first() != t {
			work.Pause(ctx, policy.LookAgain, t.turn) // one that has become urgent tells nobody
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue
		}
		freed := p.app.AppChanged()         // before asking, so that nothing falls in between
		asked, wait := *t, time.Duration(0) // a copy: Redis may answer when nobody listens any more
		got, err := economize(p.asker, func(ctx context.Context) (answer, error) { return p.ask(ctx, asked) })
		switch {
		case errors.Is(err, work.ErrClosed):
			return nil, err
		case err != nil:
			wait = p.askAlone(t)
		default:
			wait = got.wait
			t.paid, t.place, t.ramp = got.paid, got.place, got.ramp
		}
		if wait == 0 {
			t.since = time.Now()
			return func() { p.leave(t) }, nil
		}
		work.Pause(ctx, min(wait, policy.LookAgain), freed)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// Waits reports whether exchanges of this process wait for the budget.
func (p *Pacer) Waits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) > 0
}

func (p *Pacer) unlimited() bool { return p.budget == (provider.Budget{}) && p.ramp() == 0 }

// StandBy waits until an exchange that nobody waits for may try for its lease and its place. What it
// has then is no more than the right to try, which ends with EndTry.
func (p *Pacer) StandBy(ctx context.Context, t *Ticket) error {
	if p.unlimited() {
		return nil
	}
	for p.budget.Requests > 0 && !t.paid {
		wait, err := economize(p.asker, func(ctx context.Context) (time.Duration, error) {
			return p.allow(ctx, p.app.RateKey()+":background", policy.BackgroundLimit(p.budget))
		})
		if errors.Is(err, work.ErrClosed) {
			return err
		}
		if t.paid = err != nil || wait == 0; !t.paid { // without Redis a process has a budget of its own
			work.Pause(ctx, min(wait, policy.LookAgain), nil)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	select {
	case p.gate <- struct{}{}:
		t.gated.Store(true)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for ctx.Err() == nil {
		p.mu.Lock()
		left, freed := time.Until(p.full), p.freed
		p.mu.Unlock()
		if left <= 0 {
			return nil
		}
		work.Pause(ctx, left, freed)
		select {
		case <-freed:
			work.Pause(ctx, policy.Slack, nil) // an exchange that somebody waits for goes first
			p.noteFull(0, nil)
		default:
		}
	}
	p.EndTry(t)
	return context.Cause(ctx)
}

// EndTry ends the right to try.
func (p *Pacer) EndTry(t *Ticket) {
	if t.gated.CompareAndSwap(true, false) {
		<-p.gate
	}
}

// noteFull notes for how long there is no place for a background exchange, unless one becomes free.
func (p *Pacer) noteFull(d time.Duration, freed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full, p.freed = time.Now().Add(d), freed
}

// enterNow is enter, under the lease, for an exchange that nobody waits for and that has stood by. The
// error is ErrNoPlace, or work.ErrClosed.
func (p *Pacer) enterNow(t *Ticket) (leave func(), err error) {
	defer p.EndTry(t)
	if p.unlimited() {
		return func() {}, nil
	}
	if p.somebodyWaits() {
		p.noteFull(5*policy.Slack, nil)
		return nil, ErrNoPlace
	}
	freed := p.app.AppChanged() // before asking, so that nothing falls in between
	asked := *t                 // a copy: Redis may answer when nobody listens any more
	got, err := economize(p.asker, func(ctx context.Context) (answer, error) { return p.ask(ctx, asked) })
	wait := got.wait
	switch {
	case errors.Is(err, work.ErrClosed):
		return nil, err
	case err != nil:
		wait = p.askAlone(t)
	default:
		t.paid, t.place, t.ramp = got.paid, got.place, got.ramp
	}
	if wait > 0 {
		p.noteFull(min(wait, policy.LookAgain), freed)
		return nil, ErrNoPlace
	}
	t.since = time.Now()
	return func() { p.leave(t) }, nil
}

// somebodyWaits reports whether an exchange of this process that somebody waits for has no place yet.
func (p *Pacer) somebodyWaits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.queue, func(t *Ticket) bool { return t.urgent() })
}

// change changes the queue, and tells who is the first then.
func (p *Pacer) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	if len(p.queue) > 0 {
		select {
		case p.head().turn <- struct{}{}:
		default:
		}
	}
}

func (p *Pacer) first() *Ticket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.head()
}

// head is whose turn it is: the first that is urgent, else the first. Called with mu held.
func (p *Pacer) head() *Ticket {
	for _, t := range p.queue {
		if t.urgent() {
			return t
		}
	}
	return p.queue[0]
}

// ramp returns how many exchanges there may be at once after a pause; 0 for no limit.
func (p *Pacer) ramp() int {
	if s := p.app.KnownApp(); s != nil {
		return int(s.Ramp)
	}
	return 0
}

// places returns how many exchanges there may be at once for a ticket; 0 for no limit.
func (p *Pacer) places(t *Ticket) int {
	most := p.budget.Concurrency
	if most > 0 && !t.urgent() {
		most = policy.Crowd(p.budget)
	}
	ramp := p.ramp()
	if t.ramp = ramp > 0; t.ramp && (most == 0 || ramp < most) {
		return ramp
	}
	return most
}

// answer is what Redis says to a ticket: 0, or when to ask again.
type answer struct {
	wait              time.Duration
	paid, place, ramp bool
}

// ask asks Redis for the right to one exchange now.
func (p *Pacer) ask(ctx context.Context, t Ticket) (answer, error) {
	wait, err := p.askFor(ctx, &t)
	return answer{wait, t.paid, t.place, t.ramp}, err
}

func (p *Pacer) askFor(ctx context.Context, t *Ticket) (wait time.Duration, err error) {
	key := p.app.RateKey()
	if p.budget.Requests > 0 && !t.urgent() && !t.paid {
		if wait, err := p.allow(ctx, key+":background", policy.BackgroundLimit(p.budget)); wait > 0 || err != nil {
			return wait, err
		}
		t.paid = true
	}
	if most := p.places(t); most > 0 {
		ok, wait, err := p.app.Enter(ctx, t.id, most, p.ttl)
		if err != nil || !ok {
			return max(wait, policy.Slack), err
		}
		t.place = true
	}
	if p.budget.Requests > 0 {
		wait, err := p.allow(ctx, key, policy.RateLimit(p.budget))
		if wait > 0 || err != nil {
			_ = p.giveBack(ctx, t) // else it ends by itself
			return wait, err
		}
	}
	return 0, nil
}

// alone is what this process lets through while Redis does not answer for the budget: a
// tenth of it.
type alone struct {
	next     time.Time
	inFlight int
}

// askAlone is ask without Redis.
func (p *Pacer) askAlone(t *Ticket) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if most := p.places(t); most > 0 && p.alone.inFlight >= max(1, most/10) {
		return policy.Slack
	}
	now := time.Now()
	if p.budget.Requests > 0 {
		if wait := p.alone.next.Sub(now); wait > 0 {
			return wait
		}
		p.alone.next = now.Add(10 * p.budget.Per / time.Duration(p.budget.Requests))
	}
	p.alone.inFlight++
	t.alone = true
	return 0
}

func (p *Pacer) allow(ctx context.Context, key string, l policy.Limit) (wait time.Duration, err error) {
	r, err := p.rate.Allow(ctx, key, redis_rate.Limit(l))
	if err == nil && r.RetryAfter > 2*l.Period+policy.LookAgain { // no burst is so long: Redis' clock was set back
		if err = p.rdb.Del(ctx, key).Err(); err == nil {
			r, err = p.rate.Allow(ctx, key, redis_rate.Limit(l))
		}
	}
	if err != nil || r.Allowed > 0 {
		return 0, err
	}
	return max(r.RetryAfter, time.Millisecond), nil
}

// leave gives a place among the exchanges in flight back, which nobody waits for. One that is
// not given back ends by itself.
func (p *Pacer) leave(t *Ticket) {
	if t.alone {
		p.change(func() { p.alone.inFlight-- })
		return
	}
	if !t.place {
		return
	}
	rest := time.Duration(0)
	if t.ramp { // else a provider that answers at once would have the whole crowd
		rest = engine.RampStep - time.Since(t.since)
	}
	given := *t // a renewal may take its next place before this one is given back
	t.place, t.id = false, engine.NewID()
	p.asker.later(p.closed, rest, func(ctx context.Context) error { return p.giveBack(ctx, &given) })
}

func (p *Pacer) giveBack(ctx context.Context, t *Ticket) error {
	if !t.place {
		return nil
	}
	t.place = false
	full := policy.Crowd(p.budget)
	if t.ramp {
		full = 1 // whatever the ramp was: somebody may wait
	}
	return p.app.Leave(ctx, t.id, full)
}
