package refresh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-redis/redis_rate/v10"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// pacer lets exchanges through as the app's budget allows, over all processes. Without a
// budget it costs nothing. In this process those for whom somebody waits go first; in
// the fleet a quarter of the budget is theirs alone.
type pacer struct {
	budget provider.Budget
	app    string
	ttl    time.Duration // after which an exchange has ended for sure
	cache  *tokencache.Cache
	rate   *redis_rate.Limiter

	mu    sync.Mutex // guards the queue
	queue []*ticket
}

// ticket is one place in the queue.
type ticket struct {
	urgent func() bool
	id     string
	paid   bool          // the budget of background exchanges has been asked
	turn   chan struct{} // has room for one: it is the first now
}

func newPacer(cfg Config) *pacer {
	return &pacer{
		budget: cfg.Provider.Profile.Budget, app: cfg.App, ttl: cfg.ClaimTimeout, cache: cfg.Cache,
		rate: redis_rate.NewLimiter(cfg.Cache.Redis()),
	}
}

// The limits stay below the budget: exchanges that were let through evenly can still reach
// the provider in bunches.
func rateLimit(b provider.Budget) redis_rate.Limit {
	return redis_rate.Limit{Rate: max(1, b.Requests*8/10), Burst: max(1, b.Requests/10), Period: b.Per}
}

// backgroundLimit is what exchanges nobody waits for may use of it.
func backgroundLimit(b provider.Budget) redis_rate.Limit {
	l := rateLimit(b)
	l.Rate = max(1, l.Rate*3/4)
	return l
}

// crowd is how many of the exchanges in flight may be such that nobody waits for.
func crowd(b provider.Budget) int { return max(1, b.Concurrency*3/4) }

var errBudget = errors.New("the app's budget of requests to the provider is used up for the moment")

// enter waits until the budget allows one exchange. The caller calls leave when that has
// ended. The error is the cause of ctx, or Redis'.
func (p *pacer) enter(ctx context.Context, urgent func() bool) (leave func(), err error) {
	if p.budget == (provider.Budget{}) {
		return func() {}, nil
	}
	t := &ticket{urgent: urgent, id: tokencache.NewID(), turn: make(chan struct{}, 1)}
	p.change(func() { p.queue = append(p.queue, t) })
	defer p.change(func() { p.queue = slices.DeleteFunc(p.queue, func(o *ticket) bool { return o == t }) })
	for {
		if p.first() != t {
			pause(ctx, tick, t.turn) // one that has become urgent tells nobody
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue
		}
		freed := p.cache.AppChanged(p.app) // before asking, so that nothing falls in between
		wait, err := p.ask(ctx, t)
		if err != nil {
			return nil, err
		}
		if wait == 0 {
			return func() { p.leave(t.id) }, nil
		}
		pause(ctx, min(wait, tick), freed)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// change changes the queue, and tells who is the first then.
func (p *pacer) change(f func()) {
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

func (p *pacer) first() *ticket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.head()
}

// head is whose turn it is: the first that is urgent, else the first. Called with mu held.
func (p *pacer) head() *ticket {
	for _, t := range p.queue {
		if t.urgent() {
			return t
		}
	}
	return p.queue[0]
}

// ask asks Redis for the right to one exchange now: 0, or when to ask again.
func (p *pacer) ask(ctx context.Context, t *ticket) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	key := p.cache.AppKey(p.app)
	if p.budget.Requests > 0 && !t.urgent() && !t.paid {
		if wait, err := p.allow(ctx, key+":background", backgroundLimit(p.budget)); wait > 0 || err != nil {
			return wait, err
		}
		t.paid = true
	}
	if p.budget.Concurrency > 0 {
		most := p.budget.Concurrency
		if !t.urgent() {
			most = crowd(p.budget)
		}
		ok, wait, err := p.cache.Enter(ctx, p.app, t.id, most, p.ttl)
		if err != nil || !ok {
			return max(wait, slack), err
		}
	}
	if p.budget.Requests > 0 {
		wait, err := p.allow(ctx, key, rateLimit(p.budget))
		if wait > 0 || err != nil {
			p.leave(t.id)
			return wait, err
		}
	}
	return 0, nil
}

func (p *pacer) allow(ctx context.Context, key string, l redis_rate.Limit) (wait time.Duration, err error) {
	r, err := p.rate.Allow(ctx, key, l)
	if err != nil || r.Allowed > 0 {
		return 0, err
	}
	return max(r.RetryAfter, time.Millisecond), nil
}

// leave gives a place among the exchanges in flight back. One that is not given back ends by
// itself.
func (p *pacer) leave(id string) {
	if p.budget.Concurrency == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	_ = p.cache.Leave(ctx, p.app, id, crowd(p.budget))
}

// perSecond is how many exchanges nobody waits for the budget allows; 0 for no limit.
func (p *pacer) perSecond() float64 {
	if p.budget.Requests == 0 {
		return 0
	}
	l := backgroundLimit(p.budget)
	return float64(l.Rate) / l.Period.Seconds()
}
