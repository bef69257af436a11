package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// lsOptions are the flags of ls.
type lsOptions struct {
	app            string
	trouble        bool
	states         []string
	reasons        []string
	dueWithin      time.Duration
	since          time.Duration
	sort           string
	limit          int
	failOn         []string
	byDue, bySince bool
}

func newLs(g *globals) *cobra.Command {
	var opt lsOptions
	cmd := &cobra.Command{
		Use: "ls [APP] [flags]", Short: "list grants, those in trouble or all",
		Long: `List the grants of an app, or of all apps: in what state each is, since when,
why, and who must act. It reads no token, and its times are UTC. Rows come as
Redis gives them, unless they are sorted: then all that are shown are kept in
memory first.

A grant that comes or goes meanwhile may be missed, and one may be shown twice
while Redis grows.`,
		Example: `tokenlatch ls --trouble                 # what needs somebody
tokenlatch ls zoom --state reauthorize --since 1h
tokenlatch ls --sort due --limit 20 --json
tokenlatch ls --fail-on reauthorize -q  # exit code 5 if there is one`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Usage(fmt.Errorf("takes one APP, got %q too", args[1]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				opt.app = args[0]
			}
			opt.byDue, opt.bySince = cmd.Flags().Changed("due-within"), cmd.Flags().Changed("since")
			if err := opt.check(args); err != nil {
				return cli.Usage(err)
			}
			return g.ls(cmd, opt)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.BoolVar(&opt.trouble, "trouble", false, "only grants about which somebody should know")
	fs.StringSliceVar(&opt.states, "state", nil, "only grants in one of these `STATES`: "+strings.Join(oncall.States, ", "))
	fs.StringSliceVar(&opt.reasons, "reason", nil, "only grants with one of these `WORDS` as reason, or as class, code or status of the last error: lost_response, throttled, 500")
	fs.DurationVar(&opt.dueWithin, "due-within", 0, "only grants whose token is due for renewal within that time, or was")
	fs.DurationVar(&opt.since, "since", 0, "only grants that came into their state within that time")
	fs.StringVar(&opt.sort, "sort", "", "`KEY` to sort by: "+strings.Join(sortKeys(), ", ")+"; - before it turns the order")
	fs.IntVar(&opt.limit, "limit", 0, "at most `N` rows")
	fs.StringSliceVar(&opt.failOn, "fail-on", nil, "end with exit code 5 if a grant shown is in one of these `STATES`, or in trouble")
	return cmd
}

func (o *lsOptions) check(args []string) error {
	for flag, states := range map[string][]string{"state": o.states, "fail-on": o.failOn} {
		for _, s := range states {
			if !slices.Contains(oncall.States, s) && (flag != "fail-on" || s != "trouble") {
				return fmt.Errorf("--%s %q is not known; there are: %s", flag, s, strings.Join(oncall.States, ", "))
			}
		}
	}
	if len(args) == 1 {
		if err := (grant.Key{App: o.app, Tenant: "-"}).Validate(); err != nil {
			return err
		}
	}
	switch {
	case o.sort != "" && sorts[strings.TrimPrefix(o.sort, "-")] == nil:
		return fmt.Errorf("--sort %q is not known; there are: %s", o.sort, strings.Join(sortKeys(), ", "))
	case o.limit < 0 || o.dueWithin < 0 || o.since < 0:
		return fmt.Errorf("--limit, --due-within and --since must not be negative")
	}
	return nil
}

// found is a grant, and what it means.
type found struct {
	inspect.Row
	oncall.Finding
}

// sorts compare by what --sort names.
var sorts = map[string]func(a, b *found) int{
	"app":    func(a, b *found) int { return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Tenant, b.Tenant)) },
	"tenant": func(a, b *found) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.App, b.App)) },
	"state": func(a, b *found) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.App, b.App), cmp.Compare(a.Tenant, b.Tenant))
	},
	"since":   func(a, b *found) int { return a.Since.Compare(b.Since) },
	"expires": func(a, b *found) int { return cmp.Compare(a.Record.ExpiresAt, b.Record.ExpiresAt) },
	"due":     func(a, b *found) int { return cmp.Compare(a.Record.RefreshAt, b.Record.RefreshAt) },
	"used":    func(a, b *found) int { return cmp.Compare(a.Record.UsedAt, b.Record.UsedAt) },
}

