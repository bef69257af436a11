package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

func newApps(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "apps [flags]", Short: "a line per app: grants, what is late, what fails, and its circuit",
		Long: `A line per app.

  GRANTS   how many there are
  IN USE   somebody asked for their token in the last 25 hours
  LATE     renewals that are overdue by more than a minute: no process runs Run,
           or those that do cannot keep up
  /MIN     grants that an exchange was made for in the last minute
  FAILED   grants whose last exchange failed
  DEAD     grants whose tenant must consent again
  STATE    ok; or data_lost, circuit_open, braked, mass_death, paused, ramping;
           host_circuit_open, host_paused: only the tenants of one host wait`,
		Example: `tokenlatch apps
tokenlatch apps --json | jq '.[] | select(.state != "ok")'`,
		Args: named(),
		RunE: func(cmd *cobra.Command, _ []string) error { return g.apps(cmd) },
	}
}

func (g *globals) apps(cmd *cobra.Command) error {
	s, err := g.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	p := g.progress()
	o := g.items(clearing{p, g.stdout})
	apps, err := g.countApps(cmd.Context(), s, p)
	for _, name := range slices.Sorted(maps.Keys(apps)) {
		err = cmp.Or(err, judge(cmd.Context(), s, apps[name]))
	}
	p.end()
	return g.showApps(s, o, apps, g.failed(s, err))
}

// showApps prints what is known, and gives err back.
func (g *globals) showApps(s *session, o *items, apps map[string]*oncall.App, err error) error {
	t := g.table(o, 7, "APP", "GRANTS", "IN USE", "LATE", "/MIN", "FAILED", "DEAD", "STATE")
	for _, name := range slices.Sorted(maps.Keys(apps)) {
		var failed error
		if g.asJSON() {
			failed = o.add(apps[name])
		} else {
			failed = t.Add(appRow(apps[name]))
		}
		if failed != nil {
			return failed
		}
	}
	if g.asJSON() {
		return o.end(err)
	}
	if failed := cmp.Or(t.Begin(), o.w.Flush()); failed != nil || err != nil {
		return cmp.Or(err, failed)
	}
	if len(apps) == 0 {
		g.talk("no apps (%s). Another --prefix?", g.place(s))
	} else {
		g.talk("`tokenlatch ls --trouble` lists the grants in trouble")
	}
	return nil
}

// countApps counts the grants by app. The error is the first; what was read is counted.
func (g *globals) countApps(ctx context.Context, s *session, p *progress) (apps map[string]*oncall.App, first error) {
	apps = map[string]*oncall.App{}
	of := func(name string) *oncall.App {
		if apps[name] == nil {
			apps[name] = &oncall.App{App: name}
		}
		return apps[name]
	}
	seen := int64(0)
	for row, err := range s.List(ctx, "") {
		if first = cmp.Or(first, err); err == nil {
			seen++
			p.tick(seen)
			count(of(row.App), &row)
		}
	}
	for name, err := range s.Apps(ctx) {
		if first = cmp.Or(first, err); err == nil {
			of(name)
		}
	}
	return apps, first
}

// inUseFor is how long after its token was asked for a grant is in use: the default of
// refresh.Config.IdleAfter.
const inUseFor = 25 * time.Hour

func count(a *oncall.App, row *inspect.Row) {
	r := &row.Record
	a.Grants++
	switch {
	case errors.Is(row.Err, tokencache.ErrDamaged):
		a.Damaged++
		return
	case row.Err != nil: // a later version's
		return
	}
	within := func(at int64, d time.Duration) bool { return at != 0 && row.Now-at < d.Milliseconds() }
	if r.State == grant.Active && within(r.UsedAt, inUseFor) {
		a.InUse++
	}
	if r.IssuedAt != r.Epoch && within(r.IssuedAt, time.Minute) || within(r.ErrorAt, time.Minute) {
		a.PerMinute++
	}
	switch {
	case r.State == grant.Reauthorize:
		a.Reauthorize++
	case r.Fails > 0:
		a.Failed++
	}
}

// judge fills in what Redis has of the app as a whole.
func judge(ctx context.Context, s *session, a *oncall.App) error {
	state, err := s.App(ctx, a.App)
	if err != nil && !errors.Is(err, tokencache.ErrNone) {
		a.State, a.Why = oncall.AppUnknown, "its state cannot be read"
		return err
	}
	a.LookAtApp(state)
	due, err := s.Due(ctx, a.App)
	a.Late = due.Overdue
	return err
}

func appRow(a *oncall.App) term.Line {
	number := func(n int64, tone cli.Tone) term.Span {
		if n == 0 {
			tone = cli.Plain
		}
		return term.In(tone, oncall.Count(n))
	}
	tone, text := cli.Calm, a.State
	if a.State != oncall.AppOK {
		tone, text = cli.Alarm, a.State+": "+a.Why
	}
	if a.Damaged > 0 {
		text += "; " + strconv.FormatInt(a.Damaged, 10) + " damaged"
	}
	return term.Line{
		term.In(cli.Plain, oncall.ID(a.App)), number(a.Grants, cli.Plain), number(a.InUse, cli.Plain), number(a.Late, cli.Busy),
		number(a.PerMinute, cli.Plain), number(a.Failed, cli.Busy), number(a.Reauthorize, cli.Alarm), term.In(tone, text),
	}
}
