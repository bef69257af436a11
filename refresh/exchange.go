package refresh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// limits of one exchange.
type limits struct {
	send   time.Duration // the request leaves within that, and the answer comes too, unless
	listen time.Duration // it is listened to for longer once the request has left; 0 for no longer
	late   func() bool   // the request must not leave any more, by another clock; may be nil
	// hangUp says, when the time to send is over, that it need not be listened to for longer: presenting
	// again does no harm for now. Nil: it does.
	hangUp func() bool
}

// exchangeCtx is the ctx of one exchange: it ends with the limit of the request, and later if that
// has left in time.
type exchangeCtx struct {
	context.Context // for its values
	limits

	start time.Time
	done  chan struct{}

	mu           sync.Mutex // guards what follows
	timer        *time.Timer
	sent, spared bool
	listens      bool  // it has left, and is listened to for longer
	err          error // with which it has ended
}

func newExchangeCtx(l limits) *exchangeCtx {
	x := &exchangeCtx{limits: l, start: time.Now(), done: make(chan struct{})}
	x.Context = provider.WithSending(context.Background(), x.sending)
	x.mu.Lock() // the timer may fire before it is noted
	defer x.mu.Unlock()
	x.timer = time.AfterFunc(l.send, x.timeout)
	return x
}

// sending reports whether the request may still leave. It is the clock that says so: in a process
// that was stopped the timer may not have fired yet.
func (x *exchangeCtx) sending() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil || time.Since(x.start) >= x.send || x.late != nil && x.late() {
		return false
	}
	if !x.sent && x.listen > x.send && x.hangUp == nil && x.timer.Stop() {
		x.listenOn()
	}
	x.sent = true
	return true
}

// listenOn is called with mu held, and the timer stopped.
func (x *exchangeCtx) listenOn() {
	x.listens = true
	x.timer.Reset(x.listen - time.Since(x.start))
}

// listening reports whether the request has left, and the answer is listened to for longer.
func (x *exchangeCtx) listening() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.listens && x.err == nil
}

// timeout ends the ctx, but not at once in a process that was stopped for long: an answer that came
// meanwhile may lie in the socket, and a goroutine that waits for both would take either.
func (x *exchangeCtx) timeout() {
	x.mu.Lock()
	on := true
	switch {
	case x.sent && !x.listens && x.listen > x.send && !(x.hangUp != nil && x.hangUp()):
		x.listenOn() // it was stopped, and another presentation would come too late to be harmless
	case x.listens && !x.spared && time.Since(x.start) > x.listen+time.Second:
		x.spared = true
		x.timer.Reset(time.Second)
	default:
		on = false
	}
	x.mu.Unlock()
	if !on {
		x.end(context.DeadlineExceeded)
	}
}

func (x *exchangeCtx) end(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.timer.Stop()
	if x.err == nil {
		x.err = err
		close(x.done)
	}
}

func (x *exchangeCtx) Deadline() (time.Time, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.listens {
		return x.start.Add(x.listen), true
	}
	return x.start.Add(x.send), true
}

func (x *exchangeCtx) Done() <-chan struct{} { return x.done }

func (x *exchangeCtx) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

// exchanging is one exchange under way.
type exchanging struct {
	*exchangeCtx
	answered chan struct{} // closed when what follows is set
	pair     provider.Pair
	failure  *provider.Error
	took     time.Duration
}

// exchange is what presents a grant's credentials, once: run does, on a goroutine of its own, since an
// Exchanger of one's own may ignore its ctx.
func (c *Coordinator) exchange(l limits, g provider.Grant) (x *exchanging, run func()) {
	x = &exchanging{exchangeCtx: newExchangeCtx(l), answered: make(chan struct{})}
	x.failure = &provider.Error{Class: provider.Ambiguous, Code: "panic", Err: errPanic} // unless it returns
	return x, func() {
		defer close(x.answered)
		defer x.end(context.Canceled)
		x.pair, x.failure = c.makeExchange(x.exchangeCtx, g)
		c.tally.note(g.Tenant, x.failure)
		x.took = time.Since(x.start)
	}
}

