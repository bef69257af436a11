package doctor

import (
	"errors"
	"slices"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

var apps = []Check{
	{
		ID: "apps.loss", What: "Redis has lost no app's data", Remedy: "restore the backup, or accept the loss: tokenlatch accept-loss APP",
		Wrong: "the backup is being restored", examine: state(fail, func(s *engine.AppState) (bool, int64) { return s.LostAt != 0, s.LostAt }, "data was lost", "no app's data is lost"),
	},
	{
		ID: "apps.circuit", What: "no app's circuit is open", Remedy: "check client id, secret and token URL: the provider refuses the client",
		Wrong: "a probe is about to be accepted", examine: state(fail, func(s *engine.AppState) (bool, int64) { return s.Open && s.Brake == "", s.OpenedAt }, "the circuit is open", "no circuit is open"),
	},
	{
		ID: "apps.brake", What: "no app is stopped by an answer that cannot be read", Remedy: "compare the provider's answer with provider.Profile, and deploy",
		Wrong: "a changed profile is deployed already", examine: state(fail, func(s *engine.AppState) (bool, int64) { return s.Open && s.Brake != "", s.OpenedAt }, "stopped by an answer that cannot be read", "no app is stopped"),
	},
	{
		ID: "apps.provider", What: "no provider fails for several tenants in a row", Remedy: "look at the provider's status page; no tenant is at fault",
		Wrong: "it answers again, and nobody has asked since", examine: state(warn, func(s *engine.AppState) (bool, int64) { return s.DownAt != 0, s.DownAt }, "the provider gives no usable answer", "no provider is down"),
	},
	{
		ID: "apps.deaths", What: "the provider does not call many grants dead at once", Remedy: "ask the provider; do not ask your customers yet",
		Wrong: "the provider has revoked these grants indeed", examine: state(warn, func(s *engine.AppState) (bool, int64) {
			return s.MassAt != 0 && s.Now()-s.MassAt < deathsDoubted.Milliseconds(), s.MassAt
		}, "many grants die at once", "no app's grants die at once"),
	},
	{
		ID: "apps.pause", What: "no provider wants a pause", Remedy: "wait; then look at Profile.Budget",
		Wrong: "the pause ends in a moment", examine: state(warn, func(s *engine.AppState) (bool, int64) { return s.ThrottledUntil > s.Now(), 0 }, "the provider wants a pause", "no provider wants a pause"),
	},
}

// deathsDoubted is for how long deaths are doubted after too many.
const deathsDoubted = 24 * time.Hour

// askApps finds the apps: the one that was named, or all.
func (x *exam) askApps() {
	if x.App != "" {
		x.apps = []string{x.App}
		return
	}
	for app, err := range x.Inspector.Apps(x.ctx) {
		if err != nil {
			x.whose = err
		} else if !slices.Contains(x.apps, app) {
			x.apps = append(x.apps, app)
		}
	}
	if slices.Sort(x.apps); len(x.apps) == 0 {
		x.apps = []string{noApp}
	}
}

// addApps adds those of which there are grants, and no state yet.
func (x *exam) addApps() {
	for _, row := range x.rows.rows {
		if x.App == "" && !slices.Contains(x.apps, row.App) {
			x.apps = append(slices.DeleteFunc(x.apps, func(app string) bool { return app == noApp }), row.App)
		}
	}
	slices.Sort(x.apps)
}

// noApp stands for one, where there is none yet.
const noApp = "doctor"

// troubled says of an app, or of a host, since when there is the trouble; nothing if there is none.
func troubled(name string, s *engine.AppState, is func(*engine.AppState) (bool, int64)) []string {
	switch is, since := is(s); {
	case !is:
		return nil
	case since != 0:
		at, now := grant.Time(since), grant.Time(s.Now())
		name += " since " + oncall.Clock(at, now) + " UTC (" + oncall.From(at, now) + ")"
	}
	return []string{name}
}

// state judges each app's own state. is says whether there is the trouble, and since when, in unix ms; 0 for
// nobody knows.
func state(bad func(string, ...any) verdict, is func(*engine.AppState) (bool, int64), ill, well string) func(*exam) verdict {
	return func(x *exam) verdict {
		var in []string
		known := 0
		for _, app := range x.apps {
			s, err := x.Inspector.App(x.ctx, app)
			if errors.Is(err, tokencache.ErrNone) {
				continue
			}
			if err != nil {
				return unknown(err)
			}
			known++
			in = append(in, troubled(oncall.ID(app), s, is)...)
			for _, host := range s.HostsWhere(func(*engine.AppState) bool { return true }) {
				in = append(in, troubled(oncall.ID(app)+" at "+host, s.Hosts[host], is)...)
			}
		}
		switch {
		case len(in) > 0:
			return bad("%s: %s", ill, some(in))
		case known == 0:
			return skip("no app has a state of its own yet")
		}
		return ok("%s", well)
	}
}
