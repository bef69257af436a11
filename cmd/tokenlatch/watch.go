package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
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

func newWatch(g *globals) *cobra.Command {
	plain := false
	cmd := &cobra.Command{
		Use: "watch [APP [TENANT]] [flags]", Short: "what happens to grants, live",
		Long: `Show what happens to the grants of an app, or of all apps. It reads no token,
and changes nothing. Times are UTC.

On a terminal it is a board: grants in trouble come first, / filters, s sorts,
y copies the tenant's name, the arrows move, q ends it. The mouse stays yours.

Into a pipe goes a line for each change as it is made. Of many grants the steps
of an exchange (claim, refused) are told once it has ended: to push them would
cost each worker a message more for every refresh. Of one grant they are told at
once. The board looks for claims under way every few seconds; in a script,
ls --state refreshing,waiting lists them.`,
		Example: `tokenlatch watch
tokenlatch watch zoom --jsonl | jq -r 'select(.kind == "reauthorize").tenant'
tokenlatch watch zoom acme --plain`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return cli.Usage(fmt.Errorf("takes APP and TENANT, got %q too", args[2]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			k := grant.Key{App: "any", Tenant: "any"}
			for i, to := range []*string{&k.App, &k.Tenant} {
				if i < len(args) {
					*to = args[i]
				}
			}
			if err := k.Validate(); err != nil {
				return cli.Usage(err)
			}
			if g.json {
				return cli.Usage(errors.New("--json: that array would never end; give --jsonl"))
			}
			return g.watch(cmd, args, plain)
		},
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "lines, also on a terminal")
	return cmd
}

func (g *globals) watch(cmd *cobra.Command, args []string, plain bool) error {
	s, err := g.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	src := &source{s: s, last: map[grant.Key]string{}, timeout: g.timeout}
	if len(args) > 0 {
		src.key.App = args[0]
	}
	if len(args) > 1 {
		src.key.Tenant = args[1]
	}
	if err := src.begin(cmd.Context()); err != nil {
		return g.failed(s, err)
	}
	if !plain && !g.asJSON() && term.IsTerminal(g.stdout) && term.IsTerminal(os.Stdin) {
		return g.board(cmd.Context(), src)
	}
	return g.lines(cmd.Context(), src)
}

// source tells what happens, in the order in which it is heard.
type source struct {
	s       *session
	key     grant.Key // of one grant; without a tenant of an app; without an app of all
	since   int64     // Redis' time when it began
	last    map[grant.Key]string
	timeout time.Duration
}

// listener is told what a source hears.
type listener struct {
	listening func(again bool)                  // from now on nothing is missed
	away      func(error)                       // nothing is heard just now
	entry     func(grant.Key, inspect.Entry)    // one line of a grant's journal
	changed   func(grant.Key)                   // after its entries
	app       func(app string, now *oncall.App) // an app's own state has changed
}

// begin asks Redis for its time, and finds out whether it answers.
func (src *source) begin(ctx context.Context) error {
	row, err := src.s.Grant(ctx, grant.Key{App: cmp.Or(src.key.App, "-"), Tenant: cmp.Or(src.key.Tenant, "-")})
	if errors.Is(err, tokencache.ErrNone) {
		err = nil
	}
	src.since = row.Now
	return err
}

// run tells what happens until ctx ends.
func (src *source) run(ctx context.Context, l listener) {
	if src.key.Tenant != "" {
		src.follow(ctx, l)
		return
	}
	began := false
	for k, err := range src.s.Watch(ctx, src.key.App) {
		switch {
		case err != nil:
			l.away(err)
		case k == grant.Key{}:
			src.catchUp(ctx, l)
			l.listening(began)
			began = true
		case k.Tenant == "":
			src.look(ctx, k.App, l)
		default:
			src.read(ctx, k, l)
			l.changed(k)
		}
	}
}

// follow is run for one grant: each step as it is made.
func (src *source) follow(ctx context.Context, l listener) {
	l.listening(false)
	away := false
	for e, err := range src.s.Follow(ctx, src.key, src.after(src.key)) {
		if err != nil {
			away = true
			l.away(err)
			continue
		}
		if away {
			away = false
			l.listening(true)
		}
		l.entry(src.key, e)
		l.changed(src.key)
	}
}

// after is the id of the last entry of a grant that is no news.
func (src *source) after(k grant.Key) string {
	if id, ok := src.last[k]; ok {
		return id
	}
	return strconv.FormatInt(src.since-1, 10) + "-0"
}

// read tells what is new in a grant's journal. What was heard is a hint: the journal is what is believed.
func (src *source) read(ctx context.Context, k grant.Key, l listener) {
	entries, err := src.s.Journal(ctx, k)
	if err != nil {
		if ctx.Err() == nil {
			l.away(err)
		}
		return
	}
	last := src.after(k)
	for _, e := range entries {
		if later(e.ID, last) {
			last = e.ID
			l.entry(k, e)
		}
	}
	src.last[k] = last
}

// catchUp tells what has happened, while nothing was heard, to the grants of which something was.
func (src *source) catchUp(ctx context.Context, l listener) {
	for k := range src.last {
		src.read(ctx, k, l)
	}
}

// look tells how an app is as a whole.
func (src *source) look(ctx context.Context, app string, l listener) {
	state, err := src.s.App(ctx, app)
	if err != nil && !errors.Is(err, tokencache.ErrNone) {
		return // damaged, or away, which the connection that listens tells
	}
	a := &oncall.App{App: app}
	a.LookAtApp(state)
	l.app(app, a)
}

// later reports whether an entry's id comes after another.
func later(id, than string) bool {
	at, n := splitID(id)
	thanAt, thanN := splitID(than)
	return at > thanAt || at == thanAt && n > thanN
}

func splitID(id string) (at, n int64) {
	first, second, _ := strings.Cut(id, "-")
	at, _ = strconv.ParseInt(first, 10, 64)
	n, _ = strconv.ParseInt(second, 10, 64)
	return at, n
}

// happening is a change in JSON: docs/json/watch.schema.json.
type happening struct {
	App    string `json:"app"`
	Tenant string `json:"tenant"`
	oncall.Entry
}

// appChange is a change of an app as a whole in JSON: docs/json/watch.schema.json.
type appChange struct {
	App   string    `json:"app"`
	Kind  string    `json:"kind"` // "app"
	State string    `json:"state"`
	Why   string    `json:"why"`
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// lines prints a line for each change until ctx ends.
func (g *globals) lines(ctx context.Context, src *source) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o, states := g.items(g.stdout), map[string]string{}
	o.lines = true
	put := func(v any, line term.Line) {
		var err error
		if g.asJSON() {
			err = o.add(v)
		} else {
			_, err = o.w.WriteString(line.Text(0, g.colour()) + "\n")
		}
		if err = cmp.Or(err, o.w.Flush()); err != nil {
			cancel(err) // nobody reads it any more
		}
	}
	away := false
	src.run(ctx, listener{
		listening: func(again bool) {
			if again {
				g.talk("listening again; something that happened meanwhile may be missing")
			} else {
				g.talk("listening, times are UTC; Ctrl-C ends it")
			}
			away = false
		},
		away: func(err error) {
			if !away {
				g.talk("%v; trying again each second", g.failed(src.s, err))
			}
			away = true
		},
		entry: func(k grant.Key, e inspect.Entry) {
			put(happening{k.App, k.Tenant, oncall.EntryOf(e)}, happened(k, e))
		},
		changed: func(grant.Key) {},
		app: func(app string, a *oncall.App) {
			if is := a.State + a.Since.String(); states[app] != is {
				states[app] = is
				put(appChange{App: app, Kind: "app", State: a.State, Why: a.Why, Since: a.Since, Until: a.Until}, appHappened(a))
			}
		},
	})
	return context.Cause(ctx)
}

// happened is a change in words.
func happened(k grant.Key, e inspect.Entry) term.Line {
	line := entryLine(e, time.Now(), len(time.TimeOnly))
	name := oncall.ID(k.App) + " " + oncall.ID(k.Tenant)
	return append(term.Line{line[0], term.In(cli.Bold, name), term.In(cli.Plain, "  ")}, line[1:]...)
}

func appHappened(a *oncall.App) term.Line {
	tone := cli.Alarm
	if a.State == oncall.AppOK {
		tone = cli.Calm
	}
	line := term.Line{term.In(cli.Faint, time.Now().UTC().Format(time.TimeOnly)+"  "), term.In(cli.Bold, "app "+oncall.ID(a.App)), term.In(cli.Plain, "  "), term.In(tone, a.State)}
	if a.Why != "" {
		line = append(line, term.In(cli.Plain, "  "+a.Why))
	}
	return line
}
