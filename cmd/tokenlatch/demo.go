package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/demo"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

func newDemo() *cobra.Command {
	var opt demoOptions
	cmd := &cobra.Command{
		Use: "demo [flags]", Short: "workers, webhook storms and SIGKILLs around a strict provider",
		Long: demoUsage, Example: `tokenlatch demo
tokenlatch demo --naive                 # the same storm without coordination
tokenlatch demo --compare               # both at once, side by side
tokenlatch demo --duration 30s --json`,
		Annotations: map[string]string{cli.Globals: "", cli.Tail: demoExitCodes},
		Args:        flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opt.settle(cmd.Flags()); err != nil {
				return cli.Usage(err)
			}
			return runDemo(opt, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	opt.define(cmd.Flags())
	return cmd
}

// flagsOnly refuses arguments. That of a switch is told how to write it.
func flagsOnly(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case args[0] == "true" || args[0] == "false":
		return cli.Usage(fmt.Errorf("takes flags only, got %q; write it as in --kill=%s", args[0], args[0]))
	}
	return cli.Usage(fmt.Errorf("takes flags only, got %q", args[0]))
}

func runDemo(opt demoOptions, stdout, stderr io.Writer) error {
	var r result
	var err error
	if opt.compare {
		r, err = demo.Compare(opt.Options, stdout, opt.json)
	} else {
		r, err = demo.Run(opt.Options, stdout, opt.json)
	}
	if err != nil {
		fmt.Fprintf(stderr, "tokenlatch %v\n", err)
		return cli.Ended(cli.ExitFailed)
	}
	return cli.Ended(publish(r, opt.json, stdout, stderr))
}

// result is a report of one run, or of two.
type result interface {
	WriteJSON(w io.Writer) error
	Lines() []term.Line
	Exit() int
}

// publish prints the report.
func publish(r result, asJSON bool, stdout, stderr io.Writer) int {
	var err error
	if asJSON {
		err = r.WriteJSON(stdout)
	} else {
		_, err = io.WriteString(stdout, term.Render(r.Lines(), 0, term.Coloured(stdout)))
	}
	if err != nil {
		fmt.Fprintf(stderr, "tokenlatch demo: the report could not be written: %v\n", err)
		return cli.ExitFailed
	}
	return r.Exit()
}

// demoOptions are the demo's flags.
type demoOptions struct {
	demo.Options
	json, compare         bool
	profile, passwordFile string
}

const demoUsage = `Real worker processes share one Redis and ask for access tokens that live a few
seconds, in webhook storms that hit all of them at once. A strict authorization
server writes down every refresh token it is shown. Now and then the worker that
holds one is killed in mid-exchange. Nothing needs to be installed: without
--redis and TOKENLATCH_REDIS the Redis is part of the demo.

`

const demoExitCodes = `
Exit code 1: a refresh token was presented again against the provider's rules,
or a grant was lost other than by a kill between the provider's commit and ours.
`

func (o *demoOptions) define(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.DurationVar(&o.Duration, "duration", 15*time.Second, "how long the storms last; what is under way then may take up to 10s more")
	fs.IntVar(&o.Workers, "workers", 4, "worker processes (`n` up to 32)")
	fs.IntVar(&o.Tenants, "tenants", 6, "customer accounts (`n` up to 500)")
	fs.DurationVar(&o.Latency, "latency", 150*time.Millisecond, "how long the provider takes for an exchange, at most 1s")
	fs.StringVar(&o.profile, "profile", "zoom", "provider whose rules the server obeys, by `name`: "+strings.Join(provider.PresetNames(), ", "))
	fs.StringVar(&o.Redis, "redis", "", "`ADDR` of a real Redis to use instead of the embedded one: host:port or redis:// URL, 7.0 or newer; the demo removes its own keys at the end (default $"+cli.RedisVariable+", which may hold a password)")
	fs.StringVar(&o.passwordFile, "redis-password-file", "", "`FILE` with the password of that Redis, which must not stand on the command line")
	fs.BoolVar(&o.Kill, "kill", true, "kill a holder in mid-exchange now and then; not with --naive, unless asked for; --kill=false switches it off")
	fs.BoolVar(&o.Naive, "naive", false, "the same storms on workers that do not coordinate")
	fs.BoolVar(&o.compare, "compare", false, "workers that coordinate and workers that do not, at once and side by side; without kills, unless asked for")
	fs.BoolVar(&o.json, "json", false, "print the final report only, as JSON")
}

// settle checks the flags, and fills in what follows from them.
func (o *demoOptions) settle(fs *pflag.FlagSet) (err error) {
	if o.Naive && o.compare {
		return errors.New("--naive and --compare: give one of them; --compare shows both")
	}
	if (o.Naive || o.compare) && !fs.Changed("kill") {
		o.Kill = false // every loss is then the workers' own doing
	}
	if err := o.check(); err != nil {
		return err
	}
	if o.Redis, err = cli.RedisAddr(fs, o.Redis, o.passwordFile); err == nil && !cli.OneServer(o.Redis) {
		err = errors.New("--redis: the demo takes one server, redis://host:port or host:port")
	}
	return err
}

func (o *demoOptions) check() error {
	p, known := provider.Preset(o.profile)
	o.Profile = p
	switch {
	case o.Duration < time.Second || o.Duration > demo.MaxDuration:
		return fmt.Errorf("--duration %s: must be between 1s and %s", o.Duration, demo.MaxDuration)
	case o.Workers < 1 || o.Workers > demo.MaxWorkers:
		return fmt.Errorf("--workers %d: must be between 1 and %d", o.Workers, demo.MaxWorkers)
	case o.Tenants < 1 || o.Tenants > demo.MaxTenants:
		return fmt.Errorf("--tenants %d: must be between 1 and %d", o.Tenants, demo.MaxTenants)
	case o.Latency < 0 || o.Latency > demo.MaxLatency:
		return fmt.Errorf("--latency %s: must be between 0s and %s", o.Latency, demo.MaxLatency)
	case !known:
		return fmt.Errorf("--profile %q is not known; there are: %s", o.profile, strings.Join(provider.PresetNames(), ", "))
	}
	return nil
}
