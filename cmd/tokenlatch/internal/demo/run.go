// Package demo is the show behind "tokenlatch demo". Worker processes share one Redis, webhooks storm
// in, a strict authorization server writes down what it is shown, and now and then the worker that
// holds a refresh token is killed in mid-exchange. The report is judged by the server's ledger.
package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Run runs the demo and shows it on stdout, unless that is to be quiet. The first Ctrl-C
// ends it with its report.
func Run(opt Options, stdout io.Writer, quiet bool) (*Report, error) {
	if !quiet {
		announce(opt, stdout)
	}
	v := newViewer(stdout, quiet)
	ctx, stop := interruptible(v)
	defer stop()
	return play(ctx, opt, v)
}

// announce says at once what is to come: whoever has waited for a compiler wants to know that it is done.
func announce(opt Options, stdout io.Writer) {
	fmt.Fprintf(stdout, "This binary is all that is needed: nothing is compiled or installed. It starts %s,\nlets webhooks storm for %s, and ends with a report. Ctrl-C ends it sooner.\n\n",
		plural(opt.Workers, "worker"), opt.Duration)
}

// interruptible is a ctx that the first Ctrl-C ends; the second ends the process,
// and with it the workers.
func interruptible(v viewer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
		<-signals
		if live, ok := v.(*screen); ok {
			live.Leave()
		}
		os.Exit(130)
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}
