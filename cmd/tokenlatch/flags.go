package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Bounds of the flags: what a demo can keep up with on a laptop.
const (
	maxDuration = time.Hour
	maxWorkers  = 32
	maxTenants  = 500
	maxLatency  = time.Second // must fit well into exchangeTimeout
)

// options are the demo's flags.
type options struct {
	duration time.Duration
	workers  int
	tenants  int
	latency  time.Duration
	profile  provider.Profile
	redis    string // empty: embedded; may hold a password
	kill     bool
	naive    bool
	json     bool
}

const demoUsage = `usage: tokenlatch demo [flags]

Real worker processes share one Redis and ask for access tokens that live a few
seconds, in webhook storms that hit all of them at once. A strict authorization
server writes down every refresh token it is shown. Now and then the worker that
holds one is killed in mid-exchange. Nothing needs to be installed.

`

// parseDemo reads the flags. flag.ErrHelp means that help was asked for and given.
func parseDemo(args []string, stdout io.Writer) (options, error) {
	var opt options
	var profile, passwordFile string
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.DurationVar(&opt.duration, "duration", 15*time.Second, "how long the storms last; what is under way then may take up to 10s more")
	fs.IntVar(&opt.workers, "workers", 4, "worker processes (`n` up to 32)")
	fs.IntVar(&opt.tenants, "tenants", 6, "customer accounts (`n` up to 500)")
	fs.DurationVar(&opt.latency, "latency", 150*time.Millisecond, "how long the provider takes for an exchange, at most 1s")
	fs.StringVar(&profile, "profile", "zoom", "provider whose rules the server obeys, by `name`: "+strings.Join(provider.PresetNames(), ", "))
	fs.StringVar(&opt.redis, "redis", "", "`ADDR` of a real Redis to use instead of the embedded one: host:port or redis:// URL, 7.0 or newer; the demo removes its own keys at the end (default $"+redisVariable+", which may hold a password)")
	fs.StringVar(&passwordFile, "redis-password-file", "", "`FILE` with the password of that Redis, which must not stand on the command line")
	fs.BoolVar(&opt.kill, "kill", true, "kill a holder in mid-exchange now and then; not with --naive, unless asked for; --kill=false switches it off")
	fs.BoolVar(&opt.naive, "naive", false, "the same storms on workers that do not coordinate")
	fs.BoolVar(&opt.json, "json", false, "print the final report only, as JSON")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			printFlags(fs, stdout)
		}
		return opt, dashes(err)
	}
	switch arg := fs.Arg(0); {
	case arg == "true" || arg == "false":
		return opt, fmt.Errorf("takes flags only, got %q; write it as in --kill=%s", arg, arg)
	case fs.NArg() > 0:
		return opt, fmt.Errorf("takes flags only, got %q", arg)
	}
	if opt.naive && !given(fs, "kill") {
		opt.kill = false // every loss is then the workers' own doing
	}
	if err := opt.check(fs, profile); err != nil {
		return opt, err
	}
	var err error
	opt.redis, err = redisAddr(fs, opt.redis, passwordFile)
	return opt, err
}

func (o *options) check(fs *flag.FlagSet, profile string) error {
	p, known := provider.Preset(profile)
	o.profile = p
	switch {
	case o.duration < time.Second || o.duration > maxDuration:
		return fmt.Errorf("--duration %s: must be between 1s and %s", o.duration, maxDuration)
	case o.workers < 1 || o.workers > maxWorkers:
		return fmt.Errorf("--workers %d: must be between 1 and %d", o.workers, maxWorkers)
	case o.tenants < 1 || o.tenants > maxTenants:
		return fmt.Errorf("--tenants %d: must be between 1 and %d", o.tenants, maxTenants)
	case o.latency < 0 || o.latency > maxLatency:
		return fmt.Errorf("--latency %s: must be between 0s and %s", o.latency, maxLatency)
	case !known:
		return fmt.Errorf("--profile %q is not known; there are: %s", profile, strings.Join(provider.PresetNames(), ", "))
	}
	return nil
}

// given reports whether a flag was set by hand.
func given(fs *flag.FlagSet, name string) (set bool) {
	fs.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// dashes spells flags as the help does: package flag writes -name in its errors.
func dashes(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return errors.New(strings.NewReplacer("not defined: -", "not defined: --", "argument: -", "argument: --", " for flag -", " for flag --", " for -", " for --").Replace(err.Error()))
}

func printFlags(fs *flag.FlagSet, w io.Writer) {
	fmt.Fprint(w, demoUsage)
	fs.VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		head := "--" + f.Name
		if kind != "" {
			head += " " + kind
		}
		if f.DefValue != "" && f.DefValue != "false" {
			text += " (default " + f.DefValue + ")"
		}
		indent := strings.Repeat(" ", 23)
		if len(head) > 20 {
			head += "\n" + indent[1:]
		}
		fmt.Fprintf(w, "  %-20s %s\n", head, wrap(text, 56, indent))
	})
	fmt.Fprint(w, "\nExit code 1: a refresh token was presented again against the provider's rules,\nor a grant was lost other than by a kill between the provider's commit and ours.\n")
}

// wrap breaks text into lines of at most width columns; all but the first are indented.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	left := width
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case len(word)+1 > left:
			b.WriteString("\n" + indent)
			left = width
		default:
			b.WriteByte(' ')
			left--
		}
		b.WriteString(word)
		left -= len(word)
	}
	return b.String()
}
