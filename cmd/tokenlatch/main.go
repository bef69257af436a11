// Command tokenlatch shows one OAuth refresh per grant across a whole fleet.
//
//	go run ./cmd/tokenlatch demo
//
// needs nothing installed: see "tokenlatch help".
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/demo"
)

// command is one word after "tokenlatch".
type command struct {
	name, summary string // no summary: not for people
	run           func(args []string, stdout, stderr io.Writer) int
}

func commands() []command {
	return []command{
		{"demo", "workers, webhook storms and SIGKILLs around a strict provider", runDemo},
		{"fake", "a fake OAuth provider to try things out with", runFake},
		{"version", "print the version", runVersion},
		{demo.WorkerCommand, "", demo.RunWorker},
	}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stdout)
		return cli.ExitOK
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		return help(rest, stdout, stderr)
	case "-v", "-version", "--version":
		name = "version"
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(rest, stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "tokenlatch: there is no command %q\nhint: tokenlatch help lists the commands\n", name)
	return cli.ExitUsage
}

func help(topic []string, stdout, stderr io.Writer) int {
	if len(topic) > 0 && topic[0] != "help" {
		return run([]string{topic[0], "-h"}, stdout, stderr)
	}
	usage(stdout)
	return cli.ExitOK
}

func usage(w io.Writer) {
	fmt.Fprint(w, "One OAuth refresh per grant, across a whole fleet.\n\nusage: tokenlatch <command> [flags]\n\n")
	for _, c := range commands() {
		if c.summary != "" {
			fmt.Fprintf(w, "  %-9s %s\n", c.name, c.summary)
		}
	}
	fmt.Fprint(w, "\ntokenlatch <command> -h lists a command's flags.\n")
}
