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
	"runtime"
	"runtime/debug"
)

// Exit codes of every command.
const (
	exitOK     = 0
	exitFailed = 1 // it ran, and the answer is no
	exitUsage  = 2 // it was not understood
)

// command is one word after "tokenlatch".
type command struct {
	name, summary string // no summary: not for people
	run           func(args []string, stdout, stderr io.Writer) int
}

func commands() []command {
	return []command{
		{"demo", "workers, webhook storms and SIGKILLs around a strict provider", runDemo},
		{"version", "print the version", runVersion},
		{workerCommand, "", runWorker},
	}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stdout)
		return exitOK
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
	return exitUsage
}

func help(topic []string, stdout, stderr io.Writer) int {
	if len(topic) > 0 && topic[0] != "help" {
		return run([]string{topic[0], "-h"}, stdout, stderr)
	}
	usage(stdout)
	return exitOK
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

func runVersion(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && isHelp(args[0]) {
		fmt.Fprintln(stdout, "usage: tokenlatch version")
		return exitOK
	}
	if len(args) > 0 {
		fmt.Fprintf(stderr, "tokenlatch version: takes no arguments, got %q\n", args[0])
		return exitUsage
	}
	version := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	fmt.Fprintf(stdout, "tokenlatch %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitOK
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }
