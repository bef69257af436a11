package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/settings"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// acting are the flags of the commands that act as a worker of an app does.
type acting struct {
	*globals
	config string
	wait   time.Duration
}

// addConfig adds the flag that names the configuration file.
func addConfig(cmd *cobra.Command, config *string) {
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(config, "config", "", "`FILE` that configures the app (default $"+settings.Variable+"): tokenlatch help config")
}

// addWait adds the flag that bounds how long a command waits for an exchange.
func (a *acting) addWait(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&a.wait, "wait", time.Minute, "how long to wait for a refresh; what is under way then is finished all the same")
}

// readConfig reads the configuration file.
func readConfig(name string) (*settings.File, error) {
	if name == "" {
		name = os.Getenv(settings.Variable)
	}
	if name == "" {
		return nil, &cli.Error{
			Exit: cli.ExitUsage, Code: "config",
			Err:  errors.New("there is no configuration: it acts as a worker does, and needs a YAML file with the app's provider and client, and the keyset. Give --config FILE, or set " + settings.Variable),
			Hint: "tokenlatch help config shows such a file; ls, explain and the other commands that only look need none",
		}
	}
	file, err := settings.Read(name)
	if err != nil {
		return nil, badConfig(err)
	}
	return file, nil
}

func badConfig(err error) error {
	return &cli.Error{Exit: cli.ExitUsage, Code: "config", Err: err, Hint: "tokenlatch help config"}
}

// worker is this process as a worker of one app.
type worker struct {
	*session
	tokens *refresh.Coordinator
	app    *settings.App
	name   string
}

// commandName returns how this process signs what it does. People see in a journal that it is no worker.
func commandName() string { return "tokenlatch@" + lock.HostPID() }

// open makes this process a worker of an app. It has looked at Redis then.
func (a *acting) open(cmd *cobra.Command, k grant.Key) (*worker, *inspect.Row, error) {
	if err := k.Validate(); err != nil {
		return nil, nil, cli.Usage(err)
	}
	file, err := readConfig(a.config)
	if err != nil {
		return nil, nil, err
	}
	s, err := a.globals.open(cmd)
	if err != nil {
		return nil, nil, err
	}
	w := &worker{session: s, name: commandName()}
	if err := w.begin(file, k.App, a.prefix); err != nil {
		s.close()
		return nil, nil, err
	}
	row, err := s.Grant(cmd.Context(), k)
	switch {
	case errors.Is(err, tokencache.ErrNone):
		return w, nil, nil
	case err != nil:
		w.leave(a.globals)
		return nil, nil, a.failed(s, err)
	}
	return w, &row, nil
}

// begin makes the coordinator. Nothing is asked yet.
func (w *worker) begin(file *settings.File, app, prefix string) error {
	var err error
	if w.app, err = file.App(app); err != nil {
		return badConfig(err)
	}
	aead, err := file.AEAD()
	if err != nil {
		return badConfig(err)
	}
	p, err := w.app.Provider()
	if err != nil {
		return badConfig(err)
	}
	cache, err := tokencache.New(w.rdb, tokencache.Config{Prefix: prefix, AEAD: aead})
	if err == nil {
		w.tokens, err = refresh.New(refresh.Config{
			App: app, Cache: cache, Provider: p, Name: w.name,
			Replicas: w.app.Replicas, ExchangeTimeout: w.app.ExchangeTimeout, CommitPatience: w.app.CommitPatience,
		})
	}
	if err != nil {
		return badConfig(err)
	}
	return nil
}

// closeFor is longer than an exchange that is under way takes, with its commit: to end before could cost a
// consent.
const closeFor = 8 * time.Minute

// leave ends the worker, and waits for an exchange that is under way. Its error is about a pair that only this
// process has.
func (w *worker) leave(g *globals) error {
	defer w.close()
	ctx, cancel := context.WithTimeout(context.Background(), closeFor)
	defer cancel()
	slow := time.AfterFunc(2*time.Second, func() {
		g.talk("an exchange is under way, and is finished first: do not kill this process")
	})
	defer slow.Stop()
	if err := w.tokens.Close(ctx); err != nil {
		return &cli.Error{Exit: cli.ExitFailed, Code: "unfinished", Err: err, Hint: "let Redis answer again, and look at the grant: tokenlatch ls --trouble"}
	}
	return nil
}

