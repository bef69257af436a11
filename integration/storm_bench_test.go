package integration

import (
	"testing"
	"time"
)

const aimOfStorm = 8 // ms, for the median caller

// BenchmarkStorm: 1,250 callers in 5 processes ask at once, a moment after the token
// expired. The provider answers in no time, so what a caller waits is ours.
func BenchmarkStorm(b *testing.B) {
	s := newSquad(b)
	s.storm() // not measured
	var took []time.Duration
	for b.Loop() {
		took = append(took, s.storm()...)
	}
	s.living("acme")
	b.ReportMetric(0, "ns/op") // says nothing: it is mostly preparation
	b.ReportMetric(ms(quantile(took, 0.5)), "p50-ms")
	b.ReportMetric(ms(quantile(took, 0.99)), "p99-ms")
	b.ReportMetric(aimOfStorm, "p50-ms-aim")
}

// storm is how long each caller took. All are ready before they are let loose by one
// message: a process that came late would find the work done.
func (s *squad) storm() []time.Duration {
	s.b.Helper()
	s.expire("acme", s.workers)
	var all []*sent
	for _, w := range s.workers {
		all = append(all, w.send(order{Op: "ready", Tenant: "acme", Callers: callersEach}))
	}
	for _, w := range s.workers {
		w.awaitPoint(waiting)
	}
	if err := s.rdb.Publish(s.ctx(), s.signal(), "go").Err(); err != nil {
		s.b.Fatal(err)
	}
	r := gather(all)
	s.checked(r, len(s.workers)*callersEach)
	return r.Took
}
