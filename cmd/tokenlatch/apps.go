package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
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

  GRANTS   how many there are, of each state
  IN USE   active grants whose token somebody asked for in the last 25 hours
  IDLE     the other active grants: a renewal is made for them only to keep
           their refresh token alive
  RUN      processes that call Run, and so renew, just now; - is not known
  LATE     looks of Run that are overdue by more than a minute, as at a grant in
           use whose token is due. An idle grant is not late, nor is a dead one
  /MIN     grants that an exchange was made for in the last minute
  FAILED   grants whose last exchange failed, without those that are DEAD
  DEAD     grants whose tenant must consent again; neither IN USE nor IDLE
  STATE    ok; or how many grants are in trouble, as ls --trouble lists them.
           Before that, if it is about the whole app: data_lost, circuit_open,
           braked, mass_death, provider_down, paused, ramping; host_circuit_open
           and host_paused: only the tenants of one host wait

Disconnected grants are in GRANTS only. In JSON, state is about the whole app
alone: look at trouble, too.`,
		Example: `tokenlatch apps
tokenlatch apps --json | jq '.[] | select(.state != "ok" or .trouble > 0)'`,
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
	t := g.table(o, 9, "APP", "GRANTS", "IN USE", "IDLE", "RUN", "LATE", "/MIN", "FAILED", "DEAD", "STATE")
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

func count(a *oncall.App, row *inspect.Row) {
	r := &row.Record
	if a.Grants++; oncall.Look(row).Trouble {
		a.Trouble++
	}
	switch {
	case errors.Is(row.Err, tokencache.ErrDamaged):
		a.Damaged++
		return
	case row.Err != nil: // a later version's
		return
	}
	within := func(at int64, d time.Duration) bool { return at != 0 && row.Now-at < d.Milliseconds() }
	switch {
	case r.State == grant.Disconnected:
		a.Ended++
	case r.State == grant.Active && oncall.InUse(row):
		a.InUse++
	case r.State == grant.Active:
		a.Idle++
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
	if n, err := s.Renewers(ctx, a.App); err == nil { // a right of its own: not known where it is missing
		a.Renewing = &n
	}
	due, err := s.Due(ctx, a.App)
	a.Late = due.Overdue
	return err
}

// appState returns how an app is in words: itself, and its grants.
func appState(a *oncall.App) (cli.Tone, string) {
	tone, said := cli.Calm, []string(nil)
	if a.State != oncall.AppOK {
		tone, said = cli.Alarm, append(said, a.State+": "+a.Why)
	}
	if a.Trouble > 0 {
		tone, said = cli.Alarm, append(said, oncall.Count(a.Trouble)+" in trouble")
	}
	if a.Damaged > 0 {
		said = append(said, oncall.Count(a.Damaged)+" of them damaged")
	}
	return tone, cmp.Or(strings.Join(said, "; "), a.State)
}

func appRow(a *oncall.App) term.Line {
	number := func(n int64, tone cli.Tone) term.Span {
		if n == 0 {
			tone = cli.Plain
		}
		return term.In(tone, oncall.Count(n))
	}
	tone, text := appState(a)
	run := term.In(cli.Plain, "-")
	if a.Renewing != nil {
		run = term.In(cli.Plain, oncall.Count(*a.Renewing))
		if *a.Renewing == 0 && a.InUse > 0 {
			run.Tone = cli.Busy
		}
	}
	return term.Line{
		term.In(cli.Plain, oncall.ID(a.App)), number(a.Grants, cli.Plain), number(a.InUse, cli.Plain), number(a.Idle, cli.Plain), run, number(a.Late, cli.Busy),
		number(a.PerMinute, cli.Plain), number(a.Failed, cli.Busy), number(a.Reauthorize, cli.Alarm), term.In(tone, text),
	}
}
