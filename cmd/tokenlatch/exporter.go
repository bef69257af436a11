package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/doctor"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/fleet"
	"github.com/tokenlatch/tokenlatch/lock"
)

// exporterFlags are the flags of exporter.
type exporterFlags struct {
	*globals
	listen      string
	every       time.Duration
	once, alone bool
}

// exporterLease is how long another exporter waits for one that has died.
const exporterLease = 30 * time.Second

func newExporter(g *globals) *cobra.Command {
	x := &exporterFlags{globals: g}
	cmd := &cobra.Command{
		Use: "exporter [flags]", Short: "serve what Redis says of the whole fleet to Prometheus",
		Long: `Serves /metrics: grants by state, overdue renewals, the oldest claim without
outcome, open circuits, pauses, consents that end, and how safe this Redis is.
It reads all grants every 5 minutes, and no token; it needs no keyset.

Several may run: one of them scans, which has the key PREFIX:exporter, and the
others stand by (tokenlatch_exporter_leads is 0, and nothing else is told). With
--alone it scans without that key: its Redis user needs no right to write then.

tokenlatch help operations metrics has a table of the metrics, tokenlatch help
runbook what to do about each alert. docs/ops of the source has those, and a
dashboard.`,
		Example: `tokenlatch exporter --listen 127.0.0.1:9878
tokenlatch exporter --once | grep tokenlatch_fleet_grants`,
		Annotations: map[string]string{cli.Globals: "redis redis-password-file prefix timeout quiet"},
		Args:        named(),
		RunE:        func(cmd *cobra.Command, _ []string) error { return x.run(cmd) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&x.listen, "listen", "127.0.0.1:9878", "`ADDR` to listen on, host:port; port 0 takes a free one")
	fs.DurationVar(&x.every, "every", 5*time.Minute, "from one scan to the next, at least 1s")
	fs.BoolVar(&x.once, "once", false, "scan once, print the metrics and end")
	fs.BoolVar(&x.alone, "alone", false, "scan without asking whether another exporter does")
	return cmd
}

func (x *exporterFlags) run(cmd *cobra.Command) error {
	if x.every < time.Second {
		return cli.Usage(fmt.Errorf("--every %s: must be at least 1s", x.every))
	}
	s, err := x.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	cfg := fleet.Config{Inspector: s.Inspector, Checks: x.examine(s), Key: x.prefix + ":exporter", Every: x.every, Tell: x.tell}
	if !x.alone && !x.once {
		cfg.Locker = lock.New(lock.Config{TTL: exporterLease}, s.rdb)
	}
	e := fleet.New(cfg)
	registry := prometheus.NewRegistry()
	registry.MustRegister(e)
	if x.once {
		return x.failed(s, x.print(cmd.Context(), e, registry))
	}
	return x.serve(cmd.Context(), e, registry)
}

// examine makes the checks of `tokenlatch doctor` that write nothing, and are not about what the scan counts anyway. One
// that could not be made is left out.
func (x *exporterFlags) examine(s *session) func(ctx context.Context) map[string]int {
	sentinels, master := cli.Sentinels(s.addr)
	patient := doctor.Patient{
		Redis: s.rdb, Inspector: s.Inspector, Prefix: x.prefix, Place: cli.Place(s.addr), Encrypted: cli.Encrypted(s.addr),
		Sentinels: sentinels, Master: master, Pre: true, Skip: []string{"permissions", "push"}, Timeout: x.timeout,
	}
	results := map[doctor.Result]int{doctor.OK: 0, doctor.Warning: 1, doctor.Failure: 2}
	return func(ctx context.Context) map[string]int {
		found := map[string]int{}
		for f := range doctor.Examine(ctx, patient) {
			if result, made := results[f.Result]; made {
				found[f.ID] = result
			}
		}
		return found
	}
}

// tell says something to the people who look at the log.
func (x *exporterFlags) tell(text string, err error) {
	if err != nil {
		fmt.Fprintf(x.stderr, "%s: %v\n", text, err)
		return
	}
	x.talk("%s", text)
}

// print scans once, and prints what Prometheus would have got.
func (x *exporterFlags) print(ctx context.Context, e *fleet.Exporter, registry *prometheus.Registry) error {
	if err := e.Once(ctx); err != nil {
		return err
	}
	families, err := registry.Gather()
	for _, family := range families {
		if _, failed := expfmt.MetricFamilyToText(x.stdout, family); failed != nil {
			return failed
		}
	}
	return err
}

// serve scans and serves until ctx ends.
func (x *exporterFlags) serve(ctx context.Context, e *fleet.Exporter, registry *prometheus.Registry) error {
	ln, err := net.Listen("tcp", x.listen)
	if err != nil {
		return &cli.Error{Exit: cli.ExitFailed, Code: "address", Err: err, Hint: "--listen names another address"}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	x.talk("http://%s/metrics", ln.Addr())
	scanning, end := context.WithCancel(ctx)
	scanned := make(chan error, 1)
	go func() { scanned <- e.Run(scanning) }()
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	end()
	<-scanned // it gives the lease back
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(closing))
}
