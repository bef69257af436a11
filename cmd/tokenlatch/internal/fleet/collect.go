package fleet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	grantsDesc                       = desc("tokenlatch_fleet_grants", "Grants by state, as `tokenlatch ls` has it.", "app", "state")
	overdueDesc                      = desc("tokenlatch_fleet_overdue", "Renewals that are overdue by more than a minute.", "app")
	oldestDesc                       = desc("tokenlatch_fleet_oldest_unresolved_claim_seconds", "For how long the oldest claim without outcome has been standing; 0 for none.", "app")
	circuitDesc                      = desc("tokenlatch_fleet_circuit_open", "1 if the provider refuses the client.", "app")
	hostsDesc                        = desc("tokenlatch_fleet_hosts_stopped", "Hosts of token endpoints that refuse the client, or want a pause, while others do not.", "app")
	pausedDesc                       = desc("tokenlatch_fleet_paused_until_seconds", "Until when the provider wants a pause, in seconds since 1970 by Redis' clock; 0 for none.", "app")
	reauthDesc                       = desc("tokenlatch_fleet_reauth_due", "Grants whose consent ends within that time, whatever is done.", "app", "within")
	checkDesc                        = desc("tokenlatch_doctor_check", "What a check of this Redis found: 0 ok, 1 warning, 2 failure.", "id")
	leadsDesc                        = desc("tokenlatch_exporter_leads", "1 if this exporter is the one of several that scans.")
	scannedDesc                      = desc("tokenlatch_fleet_scan_timestamp_seconds", "When the last whole scan ended, in seconds since 1970; 0 for not yet.")
	tookDesc                         = desc("tokenlatch_fleet_scan_duration_seconds", "How long the last whole scan took.")
	failedDesc                       = desc("tokenlatch_fleet_scan_failures_total", "Scans that failed.")
	descs                            = []*prometheus.Desc{grantsDesc, overdueDesc, oldestDesc, circuitDesc, hostsDesc, pausedDesc, reauthDesc, checkDesc, leadsDesc, scannedDesc, tookDesc, failedDesc}
	_           prometheus.Collector = (*Exporter)(nil)
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe tells Prometheus which metrics there are.
func (e *Exporter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect tells Prometheus what the last scan has found. An exporter that stands by has nothing of the fleet: two
// that tell would be summed.
func (e *Exporter) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	e.mu.Lock()
	f, leads, failures := e.found, e.leads, e.failures
	e.mu.Unlock()
	gauge(leadsDesc, number(leads))
	if !leads {
		return
	}
	ch <- prometheus.MustNewConstMetric(failedDesc, prometheus.CounterValue, float64(failures))
	if f == nil {
		gauge(scannedDesc, 0)
		return
	}
	gauge(scannedDesc, seconds(f.at))
	gauge(tookDesc, f.took.Seconds())
	for id, result := range f.checks {
		gauge(checkDesc, float64(result), id)
	}
	for name, a := range f.apps {
		a.collect(gauge, name)
	}
}

func (a *app) collect(gauge func(*prometheus.Desc, float64, ...string), name string) {
	for state, n := range a.states {
		gauge(grantsDesc, float64(n), name, state)
	}
	for within, n := range a.reauthDue {
		gauge(reauthDesc, float64(n), name, within)
	}
	gauge(overdueDesc, float64(a.overdue), name)
	gauge(oldestDesc, a.oldest.Seconds(), name)
	gauge(circuitDesc, number(a.open), name)
	gauge(hostsDesc, float64(a.hosts), name)
	gauge(pausedDesc, seconds(a.pausedTo), name)
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// seconds since 1970; 0 for the zero time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
