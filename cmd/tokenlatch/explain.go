package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// explaining are the flags of explain.
type explaining struct {
	*globals
	exitCode, forTenant bool
}

func newExplain(g *globals) *cobra.Command {
	x := &explaining{globals: g}
	cmd := &cobra.Command{
		Use: "explain {APP TENANT | APP | CODE} [flags]", Short: "why, since when, who acts, and what to do",
		Long: `Say why a grant is as it is: what has happened, how that is known, who acts
next, and the command to type. It reads the record, the journal, the lease and
the app's state, no token and no configuration. So it does not know what only a
worker knows: Coordinator.Explain says that, too. Times are UTC.

With an app alone it says what stops the app as a whole, and counts its grants
by code. With a code, as TL302, it prints what that means, how it is known, what
to do, and what it is not; tokenlatch help codes lists them.`,
		Example: `tokenlatch explain zoom acme
tokenlatch explain zoom acme --for-tenant   # a sentence for the customer
tokenlatch explain zoom
tokenlatch explain TL302`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return cli.Usage(errors.New("APP TENANT, APP or CODE is missing"))
			case len(args) > 2:
				return cli.Usage(fmt.Errorf("takes no argument %q", args[2]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && codeLike.MatchString(args[0]) {
				return x.page(args[0])
			}
			k := grant.Key{App: args[0], Tenant: "any"}
			if len(args) == 2 {
				k.Tenant = args[1]
			}
			if err := k.Validate(); err != nil {
				return cli.Usage(err)
			}
			s, err := g.open(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			if len(args) == 1 {
				return x.app(cmd.Context(), s, args[0])
			}
			return x.grant(cmd.Context(), s, k)
		},
	}
	cmd.Flags().BoolVar(&x.exitCode, "exit-code", false, "exit with 5 if the level is warning or error")
	cmd.Flags().BoolVar(&x.forTenant, "for-tenant", false, "print a sentence that can be shown to the customer, and no more")
	return cmd
}

var codeLike = regexp.MustCompile(`^(?i)TL\d{3}$`)

// page prints what there is to say about a code.
func (x *explaining) page(code string) error {
	text, ok := explain.Page(code)
	if !ok {
		return &cli.Error{Exit: cli.ExitFailed, Code: "no_such_code", Err: fmt.Errorf("there is no code %s", strings.ToUpper(code)), Hint: "the codes are " + strings.Join(explain.Codes(), " ")}
	}
	if x.asJSON() {
		return x.object(struct {
			Code string `json:"code"`
			Text string `json:"text"`
		}{strings.ToUpper(code), text})
	}
	return x.text(text)
}

// explained is an explanation in JSON: docs/json/explain.schema.json.
type explained struct {
	App    string `json:"app"`
	Tenant string `json:"tenant"`
	explain.Explanation
}

func (x *explaining) grant(ctx context.Context, s *session, k grant.Key) error {
	c, err := caseOf(ctx, s, k)
	if err != nil {
		return x.failed(s, err)
	}
	e := explain.Judge(c)
	switch {
	case x.asJSON():
		err = x.object(explained{k.App, k.Tenant, e})
	case x.forTenant:
		err = x.text(e.ForTenant + "\n")
	default:
		err = x.text(term.Render(explanationLines(e, grant.Time(c.Now), x.width()), 0, x.colour()))
		if c.Record == nil && c.Damaged == nil {
			if alike := didYouMean(ctx, s, k); alike != "" {
				x.talk("there is no tenant %s%s", oncall.ID(k.Tenant), alike)
			}
		}
	}
	return x.verdict(err, e.Level == explain.Warning || e.Level == explain.Error)
}

func (x *explaining) verdict(err error, trouble bool) error {
	if err == nil && x.exitCode && trouble {
		return cli.Ended(cli.ExitFindings)
	}
	return err
}

// width returns for how many columns text is broken.
func (x *explaining) width() int {
	if w := term.Width(x.stdout); w > 0 {
		return min(w, 120)
	}
	return 100
}

// caseOf reads what Redis holds of a grant. One that is not there is a case, too.
func caseOf(ctx context.Context, s *session, k grant.Key) (explain.Case, error) {
	row, err := s.Grant(ctx, k)
	c := oncall.CaseOf(&row)
	if errors.Is(err, tokencache.ErrNone) {
		c.App, c.Tenant, c.Record, err = k.App, k.Tenant, nil, nil
	}
	if err != nil {
		return c, err
	}
	if c.Trace.Entries, err = s.Journal(ctx, k); err != nil {
		return c, err
	}
	if n, err := s.Renewers(ctx, k.App); err == nil { // a right of its own: not known where it is missing
		c.Renewing = &n
	}
	c.State, err = stateOf(s.App(ctx, k.App))
	return c, err
}

// stateOf makes of what Redis says of an app what is known of its state: nil, where that is damaged.
func stateOf(a *engine.AppState, err error) (*explain.State, error) {
	switch {
	case errors.Is(err, tokencache.ErrNone):
		return &explain.State{}, nil
	case errors.Is(err, tokencache.ErrDamaged):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &a.AppTrouble, nil
}

// explanationLines are an explanation in words. All its times are UTC, as those in its sentences are.
func explanationLines(e explain.Explanation, now time.Time, width int) []term.Line {
	var out []term.Line
	for i, part := range term.Wrap(e.Title, width-len(e.Code)-2) { // the code stands at the right, where no title comes
		line := term.Line{term.In(toneOfLevel(e.Level), part)}
		if i == 0 {
			line = append(line, term.In(cli.Faint, fmt.Sprintf("%*s", width-len([]rune(part)), e.Code)))
		}
		out = append(out, line)
	}
	say := func(what, text string) {
		for i, part := range term.Wrap(text, width-14) {
			if i > 0 {
				what = ""
			}
			out = append(out, term.Line{term.In(cli.Faint, fmt.Sprintf("  %-12s", what)), term.In(cli.Plain, part)})
		}
	}
	for _, s := range e.Story {
		at := ""
		if !s.At.IsZero() {
			at = oncall.Clock(s.At, now)
		}
		say(at, s.Text)
	}
	if !e.RetryAt.IsZero() {
		say("again", "at "+oncall.Clock(e.RetryAt, now)+" UTC ("+oncall.From(e.RetryAt, now)+")")
	}
	for _, unknown := range e.Unknown {
		say("not known", unknown)
	}
	say("who acts", oncall.Actor(e.Who))
	for _, do := range e.Do {
		say("do", do.Text)
		if do.Command != "" {
			out = append(out, term.Line{term.In(cli.Bold, "                "+do.Command)}) // whole: people copy it
		}
	}
	return out
}

func toneOfLevel(level string) cli.Tone {
	switch level {
	case explain.Error:
		return cli.Alarm
	case explain.Warning:
		return cli.Busy
	}
	return cli.Calm
}

// app counts an app's grants by code. Of each it reads the record alone: a journal each would take long.
func (x *explaining) app(ctx context.Context, s *session, app string) error {
	a, missing := s.App(ctx, app)
	state, err := stateOf(a, missing)
	if err != nil {
		return x.failed(s, err)
	}
	whole := oncall.App{App: app, State: oncall.AppUnknown, Why: "its state cannot be read"}
	if state != nil {
		whole.LookAtApp(a)
	}
	if n, err := s.Renewers(ctx, app); err == nil {
		whole.Renewing = &n
	}
	codes := map[string]int{}
	for row, err := range s.List(ctx, app) {
		if err != nil {
			return x.failed(s, err)
		}
		codes[codeOf(&row, state)]++
	}
	sum := explain.Sum(app, codes)
	if sum.Grants == 0 && errors.Is(missing, tokencache.ErrNone) {
		return &cli.Error{
			Exit: cli.ExitFailed, Code: "no_such_app", Err: fmt.Errorf("there is nothing of an app %s (%s); a grant is named by app and tenant%s", oncall.ID(app), x.place(s), orAlike(nearApps(ctx, s, app))),
			Hint: "tokenlatch apps lists those there are",
		}
	}
	if whole.Code != "" {
		sum = sum.Under(whole.Code, whole.Says(grant.Time(a.Now())))
	}
	if x.asJSON() {
		err = x.object(explainedApp{app, whole.State, whole.Why, whole.Since, whole.Until, sum})
	} else {
		err = x.sayApp(&whole, sum)
	}
	return x.verdict(err, sum.Cause != "")
}

// explainedApp is what explain says of an app in JSON: docs/json/explain-app.schema.json.
type explainedApp struct {
	App   string    `json:"app"`
	State string    `json:"state"`
	Why   string    `json:"why"`
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	explain.Summary
}

func codeOf(row *inspect.Row, state *explain.State) string {
	c := oncall.CaseOf(row)
	c.State = state
	return explain.Judge(c).Code
}

func (x *explaining) sayApp(whole *oncall.App, sum explain.Summary) error {
	app := whole.App
	tone := cli.Calm
	if sum.Cause != "" {
		tone = cli.Alarm
	}
	var lines []term.Line
	for _, part := range term.Wrap(sum.Title, x.width()) {
		lines = append(lines, term.Line{term.In(tone, part)})
	}
	if whole.Why != "" && whole.Code == "" {
		lines = append(lines, term.Line{term.In(cli.Busy, "  the app: "+whole.State+": "+whole.Why)})
	}
	if whole.Renewing != nil && *whole.Renewing == 0 && sum.Grants > 0 {
		lines = append(lines, term.Line{term.In(cli.Busy, "  no process calls Run for it: a token is refreshed when somebody asks for it")})
	}
	slices.SortStableFunc(sum.Counts, func(a, b explain.Count) int { // what is well comes last
		return strings.Compare(min(a.Code, "TL2"), min(b.Code, "TL2")) * -1
	})
	for _, c := range sum.Counts {
		text, _ := explain.Page(c.Code)
		title, _, _ := strings.Cut(strings.TrimPrefix(text, "## "), "\n")
		lines = append(lines, term.Line{term.In(cli.Plain, fmt.Sprintf("  %9s  %s", oncall.Count(int64(c.Count)), title))})
	}
	if err := x.text(term.Render(lines, 0, x.colour())); err != nil {
		return err
	}
	next := "tokenlatch ls " + oncall.ID(app) + " --trouble lists those in trouble"
	if sum.Cause != "" {
		next = "tokenlatch explain " + sum.Cause + " says what to do; " + next
	}
	if whole.State == oncall.AppLost {
		next += "; tokenlatch accept-loss " + oncall.ID(app) + " says how to accept the loss"
	}
	x.talk("%s", next)
	return nil
}
