package observe

import (
	"cmp"
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// App tells an Observer about one app. Nil tells nobody, and costs nothing.
type App struct {
	name string
	to   Observer
	log  zerolog.Logger
	said sync.Once // that the Observer panics
}

// New returns the App of an Observer; nil for nil.
func New(app string, to Observer, log zerolog.Logger) *App {
	if to == nil {
		return nil
	}
	return &App{name: app, to: to, log: log}
}

// Safely calls an Observer, and says if it panics; said is nil for nobody. It is somebody else's code, and may be
// called while a pair is not stored yet: its panic must not take the pair along.
func Safely(call, said func()) {
	defer func() {
		if why := recover(); why != nil && said != nil {
			said()
		}
	}()
	call()
}

func (a *App) safely(call func()) {
	Safely(call, func() {
		a.said.Do(func() { a.log.Error().Bytes("stack", debug.Stack()).Msg("Config.Observer panicked") })
	})
}

// Counted tells of something that has happened.
func (a *App) Counted(what Count, label string) {
	if a != nil {
		a.safely(func() { a.to.Counted(a.name, what, label) })
	}
}

// Redis begins an operation; the function that it returns ends it.
func (a *App) Redis(op string) (ended func()) {
	if a == nil {
		return nothing
	}
	start := time.Now()
	return func() { a.safely(func() { a.to.Redis(op, time.Since(start)) }) }
}

func nothing() {}

// Exchange tells that an exchange begins, for a caller; nil for nobody. ctx has the values for its request.
func (a *App) Exchange(caller context.Context, x Exchange) (ctx context.Context, ended func(ExchangeEnd)) {
	if a == nil {
		return nil, func(ExchangeEnd) {}
	}
	x.App, x.Start = a.name, time.Now()
	a.safely(func() { ctx, ended = a.to.Exchange(cmp.Or(caller, context.Background()), x) })
	if tell := ended; tell != nil {
		return ctx, func(end ExchangeEnd) { a.safely(func() { tell(end) }) }
	}
	return ctx, func(ExchangeEnd) {}
}

// Waited tells that a caller has waited since w.Start.
func (a *App) Waited(ctx context.Context, w Wait) {
	w.App, w.Took = a.name, time.Since(w.Start)
	a.safely(func() { a.to.Waited(ctx, w) })
}

// EndOf returns how an exchange ended that brought p or failed, and took so long.
func EndOf(p provider.Pair, failure *provider.Error, took time.Duration) ExchangeEnd {
	switch {
	case failure != nil:
		return ExchangeEnd{Outcome: outcomes[failure.Class], Code: Code(failure.Code), Status: failure.Status, Took: took, RequestID: failure.RequestID}
	case p.RefreshToken == "":
		return ExchangeEnd{Outcome: Kept, Took: took, RequestID: p.RequestID}
	}
	return ExchangeEnd{Outcome: Refreshed, Took: took, RequestID: p.RequestID}
}

var outcomes = map[provider.Class]Outcome{
	provider.Ambiguous: Ambiguous, provider.Reauthorize: Reauthorize, provider.AppRefused: AppRefused, provider.Throttled: Throttled,
	provider.Busy: Busy, provider.Unsent: Unsent, provider.Refused: Refused,
}