// left is a command's result, once the worker has ended.
func (w *worker) left(g *globals, result error) error {
	err := w.leave(g)
	switch {
	case err != nil && result == nil:
		return err
	case err != nil:
		fmt.Fprintln(g.stderr, err)
	}
	return result
}

// refused dresses an error of the coordinator: exit codes 3 and 4 say who acts.
func (g *globals) refused(w *worker, k grant.Key, err error) error {
	e, ok := errors.AsType[*refresh.Error](err)
	which := oncall.ID(k.App) + " " + oncall.ID(k.Tenant)
	out := &cli.Error{Exit: cli.ExitFailed, Code: "failed", Err: err, Hint: "tokenlatch explain " + which}
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded) && !ok:
		out.Exit, out.Code, out.Err = cli.ExitLater, "timeout", fmt.Errorf("%s: no token within the time that --wait gives", k)
		out.RetryAfter = pendingFor(w, k)
	case !ok:
		return g.failed(w.session, err)
	case errors.Is(err, refresh.ErrReauthorize):
		out.Exit, out.Code = cli.ExitTenant, codeOr(e, "reauthorize")
	case errors.Is(err, refresh.ErrNotConnected):
		out.Exit, out.Code, out.Hint = cli.ExitTenant, codeOr(e, "not_connected"), "tokenlatch ls "+oncall.ID(k.App)+" lists the grants there are"
		if alike := didYouMean(context.Background(), w.session, k); alike != "" {
			out.Err = fmt.Errorf("%w%s", err, alike)
		}
	case errors.Is(err, refresh.ErrUnavailable), errors.Is(err, refresh.ErrPending):
		out.Exit, out.Code, out.RetryAfter = cli.ExitLater, codeOr(e, "unavailable"), e.RetryAfter
	default:
		out.Code = codeOr(e, "client_config")
	}
	return out
}

func codeOr(e *refresh.Error, otherwise string) string {
	if e.Code != "" {
		return e.Code
	}
	return otherwise
}

// pendingFor returns when to ask again for what is under way.
func pendingFor(w *worker, k grant.Key) time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := w.tokens.TryToken(ctx, k.Tenant)
	if e, ok := errors.AsType[*refresh.Error](err); ok {
		return e.RetryAfter
	}
	return time.Second
}

// unconfirmed says what a change would do, and how to confirm it.
func unconfirmed(command string, k grant.Key, format string, args ...any) error {
	return &cli.Error{
		Exit: cli.ExitUnconfirmed, Code: "not_confirmed", Err: fmt.Errorf("not confirmed: "+format, args...),
		Hint: "tokenlatch " + command + " " + oncall.ID(k.App) + " " + oncall.ID(k.Tenant) + " --confirm " + oncall.ID(k.Tenant),
	}
}

// after shows a grant as it is after a change.
func (g *globals) after(ctx context.Context, w *worker, k grant.Key, what string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.timeout)
	defer cancel()
	row, err := w.Grant(ctx, k)
	if err != nil {
		return g.failed(w.session, err)
	}
	return g.showGrant(&row, what)
}

// showGrant prints one grant: as ls does in JSON, in a line else.
func (g *globals) showGrant(row *inspect.Row, what string) error {
	f := oncall.Look(row)
	if g.asJSON() {
		return g.object(oncall.GrantOf(row, f))
	}
	line := term.Line{term.In(cli.Bold, oncall.ID(row.App)+" "+oncall.ID(row.Tenant)), term.In(cli.Plain, ": "+what)}
	if row.Err == nil && row.Record.State == grant.Active {
		line = append(line, term.In(cli.Plain, fmt.Sprintf("; generation %d, its token has %s", row.Record.Generation, strings.TrimSuffix(oncall.Left(grant.Time(row.Record.ExpiresAt), grant.Time(row.Now)), " left"))))
	}
	return g.text(line.Text(0, g.colour()) + "\n")
}
