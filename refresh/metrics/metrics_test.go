package metrics_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/metrics"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "canary-7e21"

// process is one process with its metrics.
type process struct {
	t       *testing.T
	server  *refreshtest.Server
	cache   *tokencache.Cache
	metrics *metrics.Metrics
	reg     *prometheus.Registry
}

func start(t *testing.T) *process {
	t.Helper()
	cache, err := tokencache.New(redistest.Start(t).Client(t), tokencache.Config{Prefix: redistest.Prefix(t), AEAD: tokencache.Plaintext})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t, refreshtest.Start(t, refreshtest.Config{TokenPrefix: canary}), cache, metrics.New(), prometheus.NewPedanticRegistry()}
	p.reg.MustRegister(p.metrics)
	return p
}

// works is a coordinator of an app.
func (p *process) works(app string) *refresh.Coordinator {
	p.t.Helper()
	zoom, err := provider.OAuth2(p.server.OAuth2Config(), provider.Profile{})
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := refresh.New(refresh.Config{App: app, Cache: p.cache, Provider: zoom, Observer: p.metrics})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			p.t.Error(err)
		}
	})
	return c
}

// connect connects a tenant whose access token has expired.
func (p *process) connect(c *refresh.Coordinator, tenant string) {
	p.t.Helper()
	tok := p.server.Grant(tenant)
	p.server.ExpireAccessTokens(tenant)
	tok.Expiry = time.Now().Add(-time.Second)
	if err := c.Connect(p.t.Context(), tenant, tok); err != nil {
		p.t.Fatal(err)
	}
}

// scrape is all that there is, as "name{label=value}", of histograms the count.
func (p *process) scrape() map[string]float64 {
	p.t.Helper()
	families, err := p.reg.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			all[fmt.Sprintf("%s{%s}", f.GetName(), strings.Join(labels, ","))] = number(m)
		}
	}
	return all
}

func number(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return float64(m.Histogram.GetSampleCount())
}

func (p *process) want(all map[string]float64, want map[string]float64) {
	p.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got, ok := all[name]; !ok || got != want[name] {
			p.t.Errorf("%s is %v, want %v (there: %v)", name, got, want[name], ok)
		}
	}
}

// served is how many tokens of an app were, wherever they came from.
func served(all map[string]float64, app string) (n float64) {
	for _, from := range []string{"memory", "redis", "refresh"} {
		n += all["tokenlatch_tokens_served_total{app="+app+",from="+from+"}"]
	}
	return n
}

func TestAWorkerIsMeasured(t *testing.T) {
	p := start(t)
	c := p.works("zoom")
	p.want(p.scrape(), map[string]float64{ // a rate needs a first value
		"tokenlatch_exchanges_total{app=zoom,outcome=ambiguous}": 0, "tokenlatch_saves_total{app=zoom,kind=late_commit}": 0,
		"tokenlatch_takeovers_total{app=zoom,result=lost}": 0, "tokenlatch_rejects_total{app=zoom,result=external}": 0,
		"tokenlatch_tokens_served_total{app=zoom,from=memory}": 0, "tokenlatch_waiters{app=zoom}": 0,
	})
	p.connect(c, "acme-tenant")
	for range 8 {
		if _, err := c.Token(t.Context(), "acme-tenant"); err != nil {
			t.Fatal(err)
		}
	}
	all := p.scrape()
	for end := time.Now().Add(20 * time.Second); all["tokenlatch_push_delay_seconds{}"] == 0; all = p.scrape() { // its own commit comes back
		if time.Now().After(end) {
			t.Fatal("no push was measured")
		}
		time.Sleep(time.Millisecond)
	}
	p.want(all, map[string]float64{
		"tokenlatch_exchanges_total{app=zoom,outcome=refreshed}":           1,
		"tokenlatch_exchange_duration_seconds{app=zoom,outcome=refreshed}": 1,
		"tokenlatch_token_wait_seconds{app=zoom,how=led}":                  1,
		"tokenlatch_tokens_served_total{app=zoom,from=refresh}":            1,
		"tokenlatch_redis_duration_seconds{op=commit}":                     1,
		"tokenlatch_redis_duration_seconds{op=claim}":                      1,
		"tokenlatch_redis_duration_seconds{op=lease}":                      1,
		"tokenlatch_hot_grants{}":                                          1,
		"tokenlatch_pending_commits{app=zoom}":                             0,
		"tokenlatch_resubscriptions_total{}":                               0,
		"tokenlatch_unproven_messages_total{}":                             0,
	})
	if n := served(all, "zoom"); n != 8 || all["tokenlatch_tokens_served_total{app=zoom,from=memory}"] == 0 {
		t.Errorf("%v tokens were served, want 8, and most from memory: %v", n, all)
	}
	info := 0
	for name, n := range all {
		if strings.HasPrefix(name, "tokenlatch_build_info{version=") && n == 1 {
			info++
		}
		if strings.Contains(name, "acme") || strings.Contains(name, canary) {
			t.Errorf("%s names a tenant or a token", name)
		}
	}
	if info != 1 || len(p.server.Issued()) == 0 {
		t.Errorf("%d versions, %d tokens issued", info, len(p.server.Issued()))
	}
}

// What a provider answers must not become labels: neither its codes nor its descriptions.
func TestLabelsAreOfClosedLists(t *testing.T) {
	p := start(t)
	c := p.works("zoom")
	p.server.Script(refreshtest.Step{Times: -1, Status: 400, Body: `{"error":"` + canary + `"}`})
	before := len(p.scrape())
	for i := range 5 {
		tenant := fmt.Sprint("tenant-", i)
		p.connect(c, tenant)
		if _, err := c.Token(t.Context(), tenant); err == nil {
			t.Fatal("no error")
		}
	}
	all := p.scrape()
	p.want(all, map[string]float64{"tokenlatch_exchanges_total{app=zoom,outcome=refused}": 5})
	for name := range all {
		if strings.Contains(name, "tenant-") || strings.Contains(name, canary) {
			t.Error(name)
		}
	}
	if n := len(all); n > before+20 {
		t.Errorf("%d series became %d", before, n)
	}
}

// Counters never fall, and what a cache counts is counted once.
func TestCoordinatorsAddUpAlsoWhenTheyHaveEnded(t *testing.T) {
	p := start(t)
	for n := range 3 {
		c, other := p.works("zoom"), p.works("slack")
		tenant := fmt.Sprint("t", n)
		p.connect(c, tenant)
		for range 4 {
			if _, err := c.Token(t.Context(), tenant); err != nil {
				t.Fatal(err)
			}
		}
		p.want(p.scrape(), map[string]float64{
			"tokenlatch_hot_grants{}":                                float64(1),
			"tokenlatch_tokens_served_total{app=zoom,from=refresh}":  float64(n + 1),
			"tokenlatch_tokens_served_total{app=slack,from=memory}":  0,
			"tokenlatch_exchanges_total{app=zoom,outcome=refreshed}": float64(n + 1),
		})
		before := p.scrape()
		for _, c := range []*refresh.Coordinator{c, other, c} {
			if err := c.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if was, is := served(before, "zoom"), served(p.scrape(), "zoom"); was != float64(4*(n+1)) || is != was {
			t.Errorf("%v tokens, and %v after the end, want %d", was, is, 4*(n+1))
		}
	}
}
