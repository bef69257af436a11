package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// runDemo is the command "demo".
func runDemo(args []string, stdout, stderr io.Writer) int {
	opt, err := parseDemo(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "tokenlatch demo: %v\nhint: tokenlatch demo -h lists the flags\n", err)
		return exitUsage
	}
	v := newViewer(stdout, opt.json)
	ctx, stop := interruptible(stdout, v)
	defer stop()
	r, err := play(ctx, opt, v)
	if err != nil {
		fmt.Fprintf(stderr, "tokenlatch %v\n", err)
		return exitFailed
	}
	return publish(r, opt, stdout, stderr)
}

// publish prints the report.
func publish(r *report, opt options, stdout, stderr io.Writer) int {
	var err error
	if opt.json {
		err = r.writeJSON(stdout)
	} else {
		_, err = io.WriteString(stdout, render(r.lines(), 0, coloured(stdout)))
	}
	if err != nil {
		fmt.Fprintf(stderr, "tokenlatch demo: the report could not be written: %v\n", err)
		return exitFailed
	}
	return r.exit()
}

// interruptible is a ctx that the first Ctrl-C ends; the second ends the process,
// and with it the workers.
func interruptible(stdout io.Writer, v viewer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
		<-signals
		if _, live := v.(*screen); live {
			_, _ = io.WriteString(stdout, leaveScreen)
		}
		os.Exit(130)
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}