// makeExchange makes the exchange, and says in the log what came of it.
func (c *Coordinator) makeExchange(ctx context.Context, g provider.Grant) (provider.Pair, *provider.Error) {
	start := time.Now()
	pair, err := c.present(ctx, g)
	tell := func(level *zerolog.Event) *zerolog.Event {
		return level.Str("tenant", g.Tenant).Int64("generation", g.Generation).Dur("took_ms", time.Since(start))
	}
	if err != nil {
		var failure *provider.Error
		if !errors.As(err, &failure) {
			failure = &provider.Error{Class: provider.Ambiguous, Err: err}
		}
		tell(c.log.Warn()).Str("class", failure.Class.String()).Str("code", failure.Code).Int("status", failure.Status).Msg("exchange failed")
		return pair, failure
	}
	if pair.AccessToken == "" {
		return pair, &provider.Error{Class: provider.Ambiguous, Code: "no_access_token"}
	}
	tell(c.log.Info()).Msg("exchange succeeded")
	return pair, nil
}

// present makes the request. While a client secret is being rotated, the other one is tried
// when the first is refused: that has not spent the refresh token.
func (c *Coordinator) present(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	now, other := c.cfg.Provider.Exchanger, c.cfg.Provider.Fallback
	swapped := c.fallback.Load()
	if swapped {
		now, other = other, now
	}
	pair, err := c.ask(ctx, now, g)
	var refused *provider.Error
	if other == nil || !errors.As(err, &refused) || refused.Class != provider.AppRefused {
		return pair, err
	}
	pair, err = c.ask(ctx, other, g)
	if !errors.As(err, &refused) || refused.Class != provider.AppRefused {
		c.fallback.Store(!swapped) // it is the one that is accepted
	}
	return pair, err
}

// ask calls an Exchanger. One that panics may have sent the request.
func (c *Coordinator) ask(ctx context.Context, e provider.Exchanger, g provider.Grant) (pair provider.Pair, err error) {
	defer func() {
		if why := recover(); why != nil {
			// What it panicked with may quote a token.
			c.log.Error().Str("tenant", g.Tenant).Str("panic", fmt.Sprintf("%T", why)).Bytes("stack", debug.Stack()).Msg("the Exchanger panicked")
			pair, err = provider.Pair{}, &provider.Error{Class: provider.Ambiguous, Code: "panic", Err: errPanic}
		}
	}()
	return e.Exchange(ctx, g)
}

var (
	errPanic = errors.New("the Exchanger panicked; the log has the stack")
	errHangs = errors.New("the Exchanger does not return, though its ctx has ended; should it bring a pair, that is stored")
	errSlow  = errors.New("redis does not answer in time")

	errSlowExchange = errors.New("the provider takes its time; its answer is still waited for")
)

// toStorableExtra are an answer's further members as they can be stored. An Exchanger of one's own may
// bring what is no JSON, or refresh tokens: those members are left out, the pair is kept.
func toStorableExtra(members map[string]any) (kept map[string]any, dropped int) {
	if len(members) == 0 {
		return nil, 0
	}
	if kept, err := toStorable(members); err == nil {
		return kept, 0
	}
	kept, size := make(map[string]any), 0
	for name, value := range members {
		text, err := jsonOf(value)
		one, err2 := toStorable(map[string]any{name: value})
		if size += len(text); err != nil || err2 != nil || size > maxExtra {
			dropped++
			continue
		}
		maps.Copy(kept, one)
	}
	return kept, dropped
}

// maxExtra bounds the further members of an answer, in bytes of JSON: what is sealed must open again.
const maxExtra = 4 << 20

// jsonOf is json.Marshal of what somebody else has made.
func jsonOf(v any) (text []byte, err error) {
	defer func() {
		if recover() != nil {
			text, err = nil, errNoJSON
		}
	}()
	if text, err = json.Marshal(v); err != nil || len(text) > maxExtra {
		return nil, errNoJSON
	}
	return text, nil
}

var errNoJSON = errors.New("the members cannot be written as JSON of 4 MiB at most: give strings, numbers, booleans, lists and maps")
