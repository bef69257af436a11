package observe

import (
	"cmp"
	"context"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// App tells an Observer about one app. Nil tells nobody, and costs nothing.
type App struct {
	name string
	to   Observer
}

// New returns the App of an Observer; nil for nil.
func New(app string, to Observer) *App {
	if to == nil {
		return nil
	}
	return &App{app, to}
}

// Counted tells of something that has happened.
func (a *App) Counted(what Count, label string) {
	if a != nil {
		a.to.Counted(a.name, what, label)
	}
}

// Redis begins an operation; the function that it returns ends it.
func (a *App) Redis(op string) (ended func()) {
	if a == nil {
		return nothing
	}
	start := time.Now()
	return func() { a.to.Redis(op, time.Since(start)) }
}

func nothing() {}

// Exchange tells that an exchange begins, for a caller; nil for nobody. ctx has the values for its request.
func (a *App) Exchange(caller context.Context, x Exchange) (ctx context.Context, ended func(ExchangeEnd)) {
	if a == nil {
		return nil, func(ExchangeEnd) {}
	}
	x.App, x.Start = a.name, time.Now()
	return a.to.Exchange(cmp.Or(caller, context.Background()), x)
}

// Waited tells that a caller has waited since w.Start.
func (a *App) Waited(ctx context.Context, w Wait) {
	w.App, w.Took = a.name, time.Since(w.Start)
	a.to.Waited(ctx, w)
}

// EndOf is how an exchange ended that brought p or failed, and took so long.
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
