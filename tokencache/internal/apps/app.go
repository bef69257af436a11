package apps

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// App is the handle of one app as a whole.
type App struct {
	all  *Apps
	name string
	by   string // signs changes
	host string // what its methods tell is about this host alone; empty for the app as a whole
}

// App returns the handle of an app, whose changes are signed with a name. It costs nothing.
func (c *Apps) App(name, by string) App { return App{all: c, name: name, by: by} }

// At returns the same handle for what is about one host, where tenants have token endpoints at hosts of their
// own: its circuit and its pause. What the other methods tell is about the app all the same.
func (app App) At(host string) App {
	app.host = hostName(host)
	return app
}

// change runs a script that changes the state of the app, or of its host: see [Place].
func change(ctx context.Context, app App, op string, s *redis.Script, args ...any) (made, status string, _ *State, err error) {
	return app.place().change(ctx, op, s, app.host, args...)
}

// place is the app's place in memory; its channel is listened to from then on.
func (app App) place() *Place { return app.all.Place(app.name) }

func (app App) keys() store.AppKeys { return app.all.names.App(app.name) }

// AppKey is the key of an app's own state, and the channel on which its changes are
// published.
func (app App) AppKey() string { return app.keys().State() }

// RateKey is the key of an app's budget of requests, and the beginning of others about it.
func (app App) RateKey() string { return app.keys().Rate() }

// PeekApp is an app's state in memory if that is coherent, see package memory; else nil.
func (app App) PeekApp() *State { return app.place().Peek() }

// AppState is an app's state: from memory if that is coherent, else from Redis in one round
// trip.
func (app App) AppState(ctx context.Context) (*State, error) { return app.place().State(ctx) }

// WatchApp makes an app's state coherent in memory.
func (app App) WatchApp(ctx context.Context) error {
	if _, err := app.all.hub.Confirm(ctx, app.place().channel); err != nil {
		return err
	}
	_, err := app.AppState(ctx)
	return err
}

// KnownApp returns what memory holds of an app, coherent or not; nil for nothing.
func (app App) KnownApp() *State {
	if a, ok := app.all.by.Load(app.name); ok {
		return a.state.Load()
	}
	return nil
}

// AppChanged returns a channel that is closed on the next news of an app, or when a place
// among its exchanges in flight becomes free. Take it before looking.
func (app App) AppChanged() <-chan struct{} {
	a := app.place()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// Renewing lets people see, until stop is called, that this process renews the app's grants.
func (app App) Renewing() (stop func()) {
	a, channel := app.place(), app.all.names.Runs()+grant.Escape(app.name)
	a.runs.Lock()
	defer a.runs.Unlock()
	if a.renew++; a.renew == 1 {
		a.all.hub.Add(channel)
	}
	return func() {
		a.runs.Lock()
		defer a.runs.Unlock()
		if a.renew--; a.renew == 0 {
			a.all.hub.Remove(channel)
		}
	}
}

// OnApp has f called for every change of an app that this process makes or hears of, for one's
// own also twice. f runs on the subscriber's goroutine among others, and must not block. stop
// ends it.
func (app App) OnApp(f func(StateChange)) (stop func()) {
	remove := app.place().told.add(f, func() {})
	return func() { remove(func() {}) }
}

// AcceptLoss notes that an operator has accepted that what Redis lost of an app is gone: a tenant
// without a grant counts as not connected again.
func (app App) AcceptLoss(ctx context.Context) error {
	_, _, _, err := change(ctx, app, "loss_accepted", store.AcceptLossScript, store.NewID(), grant.Clip(app.by))
	return err
}
