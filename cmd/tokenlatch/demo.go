package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/demo"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// runDemo is the command "demo".
func runDemo(args []string, stdout, stderr io.Writer) int {
	opt, err := parseDemo(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return cli.ExitOK
	case err != nil:
		fmt.Fprintf(stderr, "tokenlatch demo: %v\nhint: tokenlatch demo -h lists the flags\n", err)
		return cli.ExitUsage
	}
	r, err := demo.Run(opt.Options, stdout, opt.json)
	if err != nil {
		fmt.Fprintf(stderr, "tokenlatch %v\n", err)
		return cli.ExitFailed
	}
	return publish(r, opt.json, stdout, stderr)
}

// publish prints the report.
func publish(r *demo.Report, asJSON bool, stdout, stderr io.Writer) int {
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
	json bool
}

const demoUsage = `usage: tokenlatch demo [flags]

Real worker processes share one Redis and ask for access tokens that live a few
seconds, in webhook storms that hit all of them at once. A strict authorization
server writes down every refresh token it is shown. Now and then the worker that
holds one is killed in mid-exchange. Nothing needs to be installed.

`

const demoExitCodes = `
Exit code 1: a refresh token was presented again against the provider's rules,
or a grant was lost other than by a kill between the provider's commit and ours.
`

// parseDemo reads the flags. flag.ErrHelp means that help was asked for and given.
func parseDemo(args []string, stdout io.Writer) (demoOptions, error) {
	var opt demoOptions
	var profile, passwordFile string
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.DurationVar(&opt.Duration, "duration", 15*time.Second, "how long the storms last; what is under way then may take up to 10s more")
	fs.IntVar(&opt.Workers, "workers", 4, "worker processes (`n` up to 32)")
	fs.IntVar(&opt.Tenants, "tenants", 6, "customer accounts (`n` up to 500)")
	fs.DurationVar(&opt.Latency, "latency", 150*time.Millisecond, "how long the provider takes for an exchange, at most 1s")
	fs.StringVar(&profile, "profile", "zoom", "provider whose rules the server obeys, by `name`: "+strings.Join(provider.PresetNames(), ", "))
	fs.StringVar(&opt.Redis, "redis", "", "`ADDR` of a real Redis to use instead of the embedded one: host:port or redis:// URL, 7.0 or newer; the demo removes its own keys at the end (default $"+cli.RedisVariable+", which may hold a password)")
	fs.StringVar(&passwordFile, "redis-password-file", "", "`FILE` with the password of that Redis, which must not stand on the command line")
	fs.BoolVar(&opt.Kill, "kill", true, "kill a holder in mid-exchange now and then; not with --naive, unless asked for; --kill=false switches it off")
	fs.BoolVar(&opt.Naive, "naive", false, "the same storms on workers that do not coordinate")
	fs.BoolVar(&opt.json, "json", false, "print the final report only, as JSON")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, demoUsage)
			cli.PrintFlags(stdout, fs)
			fmt.Fprint(stdout, demoExitCodes)
		}
		return opt, cli.Dashes(err)
	}
	switch arg := fs.Arg(0); {
	case arg == "true" || arg == "false":
		return opt, fmt.Errorf("takes flags only, got %q; write it as in --kill=%s", arg, arg)
	case fs.NArg() > 0:
		return opt, fmt.Errorf("takes flags only, got %q", arg)
	}
	if opt.Naive && !cli.Given(fs, "kill") {
		opt.Kill = false // every loss is then the workers' own doing
	}
	if err := opt.check(fs, profile); err != nil {
		return opt, err
	}
	var err error
	opt.Redis, err = cli.RedisAddr(fs, opt.Redis, passwordFile)
	return opt, err
}

func (o *demoOptions) check(fs *flag.FlagSet, profile string) error {
	p, known := provider.Preset(profile)
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
		return fmt.Errorf("--profile %q is not known; there are: %s", profile, strings.Join(provider.PresetNames(), ", "))
	}
	return nil
}
