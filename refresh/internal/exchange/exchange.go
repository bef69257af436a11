// Package exchange makes one request to the provider, which nobody's ctx ends, and says how long its answer
// is listened to.
package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Limits of one exchange.
type Limits struct {
	Send   time.Duration // the request leaves within that, and the answer comes too, unless
	Listen time.Duration // it is listened to for longer once the request has left; 0 for no longer
	Late   func() bool   // the request must not leave any more, by another clock; may be nil
	// HangUp says, when the time to send is over, that it need not be listened to for longer: presenting
	// again does no harm for now. Nil: it does.
	HangUp func() bool
	Values context.Context // the exchange has these; nil for none
}

// lifetime is the ctx of one exchange: it ends with the limit of the request, and later if that
// has left in time.
type lifetime struct {
	context.Context // for its values
	Limits

	start time.Time
	done  chan struct{}

	mu           sync.Mutex // guards what follows
	timer        *time.Timer
	sent, spared bool
	listens      bool  // it has left, and is listened to for longer
	err          error // with which it has ended
}

func newLifetime(l Limits) *lifetime {
	x := &lifetime{Limits: l, start: time.Now(), done: make(chan struct{})}
	x.Context = provider.WithSending(context.WithoutCancel(cmp.Or(l.Values, context.Background())), x.sending)
	x.mu.Lock() // the timer may fire before it is noted
	defer x.mu.Unlock()
	x.timer = time.AfterFunc(l.Send, x.Timeout)
	return x
}

// sending reports whether the request may still leave. It is the clock that says so: in a process
// that was stopped the timer may not have fired yet.
func (x *lifetime) sending() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil || time.Since(x.start) >= x.Send || x.Late != nil && x.Late() {
		return false
	}
	if !x.sent && x.Listen > x.Send && x.HangUp == nil && x.timer.Stop() {
		x.listenOn()
	}
	x.sent = true
	return true
}

// listenOn is called with mu held, and the timer stopped.
func (x *lifetime) listenOn() {
	x.listens = true
	x.timer.Reset(x.Listen - time.Since(x.start))
}

// Listening reports whether the request has left, and the answer is listened to for longer.
func (x *lifetime) Listening() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.listens && x.err == nil
}

// Timeout ends the ctx, but not at once in a process that was stopped for long: an answer that came
// meanwhile may lie in the socket, and a goroutine that waits for both would take either.
func (x *lifetime) Timeout() {
	x.mu.Lock()
	on := true
	switch {
	case x.sent && !x.listens && x.Listen > x.Send && !(x.HangUp != nil && x.HangUp()):
		x.listenOn() // it was stopped, and another presentation would come too late to be harmless
	case x.listens && !x.spared && time.Since(x.start) > x.Listen+time.Second:
		x.spared = true
		x.timer.Reset(time.Second)
	default:
		on = false
	}
	x.mu.Unlock()
	if !on {
		x.End(context.DeadlineExceeded)
	}
}

func (x *lifetime) End(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.timer.Stop()
	if x.err == nil {
		x.err = err
		close(x.done)
	}
}

func (x *lifetime) Deadline() (time.Time, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.listens {
		return x.start.Add(x.Listen), true
	}
	return x.start.Add(x.Send), true
}

func (x *lifetime) Done() <-chan struct{} { return x.done }

func (x *lifetime) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

// Exchange is one exchange under way.
type Exchange struct {
	*lifetime
	Answered chan struct{} // closed when what follows is set
	Pair     provider.Pair
	Failure  *provider.Error
	Took     time.Duration
}

// Left returns how long it may still take, and be listened to, from now.
func (x *Exchange) Left() time.Duration { return x.Listen - time.Since(x.start) }

// Slow reports whether it has taken longer than its request may.
func (x *Exchange) Slow() bool { return time.Since(x.start) >= x.Send }

// Maker makes the exchanges of one app.
type Maker struct {
	Provider provider.Provider
	Log      zerolog.Logger

	fallback atomic.Bool // the provider's Fallback is the one that is accepted
}

// Prepare returns what presents a grant's credentials, once: run does, on a goroutine of its own, since an
// Exchanger of one's own may ignore its ctx.
func (m *Maker) Prepare(l Limits, g provider.Grant) (x *Exchange, run func()) {
	x = &Exchange{lifetime: newLifetime(l), Answered: make(chan struct{})}
	x.Failure = &provider.Error{Class: provider.Ambiguous, Code: "panic", Err: errPanic} // unless it returns
	return x, func() {
		defer close(x.Answered)
		defer x.End(context.Canceled)
		x.Pair, x.Failure = m.do(x.lifetime, g)
		x.Took = time.Since(x.start)
	}
}

// do makes the exchange, and says in the log what came of it.
func (m *Maker) do(ctx context.Context, g provider.Grant) (provider.Pair, *provider.Error) {
	start := time.Now()
	pair, err := m.present(ctx, g)
	tell := func(level *zerolog.Event) *zerolog.Event {
		return level.Str("tenant", g.Tenant).Int64("generation", g.Generation).Dur("took_ms", time.Since(start))
	}
	if err != nil {
		var failure *provider.Error
		if !errors.As(err, &failure) {
			failure = &provider.Error{Class: provider.Ambiguous, Err: err}
		}
		tell(m.Log.Warn()).Str("class", failure.Class.String()).Str("code", failure.Code).Int("status", failure.Status).Msg("exchange failed")
		return pair, failure
	}
	if pair.AccessToken == "" {
		return pair, &provider.Error{Class: provider.Ambiguous, Code: "no_access_token"}
	}
	tell(m.Log.Debug()).Msg("exchange succeeded")
	return pair, nil
}

// present makes the request. While a client secret is being rotated, the other one is tried
// when the first is refused: that has not spent the refresh token.
func (m *Maker) present(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	now, other := m.Provider.Exchanger, m.Provider.Fallback
	swapped := m.fallback.Load()
	if swapped {
		now, other = other, now
	}
	pair, err := m.ask(ctx, now, g)
	var refused *provider.Error
	if other == nil || !errors.As(err, &refused) || refused.Class != provider.AppRefused {
		return pair, err
	}
	pair, err = m.ask(ctx, other, g)
	if !errors.As(err, &refused) || refused.Class != provider.AppRefused {
		m.fallback.Store(!swapped) // it is the one that is accepted
	}
	return pair, err
}

// ask calls an Exchanger. One that panics may have sent the request.
func (m *Maker) ask(ctx context.Context, e provider.Exchanger, g provider.Grant) (pair provider.Pair, err error) {
	defer func() {
		if why := recover(); why != nil {
			// What it panicked with may quote a token.
			m.Log.Error().Str("tenant", g.Tenant).Str("panic", fmt.Sprintf("%T", why)).Bytes("stack", debug.Stack()).Msg("the Exchanger panicked")
			pair, err = provider.Pair{}, &provider.Error{Class: provider.Ambiguous, Code: "panic", Err: errPanic}
		}
	}()
	pair, err = e.Exchange(ctx, g)
	var refused *provider.Error
	if errors.As(err, &refused) && refused.AskAgain() { // once: it knows now what was missing
		pair, err = e.Exchange(ctx, g)
	}
	return pair, err
}

var (
	errPanic = errors.New("the Exchanger panicked; the log has the stack")
	// ErrHangs is why an exchange is given up whose Exchanger does not return.
	ErrHangs = errors.New("the Exchanger does not return, though its ctx has ended; should it bring a pair, that is stored")
	// ErrSlow is why callers are sent away.
	ErrSlow = errors.New("the provider takes its time; its answer is still waited for")
)
