package refresh

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// What an [Observer] is told. See the types for what each field and value means.
type (
	// Observer is told what happens in one process, for metrics and traces. Packages refresh/metrics and refresh/otel
	// have one each, [Observers] joins several.
	Observer = observe.Observer
	// Unobserved is an Observer that does nothing. Embed it, so that yours compiles when methods are added.
	Unobserved = observe.Unobserved
	// Exchange is one exchange that begins.
	Exchange = observe.Exchange
	// ExchangeEnd is how an exchange ended.
	ExchangeEnd = observe.ExchangeEnd
	// Outcome is what came of an exchange: refreshed, kept, adopted, reauthorize, throttled, app_refused, unsent,
	// ambiguous, busy or refused.
	Outcome = observe.Outcome
	// Wait is one caller's wait for a refresh.
	Wait = observe.Wait
	// Count is what Observer.Counted counts: served, takeovers, saves or rejects.
	Count = observe.Count
	// Reading is what one coordinator's counters and gauges say now.
	Reading = observe.Reading
)

// What an Observer counts; [Count.Labels] are the labels that each may have.
const (
	CountServed    = observe.Served
	CountTakeovers = observe.Takeovers
	CountSaves     = observe.Saves
	CountRejects   = observe.Rejects
)

// Outcomes are all that exchanges have.
func Outcomes() []Outcome { return observe.Outcomes() }

// Observers tells several, in this order: the ctx that one returns for an exchange is the next one's. Give one
// result to all coordinators of a process, since Observers are told apart by ==.
func Observers(all ...Observer) Observer { return observe.Observers(all...) }

// observed is what a coordinator tells its Observer.
type observed struct {
	app     *observe.App     // nil without one
	hot     *observe.Counter // tokens that memory has served; nil without one
	waiting atomic.Int64     // callers
	ended   func()
}

// observable refuses an Observer that cannot be told from others.
func observable(o Observer) error {
	if o != nil && !reflect.TypeOf(o).Comparable() {
		return errors.New("refresh: Config.Observer: give a pointer: Observers are told apart by ==")
	}
	return nil
}

// begin has an Observer told, until ended is called: about an app, and about the cache that it uses.
func (o *observed) begin(to Observer, app string, cache *tokencache.Cache, pending func() int) {
	o.ended = func() {}
	if to == nil {
		return
	}
	o.hot = new(observe.Counter)
	unwatch := cache.Watch(cacheWatcher{to})
	ended := to.Watch(func() Reading {
		return Reading{
			App: app, FromMemory: o.hot.Sum(), Waiters: int(o.waiting.Load()), PendingCommits: pending(),
			Cache: observe.CacheReading{
				ID: cache, HotGrants: cache.HotGrants(), Sessions: cache.Sessions(), Unproven: uint64(cache.UnprovenMessages()),
			},
		}
	})
	o.ended = sync.OnceFunc(func() {
		unwatch()
		ended()
	})
}

// cacheWatcher tells an Observer what a cache does. Two of one Observer are equal. That an Observer panics is
// said by [observe.App], which calls the same methods.
type cacheWatcher struct{ to Observer }

func (w cacheWatcher) Redis(op string, took time.Duration) {
	observe.Safely(func() { w.to.Redis(op, took) }, nil)
}

func (w cacheWatcher) Pushed(delay time.Duration) { observe.Safely(func() { w.to.Pushed(delay) }, nil) }

func (w cacheWatcher) Restored(app string) {
	observe.Safely(func() { w.to.Counted(app, observe.Saves, observe.Restore) }, nil)
}

// ride begins what is told of one caller's wait; nil if nobody is told.
func (o *observed) ride() *flight.Ride {
	if o.app == nil {
		return nil
	}
	o.waiting.Add(1)
	return &flight.Ride{Start: time.Now()}
}

// tell tells how a caller's wait ended; handed says that the caller gets the token.
func (o *observed) tell(ctx context.Context, ride *flight.Ride, tenant string, handed bool, s *engine.Snapshot, err error) {
	if ride == nil {
		return
	}
	o.waiting.Add(-1)
	if w, ok := ride.Wait(s, err); ok {
		w.Tenant = tenant
		var why *policy.Trouble
		if errors.As(err, &why) {
			w.Code = observe.Code(why.Code)
		}
		o.app.Waited(ctx, w)
	}
	if handed && err == nil {
		o.app.Counted(observe.Served, ride.From(s))
	}
}

// countServed tells of a token that was handed out without a wait: memory had it, coherent or not, or Redis.
func (o *observed) countServed(coherent bool, from string) {
	if coherent {
		o.hot.Add()
	} else {
		o.app.Counted(observe.Served, from)
	}
}
