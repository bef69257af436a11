package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// runVersion is the command "version".
func runVersion(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && cli.IsHelp(args[0]) {
		fmt.Fprintln(stdout, "usage: tokenlatch version")
		return cli.ExitOK
	}
	if len(args) > 0 {
		fmt.Fprintf(stderr, "tokenlatch version: takes no arguments, got %q\n", args[0])
		return cli.ExitUsage
	}
	version := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	fmt.Fprintf(stdout, "tokenlatch %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return cli.ExitOK
}