func sortKeys() []string {
	return []string{"app", "tenant", "state", "since", "expires", "due", "used"}
}

// compare is the order that --sort asks for.
func (o *lsOptions) compare(a, b *found) int {
	key, turned := strings.CutPrefix(o.sort, "-")
	if turned {
		return -sorts[key](a, b)
	}
	return sorts[key](a, b)
}

// wants reports whether a grant is to be shown.
func (o *lsOptions) wants(f *found) bool {
	r, now := &f.Record, time.Duration(f.Now)*time.Millisecond
	switch {
	case o.trouble && !f.Trouble,
		len(o.states) > 0 && !slices.Contains(o.states, f.State),
		len(o.reasons) > 0 && !slices.ContainsFunc(o.reasons, f.hasReason),
		o.bySince && (f.Since.IsZero() || grant.Time(f.Now).Sub(f.Since) > o.since):
		return false
	case o.byDue:
		return f.Err == nil && r.State == grant.Active && r.RefreshAt != 0 && time.Duration(r.RefreshAt)*time.Millisecond <= now+o.dueWithin
	}
	return true
}

func (f *found) hasReason(word string) bool {
	return f.Record.Reason == word || slices.Contains(strings.Split(f.Record.Error, "/"), word)
}

func (o *lsOptions) fails(f *found) bool {
	return slices.Contains(o.failOn, f.State) || f.Trouble && slices.Contains(o.failOn, "trouble")
}

// listing is one run of ls.
type listing struct {
	*globals
	opt     lsOptions
	items   *items
	table   *term.Table
	started time.Time
	kept    []*found // to be sorted

	seen, shown, findings int64
	cut                   bool // by --limit, before all were seen
	progress              *progress
}

// showAfter is for how long rows are held back for the sake of their columns.
const showAfter = 100 * time.Millisecond

func (g *globals) ls(cmd *cobra.Command, opt lsOptions) error {
	s, err := g.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	l := &listing{globals: g, opt: opt, started: time.Now(), progress: g.progress()}
	l.items = g.items(clearing{l.progress, g.stdout})
	l.table = g.table(l.items, 5, "APP", "TENANT", "STATE", "SINCE UTC", "TOKEN", "WHY", "WHO ACTS")
	err = l.read(cmd.Context(), s)
	l.progress.end()
	if failed := l.rest(); failed != nil {
		return failed
	}
	err = g.failed(s, err)
	if g.asJSON() {
		err = l.items.end(err)
	} else if flushed := l.items.w.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		return err
	}
	l.sum(s)
	if l.findings > 0 {
		return cli.Ended(cli.ExitFindings)
	}
	return nil
}

// read takes each grant. The error is the first of a node; the grants of other nodes are shown.
func (l *listing) read(ctx context.Context, s *session) (first error) {
	for row, err := range s.List(ctx, l.opt.app) {
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		done, err := l.take(&found{row, oncall.Look(&row)})
		if err != nil || done {
			return cmp.Or(err, first)
		}
	}
	return first
}

// said returns why, and the code to search for.
func (f *found) said() string {
	if !f.Trouble {
		return f.Why
	}
	if code := oncall.CodeOf(&f.Row); !strings.HasPrefix(code, "TL1") { // what is the matter is in the journal: explain knows
		return f.Why + " [" + code + "]"
	}
	return f.Why
}

// take shows a grant, or keeps it to be sorted. done says that no more are wanted.
func (l *listing) take(f *found) (done bool, err error) {
	l.seen++
	l.progress.tick(l.seen)
	if !l.opt.wants(f) {
		return false, l.tick()
	}
	if l.opt.fails(f) {
		l.findings++
	}
	if l.opt.sort == "" {
		l.shown++
		l.cut = l.opt.limit > 0 && l.shown >= int64(l.opt.limit)
		return l.cut, cmp.Or(l.show(f), l.tick())
	}
	if l.kept = append(l.kept, f); l.opt.limit > 0 && len(l.kept) >= 2*l.opt.limit+1000 {
		l.keepFirst()
	}
	return false, nil
}

// keepFirst sorts what is kept, and drops what --limit leaves out.
func (l *listing) keepFirst() {
	slices.SortStableFunc(l.kept, l.opt.compare)
	if l.opt.limit > 0 && len(l.kept) > l.opt.limit {
		clear(l.kept[l.opt.limit:])
		l.kept = l.kept[:l.opt.limit]
	}
}

// rest shows what was kept or held back.
func (l *listing) rest() error {
	if l.opt.sort != "" {
		l.keepFirst()
		l.shown = int64(len(l.kept))
	}
	for _, f := range l.kept {
		if err := l.show(f); err != nil {
			return err
		}
	}
	if l.asJSON() {
		return nil
	}
	return l.table.Begin()
}

func (l *listing) show(f *found) error {
	if l.asJSON() {
		return l.items.add(oncall.GrantOf(&f.Row, f.Finding))
	}
	return l.table.Add(rowOf(f))
}

// tick lets the first rows be seen soon, and the others as they come.
func (l *listing) tick() error {
	if l.opt.sort != "" {
		return nil
	}
	if !l.asJSON() && time.Since(l.started) > showAfter {
		if err := l.table.Begin(); err != nil {
			return err
		}
	}
	return l.items.tick()
}

// rowOf is a grant's line of the table.
func rowOf(f *found) term.Line {
	now := grant.Time(f.Now)
	left := "-"
	if f.Err == nil && f.Record.State != grant.Disconnected {
		left = oncall.Left(grant.Time(f.Record.ExpiresAt), now)
	}
	return term.Line{
		term.In(cli.Plain, oncall.ID(f.App)), term.In(cli.Plain, oncall.ID(f.Tenant)), term.In(toneOf(f.Finding), f.State),
		term.In(cli.Plain, oncall.Clock(f.Since, now)), term.In(cli.Plain, left), term.In(cli.Plain, f.said()), term.In(cli.Plain, f.Acts()),
	}
}

// toneOf returns the tone of a state.
func toneOf(f oncall.Finding) cli.Tone {
	switch {
	case f.State == oncall.Disconnected:
		return cli.Faint
	case !f.Trouble:
		return cli.Calm
	case f.State == oncall.Waiting || f.State == oncall.Refreshing || f.State == oncall.Active:
		return cli.Busy
	}
	return cli.Alarm
}

// sum says how many there were, and what to ask next.
func (l *listing) sum(s *session) {
	of := "tokenlatch ls"
	if l.opt.app != "" {
		of += " " + oncall.ID(l.opt.app)
	}
	switch {
	case l.seen == 0 && l.opt.app != "":
		l.talk("no grants of %s (%s). `tokenlatch apps` lists the apps", oncall.ID(l.opt.app), l.place(s))
	case l.seen == 0:
		l.talk("no grants (%s). Another --prefix?", l.place(s))
	case l.cut:
		l.talk("the first %s, as --limit says. `tokenlatch ls --trouble` lists those in trouble", oncall.Count(l.shown))
	case l.shown < l.seen:
		l.talk("%s of %s. `%s` lists all", oncall.Count(l.shown), oncall.Count(l.seen), of)
	default:
		l.talk("%s. `%s --trouble` lists those in trouble", oncall.Count(l.seen), of)
	}
}
