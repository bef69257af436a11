package metrics

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tokenlatch/tokenlatch/refresh"
)

// What is read at each scrape.
var (
	servedDesc                            = desc("tokenlatch_tokens_served_total", "Tokens handed out, by where they came from.", "app", "from")
	waitersDesc                           = desc("tokenlatch_waiters", "Callers who wait for a refresh now.", "app")
	pendingDesc                           = desc("tokenlatch_pending_commits", "Token pairs that this process alone has, since Redis does not take them.", "app")
	hotDesc                               = desc("tokenlatch_hot_grants", "Grants in this process's memory.")
	resubscribedDesc                      = desc("tokenlatch_resubscriptions_total", "Subscriber connections to Redis after the first one.")
	unprovenDesc                          = desc("tokenlatch_unproven_messages_total", "Messages whose sender has not proven that it may read the grants.")
	descs                                 = []*prometheus.Desc{servedDesc, waitersDesc, pendingDesc, hotDesc, resubscribedDesc, unprovenDesc}
	_                refresh.Observer     = (*Metrics)(nil)
	_                prometheus.Collector = (*Metrics)(nil)
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// totals are sums over coordinators, and over the caches that they share.
type totals struct {
	memory               map[string]uint64 // tokens that memory has served, by app
	resubscribed         uint64
	unproven             uint64
	hot                  int
	waiters, uncommitted map[string]int // by app
}

// add adds what some coordinators say.
func (t *totals) add(all []refresh.Reading) {
	caches := map[any]bool{}
	for _, r := range all {
		t.memory[r.App] += r.FromMemory
		if t.waiters != nil {
			t.waiters[r.App] += r.Waiters
			t.uncommitted[r.App] += r.PendingCommits
		}
		if caches[r.Cache.ID] {
			continue
		}
		caches[r.Cache.ID] = true
		t.hot += r.Cache.HotGrants
		t.unproven += r.Cache.Unproven
		t.resubscribed += max(r.Cache.Sessions, 1) - 1
	}
}

// end keeps what a coordinator has counted: counters never fall. The cache's are kept with its last coordinator.
func (m *Metrics) end(r *reader) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := r.read()
	delete(m.readers, r)
	m.over.memory[last.App] += last.FromMemory
	for other := range m.readers {
		if other.read().Cache.ID == last.Cache.ID {
			return
		}
	}
	m.over.unproven += last.Cache.Unproven
	m.over.resubscribed += max(last.Cache.Sessions, 1) - 1
}

// read sums what all coordinators say now, and those that have ended.
func (m *Metrics) read() totals {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.over
	t.memory, t.waiters, t.uncommitted = maps.Clone(t.memory), map[string]int{}, map[string]int{}
	var all []refresh.Reading
	for r := range m.readers {
		all = append(all, r.read())
	}
	t.add(all)
	return t
}

func (m *Metrics) vecs() []prometheus.Collector {
	return []prometheus.Collector{m.exchanges, m.took, m.waited, m.takeovers, m.saves, m.rejects, m.redis, m.pushed, m.info}
}

// Describe tells Prometheus which metrics there are.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.vecs() {
		c.Describe(ch)
	}
	for _, d := range descs {
		ch <- d
	}
}

// Collect tells Prometheus what they are now.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.vecs() {
		c.Collect(ch)
	}
	t := m.read()
	m.collectServed(ch, t)
	for app, n := range t.waiters {
		ch <- prometheus.MustNewConstMetric(waitersDesc, prometheus.GaugeValue, float64(n), app)
		ch <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, float64(t.uncommitted[app]), app)
	}
	ch <- prometheus.MustNewConstMetric(hotDesc, prometheus.GaugeValue, float64(t.hot))
	ch <- prometheus.MustNewConstMetric(resubscribedDesc, prometheus.CounterValue, float64(t.resubscribed))
	ch <- prometheus.MustNewConstMetric(unprovenDesc, prometheus.CounterValue, float64(t.unproven))
}

// collectServed joins what was told of each token with what memory has counted by itself.
func (m *Metrics) collectServed(ch chan<- prometheus.Metric, t totals) {
	for app, hot := range t.memory {
		for _, from := range refresh.CountServed.Labels() {
			n := value(m.served.WithLabelValues(app, from))
			if from == "memory" {
				n += float64(hot)
			}
			ch <- prometheus.MustNewConstMetric(servedDesc, prometheus.CounterValue, n, app, from)
		}
	}
}
