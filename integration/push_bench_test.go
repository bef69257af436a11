package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

const (
	callersEach = 250 // of a process
	aimOfPush   = 1.5 // from commit sent to the last waiter, over a bare PUBLISH
)

// squad is one holder, and the processes that wait for what it brings.
type squad struct {
	*fleet
	b       *testing.B
	workers []*process
	rounds  int // presentations so far
}

// newSquad takes tokens of the size of real ones, sealed. All processes listen to the
// signal, too.
func newSquad(b *testing.B) *squad {
	b.Helper()
	keyset, err := seal.Generate()
	if err != nil {
		b.Fatal(err)
	}
	cfg := refreshtest.Config{TokenPrefix: strings.Repeat("t", 600)}
	f, workers := warmFleet(b, redistest.Start(b), cfg, func(s *setup) {
		s.Keyset, s.Lease = string(keyset), 30*time.Second // not extended in the middle of a round
		s.Quiet = true
	})
	f.server.SetLatency(0, 0)
	for _, w := range workers {
		w.do(order{Op: "listen", Channel: f.signal()})
	}
	return &squad{fleet: f, b: b, workers: workers}
}

func (f *fleet) signal() string { return f.setup.Prefix + ":signal" }

// checked counts a round in which n callers got a token.
func (s *squad) checked(r report, n int) {
	s.b.Helper()
	s.rounds++
	s.served(r, n)
	s.presented("acme", s.rounds)
	if s.b.Failed() {
		s.b.FailNow()
	}
}

// BenchmarkPush: from the commit being handed to go-redis to the last of 1,000 waiters in
// 4 processes holding the token; and, in turns with it, from a PUBLISH of as many bytes to
// the last of as many goroutines in the same processes.
func BenchmarkPush(b *testing.B) {
	s := newSquad(b)
	size := s.eventSize() // the first round, which is not measured
	s.publish(size)
	var commits, publishes []time.Duration
	for b.Loop() {
		commits = append(commits, s.commit())
		publishes = append(publishes, s.publish(size))
	}
	s.living("acme")
	commit, publish := quantile(commits, 0.5), quantile(publishes, 0.5)
	b.ReportMetric(0, "ns/op") // says nothing: it is mostly preparation
	b.ReportMetric(ms(commit), "commit-ms")
	b.ReportMetric(ms(publish), "publish-ms")
	b.ReportMetric(ms(quantile(commits, 0.95)), "commit-p95-ms")
	b.ReportMetric(ms(quantile(publishes, 0.95)), "publish-p95-ms")
	b.ReportMetric(float64(commit)/float64(publish), "x-publish")
	b.ReportMetric(aimOfPush, "x-publish-aim")
}

// commit is one round of ours: the holder is stopped with the answer of the provider on
// its way until everybody waits.
func (s *squad) commit() time.Duration {
	s.b.Helper()
	holder, others := s.workers[0], s.workers[1:]
	s.expire("acme", s.workers)
	gate := s.server.Hold(refreshtest.AfterCommit)
	own := holder.token("acme", 1)
	gate.Await(s.b)
	var all []*sent
	for _, w := range others {
		all = append(all, w.send(order{Op: "wait", Tenant: "acme", Callers: callersEach}))
	}
	for _, w := range others {
		w.awaitPoint(waiting)
	}
	gate.Release()
	r := gather(all)
	last := r.Last
	r.add(own.report())
	s.checked(r, len(others)*callersEach+1)
	sent := holder.do(order{Op: "counts"}).Sent[afterCommit]
	if sent.IsZero() {
		s.b.Fatal("the holder was not seen to commit")
	}
	return last.Sub(sent)
}

// publish is one round of the bare thing.
func (s *squad) publish(size int) time.Duration {
	s.b.Helper()
	holder, others := s.workers[0], s.workers[1:]
	var all []*sent
	for _, w := range others {
		all = append(all, w.send(order{Op: "ready", Callers: callersEach}))
	}
	for _, w := range others {
		w.awaitPoint(waiting)
	}
	sent := holder.do(order{Op: "signal", Channel: s.signal(), Size: size}).Sent["signal"]
	r := gather(all)
	if r.served() != len(others)*callersEach {
		s.b.Fatalf("the signal reached %d goroutines", r.served())
	}
	return r.Last.Sub(sent)
}

// eventSize is how many bytes a commit's event has, as seen in a round.
func (s *squad) eventSize() int {
	s.b.Helper()
	ctx := s.ctx()
	ps := s.rdb.Subscribe(ctx, s.key("acme", "events"))
	defer ps.Close()
	if _, err := ps.Receive(ctx); err != nil {
		s.b.Fatal(err)
	}
	s.commit()
	for {
		m, err := ps.ReceiveMessage(ctx)
		if err != nil {
			s.b.Fatalf("no commit was published: %v", err)
		}
		if _, body, _ := strings.Cut(m.Payload, "\n"); strings.HasPrefix(body, "commit ") {
			return len(m.Payload)
		}
	}
}

// quantile sorts all.
func quantile(all []time.Duration, q float64) time.Duration {
	slices.Sort(all)
	return all[int(q*float64(len(all)-1)+0.5)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
