package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/doctor"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// examining is what the flags of doctor say.
type examining struct {
	*globals
	app, failOn string
	skip        []string
	pre         bool
	problems    bool
}

func newDoctor(g *globals) *cobra.Command {
	x := &examining{globals: g}
	cmd := &cobra.Command{
		Use: "doctor [flags]", Short: "examine Redis, its rights, the grants, the fleet and the apps",
		Long: `Examines what grants need: the connection, durability, permissions, topology,
push and clock; and looks over the grants (a sample of 500), the fleet and the
apps. Each check says what it found, what to do, and when it may be wrong.

Run it with the Redis user of your workers, on a machine that has workers. It
asks no provider, presents nothing, opens no pair and needs no keyset. It writes
scratch keys of 10 seconds, and publishes to a channel of its own.

tokenlatch help operations examining has a table of all checks.`,
		Example: `tokenlatch doctor
tokenlatch doctor --problems                           # only what is not ok
tokenlatch doctor --pre --app zoom --fail-on warning   # before a deployment
tokenlatch doctor --skip durability,push.arrives --json`,
		Args: named(),
		RunE: func(cmd *cobra.Command, _ []string) error { return x.run(cmd) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&x.problems, "problems", false, "show warnings and failures alone")
	fs.BoolVar(&x.pre, "pre", false, "before a deployment: leave out data, fleet and apps")
	fs.StringVar(&x.app, "app", "", "try the rights of this `APP`'s workers (default: all apps)")
	fs.StringSliceVar(&x.skip, "skip", nil, "leave out these checks or `CATEGORIES`")
	fs.StringVar(&x.failOn, "fail-on", "", "exit code 5 from this `RESULT` on: warning or failure")
	return cmd
}

// check refuses flags that mean nothing.
func (x *examining) check() error {
	for _, name := range x.skip {
		if !doctor.Known(name) {
			return cli.Usage(fmt.Errorf("--skip %q: there is no such check or category", name))
		}
	}
	if x.failOn != "" && x.failOn != string(doctor.Warning) && x.failOn != string(doctor.Failure) {
		return cli.Usage(fmt.Errorf("--fail-on %q: say warning or failure", x.failOn))
	}
	if x.app != "" {
		if err := (grant.Key{App: x.app, Tenant: "-"}).Validate(); err != nil {
			return cli.Usage(fmt.Errorf("--app: %w", err))
		}
	}
	return nil
}

func (x *examining) run(cmd *cobra.Command) error {
	if err := x.check(); err != nil {
		return err
	}
	s, err := x.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.rdb.Ping(cmd.Context()).Err(); err != nil { // there is nothing to examine
		return x.failed(s, err)
	}
	sentinels, master := cli.Sentinels(s.addr)
	patient := doctor.Patient{
		Redis: s.rdb, Inspector: s.Inspector, Prefix: x.prefix, Place: cli.Place(s.addr), Encrypted: cli.Encrypted(s.addr),
		Sentinels: sentinels, Master: master, App: x.app, Pre: x.pre, Skip: x.skip, Timeout: x.timeout,
	}
	o, found := x.items(x.stdout), map[doctor.Result]int{}
	for f := range doctor.Examine(cmd.Context(), patient) {
		found[f.Result]++
		if x.problems && f.Result != doctor.Warning && f.Result != doctor.Failure {
			continue
		}
		if err := x.show(o, &f); err != nil {
			return err
		}
	}
	if err := x.end(o, cmd.Context().Err()); err != nil {
		return err
	}
	x.sum(found)
	return x.verdict(found)
}

// show prints a finding, as it comes.
func (x *examining) show(o *items, f *doctor.Finding) error {
	if x.asJSON() {
		return o.add(f)
	}
	_, _ = o.w.WriteString(term.Render(x.lines(f), 0, x.colour()))
	return o.w.Flush()
}

func (x *examining) end(o *items, err error) error {
	if x.asJSON() || err != nil {
		return o.end(err)
	}
	return o.w.Flush()
}

// tones of the results.
var tones = map[doctor.Result]cli.Tone{doctor.OK: cli.Calm, doctor.Skipped: cli.Faint, doctor.Warning: cli.Busy, doctor.Failure: cli.Alarm}

func (x *examining) lines(f *doctor.Finding) (out []term.Line) {
	width := 100
	if on := term.Width(x.stdout); on > 0 {
		width = max(on, 60)
	}
	const margin = 33 // of the columns before
	for i, part := range term.Wrap(f.Text, width-margin) {
		head, id := string(f.Result), f.ID
		if i > 0 {
			head, id = "", ""
		}
		out = append(out, term.Line{term.In(tones[f.Result], fmt.Sprintf("%-9s", head)), term.In(cli.Plain, fmt.Sprintf("%-24s", id)), term.In(cli.Plain, part)})
	}
	if f.Remedy == "" {
		return out
	}
	for _, more := range []struct{ what, text string }{{"do", f.Remedy}, {"unless", f.Wrong}} {
		for i, part := range term.Wrap(more.text, width-margin-8) {
			what := more.what
			if i > 0 {
				what = ""
			}
			out = append(out, term.Line{term.In(cli.Faint, fmt.Sprintf("%*s%-8s", margin, "", what)), term.In(cli.Plain, part)})
		}
	}
	if f.Command != "" { // whole: people copy it
		out = append(out, term.Line{term.In(cli.Bold, strings.Repeat(" ", 9)+f.Command)})
	}
	return out
}

// sum says how it went, and what to do next.
func (x *examining) sum(found map[doctor.Result]int) {
	all := 0
	for _, n := range found {
		all += n
	}
	next := "nothing to do"
	switch {
	case found[doctor.Failure] > 0:
		next = "mend the failures first"
	case found[doctor.Warning] > 0:
		next = "look at the warnings"
	}
	x.talk("%d checks: ok %d, warning %d, failure %d, skipped %d; %s", all, found[doctor.OK], found[doctor.Warning], found[doctor.Failure], found[doctor.Skipped], next)
}

// verdict ends with the exit code of findings, where --fail-on wants one.
func (x *examining) verdict(found map[doctor.Result]int) error {
	bad := []doctor.Result{doctor.Failure}
	if x.failOn == string(doctor.Warning) {
		bad = append(bad, doctor.Warning)
	}
	if x.failOn != "" && slices.ContainsFunc(bad, func(r doctor.Result) bool { return found[r] > 0 }) {
		return cli.Ended(cli.ExitFindings)
	}
	return nil
}
