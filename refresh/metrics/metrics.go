// Package metrics is Prometheus metrics of a worker, as an Observer of package refresh:
//
//	m := metrics.New()
//	prometheus.MustRegister(m)
//	tokens, err := refresh.New(refresh.Config{App: "zoom", Observer: m, …})
//	http.Handle("/metrics", promhttp.Handler())
//
// One [Metrics] does for all coordinators and caches of a process. No metric has a tenant as a label, and none a token.
// Labels have few values: the apps, and those that docs/operations.md lists.
//
// What one process cannot know, such as how many grants wait for their customers, the command `tokenlatch exporter`
// reads from Redis.
package metrics

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tokenlatch/tokenlatch/refresh"
)

// Metrics is an Observer to give to [refresh.Config], and a Collector to register. It is safe for concurrent use.
type Metrics struct {
	refresh.Unobserved // for methods to come

	exchanges *prometheus.CounterVec
	took      *prometheus.HistogramVec
	waited    *prometheus.HistogramVec
	served    *prometheus.CounterVec // but what coherent memory serves
	takeovers *prometheus.CounterVec
	saves     *prometheus.CounterVec
	rejects   *prometheus.CounterVec
	redis     *prometheus.HistogramVec
	pushed    prometheus.Histogram
	info      prometheus.Gauge

	mu      sync.Mutex // guards what follows
	readers map[*reader]struct{}
	over    totals // of coordinators and caches that have ended
}

// reader is one coordinator.
type reader struct{ read func() refresh.Reading }

// Buckets of the histograms, in seconds.
var (
	exchangeBuckets = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	waitBuckets     = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	redisBuckets    = []float64{.0002, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}
	pushBuckets     = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}
)

// New returns Metrics that nobody has told anything yet.
func New() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		exchanges: counter("tokenlatch_exchanges_total", "Exchanges with the provider, by what came of them.", "app", "outcome"),
		took:      histogram("tokenlatch_exchange_duration_seconds", "How long the provider took.", exchangeBuckets, "app", "outcome"),
		waited:    histogram("tokenlatch_token_wait_seconds", "How long callers waited for a refresh, by what ended the wait.", waitBuckets, "app", "how"),
		served:    counter("tokenlatch_tokens_served_total", "", "app", "from"), // collected by hand
		takeovers: counter("tokenlatch_takeovers_total", "Claims without outcome that were taken over.", "app", "result"),
		saves:     counter("tokenlatch_saves_total", "Grants that would have been lost without the rule of that kind.", "app", "kind"),
		rejects:   counter("tokenlatch_rejects_total", "Access tokens that an API refused.", "app", "result"),
		redis:     histogram("tokenlatch_redis_duration_seconds", "How long Redis took for an operation.", redisBuckets, "op"),
		pushed: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tokenlatch_push_delay_seconds", Help: "How long a change took from Redis to this process, in whole milliseconds.", Buckets: pushBuckets,
		}),
		info: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tokenlatch_build_info", Help: "1; the version of tokenlatch that this process runs.", ConstLabels: prometheus.Labels{"version": version()},
		}),
		readers: map[*reader]struct{}{},
		over:    totals{memory: map[string]uint64{}},
	}
	m.info.Set(1)
	return m
}

// version is that of the module tokenlatch in this program.
func version() string {
	const module = "github.com/tokenlatch/tokenlatch"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module && m.Version != "" {
			return m.Version
		}
	}
	return "unknown"
}

// Exchange counts an exchange when it ends.
func (m *Metrics) Exchange(ctx context.Context, x refresh.Exchange) (context.Context, func(refresh.ExchangeEnd)) {
	return ctx, func(e refresh.ExchangeEnd) {
		m.exchanges.WithLabelValues(x.App, string(e.Outcome)).Inc()
		m.took.WithLabelValues(x.App, string(e.Outcome)).Observe(e.Took.Seconds())
	}
}

// Waited notes how long a caller waited.
func (m *Metrics) Waited(_ context.Context, w refresh.Wait) {
	m.waited.WithLabelValues(w.App, string(w.How)).Observe(w.Took.Seconds())
}

// Counted counts.
func (m *Metrics) Counted(app string, what refresh.Count, label string) {
	if vec := m.counts()[what]; vec != nil {
		vec.WithLabelValues(app, label).Inc()
	}
}

func (m *Metrics) counts() map[refresh.Count]*prometheus.CounterVec {
	return map[refresh.Count]*prometheus.CounterVec{
		refresh.CountServed: m.served, refresh.CountTakeovers: m.takeovers, refresh.CountSaves: m.saves, refresh.CountRejects: m.rejects,
	}
}

// Redis notes how long an operation took.
func (m *Metrics) Redis(op string, took time.Duration) {
	m.redis.WithLabelValues(op).Observe(took.Seconds())
}

// Pushed notes how long a change was on its way.
func (m *Metrics) Pushed(delay time.Duration) { m.pushed.Observe(delay.Seconds()) }

// Watch has a coordinator's counters and gauges read at each scrape, until it ends.
func (m *Metrics) Watch(read func() refresh.Reading) (ended func()) {
	r := &reader{read}
	m.announce(read().App)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readers[r] = struct{}{}
	return func() { m.end(r) }
}

// announce makes an app's counters be there from the beginning: a rate needs a first value.
func (m *Metrics) announce(app string) {
	for _, outcome := range refresh.Outcomes() {
		m.exchanges.WithLabelValues(app, string(outcome))
	}
	for what, vec := range m.counts() {
		for _, label := range what.Labels() {
			vec.WithLabelValues(app, label)
		}
	}
}
