package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// globals are the flags that the commands for people on call share.
type globals struct {
	stdout, stderr io.Writer

	redis, passwordFile, prefix string
	timeout                     time.Duration
	json, jsonl                 bool
	noColour, quiet             bool
}

func newGlobals(root *cobra.Command, stdout, stderr io.Writer) *globals {
	g := &globals{stdout: stdout, stderr: stderr}
	fs := root.PersistentFlags()
	fs.SortFlags = false
	fs.StringVar(&g.redis, "redis", "", "`URL` of the Redis, or host:port (default $"+cli.RedisVariable+", which may hold a password): tokenlatch help redis")
	fs.StringVar(&g.passwordFile, "redis-password-file", "", "`FILE` with the password of that Redis, which must not stand on the command line")
	fs.StringVar(&g.prefix, "prefix", grant.DefaultPrefix, "`TEXT` with which all keys begin")
	fs.DurationVar(&g.timeout, "timeout", 5*time.Second, "how long Redis may take for one request")
	fs.BoolVar(&g.json, "json", false, "print JSON: a list is one array")
	fs.BoolVar(&g.jsonl, "jsonl", false, "print JSON, one object a line, as it comes")
	fs.BoolVar(&g.noColour, "no-color", false, "no colour; NO_COLOR and TERM=dumb say the same")
	fs.BoolVarP(&g.quiet, "quiet", "q", false, "say nothing but data and errors")
	return g
}

// check refuses global flags that a command does not take, and what contradicts itself.
func (g *globals) check(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if cmd.Root().PersistentFlags().Lookup(f.Name) == f && !cli.Takes(cmd, f.Name) {
			err = cli.Usage(fmt.Errorf("does not take --%s", f.Name))
		}
	})
	switch {
	case err != nil:
		return err
	case g.json && g.jsonl:
		return cli.Usage(errors.New("--json and --jsonl: give one of them"))
	case g.timeout <= 0:
		return cli.Usage(fmt.Errorf("--timeout %s: must be longer than 0s", g.timeout))
	}
	return nil
}

func (g *globals) asJSON() bool { return g.json || g.jsonl }

func (g *globals) colour() bool { return !g.noColour && term.Coloured(g.stdout) }

// talk says something to people, beside the data.
func (g *globals) talk(format string, args ...any) {
	if !g.quiet && !g.asJSON() {
		fmt.Fprintf(g.stderr, format+"\n", args...)
	}
}

// session is a Redis to read from.
type session struct {
	*inspect.Inspector
	rdb  redis.UniversalClient
	addr string
}

func (s *session) close() { _ = s.rdb.Close() }

// place returns where the grants are, for people.
func (g *globals) place(s *session) string {
	return fmt.Sprintf("%s, prefix %s", cli.Place(s.addr), g.prefix)
}

// open returns the Redis that the flags name. It does not connect yet.
func (g *globals) open(cmd *cobra.Command) (*session, error) {
	addr, err := cli.RedisAddr(cmd.Flags(), g.redis, g.passwordFile)
	switch {
	case err != nil:
		return nil, &cli.Error{Exit: cli.ExitUsage, Code: "usage", Err: err, Hint: "tokenlatch help redis"}
	case addr == "":
		return nil, &cli.Error{Exit: cli.ExitUsage, Code: "usage", Err: errors.New("which Redis? Give --redis, or set " + cli.RedisVariable), Hint: "tokenlatch help redis"}
	}
	rdb, err := cli.Open(addr, g.timeout)
	if err != nil {
		return nil, cli.Usage(err)
	}
	in, err := inspect.New(rdb, inspect.Config{Prefix: g.prefix, Timeout: g.timeout})
	if err != nil {
		_ = rdb.Close()
		return nil, cli.Usage(fmt.Errorf("--prefix: %w", err))
	}
	return &session{in, rdb, addr}, nil
}

// failed dresses an error of Redis: a code for programs, and the next command.
func (g *globals) failed(s *session, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if unfit := engine.Unfit(err); unfit != nil {
		err = unfit
	}
	ping := strings.Join(append(cli.CommandLine(s.addr), "ping"), " ")
	var network net.Error
	switch {
	case redis.IsAuthError(err):
		return &cli.Error{Exit: cli.ExitFailed, Code: "redis_login", Err: fmt.Errorf("%s refuses the login: %w", cli.Place(s.addr), err), Hint: "name a file with the password by --redis-password-file, or put a URL with user and password into " + cli.RedisVariable}
	case errors.Is(err, tokencache.ErrUnfit):
		return &cli.Error{Exit: cli.ExitFailed, Code: "redis_unfit", Err: err, Hint: strings.Join(append(cli.CommandLine(s.addr), "acl", "whoami"), " ") + " says as whom; tokenlatch help operations rights has the rights of a worker, and of a user who only looks"}
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout():
		return &cli.Error{Exit: cli.ExitFailed, Code: "redis_timeout", Err: fmt.Errorf("%s does not answer within %s: %w", cli.Place(s.addr), g.timeout, err), Hint: ping + " must answer PONG; --timeout 30s waits longer"}
	case errors.As(err, &network):
		return &cli.Error{Exit: cli.ExitFailed, Code: "redis_unreachable", Err: fmt.Errorf("cannot reach Redis at %s: %w", cli.Place(s.addr), err), Hint: ping + " must answer PONG"}
	}
	return &cli.Error{Exit: cli.ExitFailed, Code: "redis", Err: err, Hint: ping + " must answer PONG"}
}

// noGrant says that there is no such grant.
func (g *globals) noGrant(ctx context.Context, s *session, k grant.Key) error {
	return &cli.Error{
		Exit: cli.ExitFailed, Code: "no_such_grant", Err: fmt.Errorf("%s has no grant of tenant %s (%s)%s", oncall.ID(k.App), oncall.ID(k.Tenant), g.place(s), didYouMean(ctx, s, k)),
		Hint: "tokenlatch ls " + oncall.ID(k.App) + " lists those there are",
	}
}

// named takes exactly the arguments of these names.
func named(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return cli.Usage(fmt.Errorf("%s is missing", names[len(args)]))
		case len(args) > len(names):
			return cli.Usage(fmt.Errorf("takes no argument %q", args[len(names)]))
		}
		return nil
	}
}
