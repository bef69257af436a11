// Command tokenlatch shows one OAuth refresh per grant across a whole fleet, and tells people on call
// what became of each.
//
//	go run ./cmd/tokenlatch demo
//
// needs nothing installed: see "tokenlatch help".
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/demo"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/pages"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends it at once
	os.Exit(runCtx(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	return runCtx(context.Background(), args, stdout, stderr)
}

func runCtx(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return cli.ExitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return cli.ExitInterrupted
	}
	e := cli.AsError(err)
	began, spoilt := errors.AsType[*begunError](err) // an array that is on stdout already
	if e.Err != nil {
		report(cmd, e, asJSON(args) && (!spoilt || began.lines), stdout, stderr)
	}
	return e.Exit
}

// Commands are listed in the order in which somebody in trouble wants them. It is a setting of the whole
// process: set where each tree is made, it would be a race.
func init() { cobra.EnableCommandSorting = false }

// newRoot returns the tree of commands.
func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: "tokenlatch", Short: "One OAuth refresh per grant, across a whole fleet.",
		Long: `One OAuth refresh per grant, across a whole fleet.

Something is wrong? "tokenlatch ls --trouble" says who is affected and why,
"tokenlatch explain APP TENANT" what has happened and who acts, and
"tokenlatch doctor" whether it is Redis.`,
		Example:       "tokenlatch ls --trouble",
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs, Version: versionText(),
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetHelpFunc(cli.Help)
	root.SuggestionsMinimumDistance = 2
	root.SetHelpCommand(newHelp())
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cli.Usage(err) })
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknown(root, args[0])
	}
	g := newGlobals(root, stdout, stderr)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return g.check(cmd) }
	root.AddCommand(
		newLs(g), newApps(g), newInspect(g), newExplain(g), newJournal(g), newWatch(g), newWait(g), newDoctor(g), newExporter(g),
		newToken(g), newRefresh(g), newConnect(g), newDisconnect(g), newExport(g), newImport(g), newKeys(g), newAcceptLoss(g),
		newDemo(), newFake(), newVersion(g), newCompletion(), newWorker(),
	)
	root.AddCommand(topics()...)
	return root
}

func newWorker() *cobra.Command {
	return &cobra.Command{Use: demo.WorkerCommand, Hidden: true, DisableFlagParsing: true, RunE: func(cmd *cobra.Command, args []string) error {
		return cli.Ended(demo.RunWorker(args, cmd.OutOrStdout(), cmd.ErrOrStderr()))
	}}
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND, TOPIC or PAGE] [WORDS]", Short: "print the help of a command, about a topic, or a page of the documentation",
		Example:     "tokenlatch help exit-codes\ntokenlatch help operations rights",
		Annotations: map[string]string{cli.Globals: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			if done, err := printed(cmd.OutOrStdout(), args); done {
				return err
			}
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 || about.Hidden {
				return noHelp(cmd.Root(), args)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// noHelp says that there is no help about that, and which pages have a section about it.
func noHelp(root *cobra.Command, args []string) error {
	var alike []string
	for _, p := range pages.All() {
		if p.Sections(args...) != "" {
			alike = append(alike, "tokenlatch help "+p.Name+" "+strings.Join(args, " "))
		}
	}
	if len(alike) == 0 {
		return unknown(root, strings.Join(args, " "))
	}
	return &cli.Error{Exit: cli.ExitUsage, Code: "usage", Err: fmt.Errorf("there is no command and no topic %q, but a section of a page", strings.Join(args, " ")), Hint: strings.Join(alike, "; ")}
}

// printed prints what help has beside commands and topics: pages, and schemas. A topic of the same name comes first.
func printed(w io.Writer, args []string) (done bool, err error) {
	if len(args) == 0 || args[0] == "codes" && len(args) == 1 {
		return false, nil
	}
	if args[0] == "json" && len(args) == 2 {
		if text, ok := pages.Schema(args[1]); ok {
			_, err := io.WriteString(w, text)
			return true, err
		}
		return true, &cli.Error{Exit: cli.ExitUsage, Code: "usage", Err: fmt.Errorf("there is no schema %q", args[1]), Hint: "tokenlatch help json lists them"}
	}
	p, ok := pages.Find(args[0])
	if !ok {
		return false, nil
	}
	return true, page(w, p, args[1:])
}

// unknown says that there is no such command, and which is spelled alike.
func unknown(root *cobra.Command, name string) error {
	err := fmt.Errorf("there is no command %q", name)
	if alike := root.SuggestionsFor(name); len(alike) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(alike, " or "))
	}
	return &cli.Error{Exit: cli.ExitUsage, Code: "usage", Err: err, Hint: "tokenlatch help lists the commands"}
}

// asJSON reports whether a program reads the output. The flags need not have been understood.
func asJSON(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		return arg == "--json" || arg == "--jsonl" || arg == "--json=true" || arg == "--jsonl=true"
	})
}

// failure is an error in JSON: docs/json/error.schema.json.
type failure struct {
	Error failed `json:"error"`
}

type failed struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Exit    int    `json:"exit"`
	// RetryAfter goes with exit code 4 only.
	RetryAfter float64 `json:"retry_after_seconds,omitempty"`
}

// report says why a command failed, and what to do next: to people, and to programs as well.
func report(cmd *cobra.Command, e *cli.Error, asJSON bool, stdout, stderr io.Writer) {
	if e.Hint == "" && e.Exit == cli.ExitUsage {
		e.Hint = cmd.CommandPath() + " -h lists the flags"
	}
	fmt.Fprintf(stderr, "%s: %v\n", cmd.CommandPath(), e.Err)
	if e.Hint != "" {
		fmt.Fprintln(stderr, "hint: "+e.Hint)
	}
	if asJSON {
		_ = json.NewEncoder(stdout).Encode(failure{failed{e.Code, e.Err.Error(), e.Hint, e.Exit, e.RetryAfter.Seconds()}})
	}
}
