package refresh_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// The aims that these benchmarks print beside what they measure.
const (
	aimOfRoom  = 2048  // bytes of a grant at rest, with its journal
	aimOfClaim = 2     // taking due grants from sets of a million, over sets of a thousand
	aimOfRate  = 300.0 // refreshes a second: a million grants an hour
)

// typical is an access token of 700 bytes, a JWT of a few claims, and a refresh token of 64.
func typical() *oauth2.Token {
	random := func(n int) string {
		var b strings.Builder
		for b.Len() < n {
			b.WriteString(strconv.FormatUint(rand.Uint64(), 36))
		}
		return b.String()[:n]
	}
	return &oauth2.Token{AccessToken: random(700), RefreshToken: random(64), TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)}
}

// room is what Redis needs for a key, in bytes.
func (f *fleet) room(rdb redis.UniversalClient, tenant, what string) int64 {
	f.t.Helper()
	n, err := rdb.MemoryUsage(f.ctx(), f.prefix+":{zoom:"+tenant+"}:"+what, 0).Result()
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// BenchmarkGrantMemory: what one grant takes in Redis, by MEMORY USAGE, and at rest, when Run has
// compacted the journal, by used_memory over the number of so many copies: with all that is around
// the keys, and without the reserve that MEMORY USAGE estimates for streams. A journal is young
// after the consent and full after many refreshes.
func BenchmarkGrantMemory(b *testing.B) {
	for _, c := range []struct {
		name      string
		refreshes int
	}{{"young", 0}, {"full", 50}} {
		b.Run("journal="+c.name, func(b *testing.B) {
			f := newFleet(b, refreshtest.Config{})
			f.redis, f.prefix = redistest.Own(b), "tl" // the default, since keys take room too
			w := f.worker()
			if err := w.Connect(f.ctx(), "acme", typical()); err != nil {
				b.Fatal(err)
			}
			asked := journal.Note{Why: journal.Asked}
			answered := journal.Note{Took: 412 * time.Millisecond, RequestID: "7d1f62b0-3c1e-4c55-9a7a-0f6f4f1f2b9e"}
			s, err := w.cache.Grant(key("acme")).Read(f.ctx())
			for i := 0; err == nil && i < c.refreshes; i++ {
				_, s, err = w.cache.Grant(s.Key).As("worker-1").With(asked).Claim(f.ctx(), s, engine.NewID(), time.Minute, grant.AtOnce)
				if err == nil {
					pair := s.Pair
					pair.RefreshToken = grant.Hide(typical().RefreshToken) // rotated: the record keeps the spent ones
					_, s, err = w.cache.Grant(s.Key).As("worker-1").With(answered).Commit(f.ctx(), s, engine.NewID(), pair, false, true)
				}
			}
			if err != nil {
				b.Fatal(err)
			}
			var journal int64
			for b.Loop() {
				journal = f.room(w.rdb, "acme", "journal")
			}
			without := f.room(w.rdb, "acme", "grant") + f.room(w.rdb, "acme", "secret")
			if err := w.cache.Grant(key("acme")).Compact(f.ctx()); err != nil {
				b.Fatal(err)
			}
			estimate := f.room(w.rdb, "acme", "journal")
			const many = 20_000
			before := usedMemory(b, w.rdb)
			f.copied(w, many)
			rest := float64(usedMemory(b, w.rdb)-before) / many
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(without), "B/without-journal")
			b.ReportMetric(float64(without+journal), "B/with-journal")
			b.ReportMetric(float64(without+estimate), "B/at-rest-estimate")
			b.ReportMetric(rest, "B/at-rest")
			b.ReportMetric(aimOfRoom, "B/at-rest-aim")
		})
	}
}

// copies makes n grants of one, inside Redis, at rest. They are due in a year.
var copies = redis.NewScript(`
for i = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  for _, what in ipairs({ 'grant', 'secret', 'journal' }) do
    redis.call('COPY', ARGV[1] .. ':{zoom:acme}:' .. what, ARGV[1] .. ':{zoom:copy' .. i .. '}:' .. what)
  end
  redis.call('ZADD', string.format('%s:due:zoom:%02d', ARGV[1], i % 16), ARGV[4] + i, 'copy' .. i)
end`)

// BenchmarkScale: what a grant takes among so many (used_memory over their number: keys, hash
// tables and due sets with all), how long it takes to take a due one, and how many refreshes a
// second two processes' Run make meanwhile. The provider is in the benchmark's process, and
// Redis on the same cores.
func BenchmarkScale(b *testing.B) {
	for _, grants := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("grants=%d", grants), func(b *testing.B) {
			f := newFleet(b, refreshtest.Config{})
			f.redis, f.prefix = redistest.Own(b), "tl" // the default, since keys take room too
			w := f.worker()
			if err := w.Connect(f.ctx(), "acme", typical()); err != nil {
				b.Fatal(err)
			}
			before := usedMemory(b, w.rdb)
			f.copied(w, grants)
			each := float64(usedMemory(b, w.rdb)-before) / float64(grants)
			few, many := f.claimTime(w, "few", 1000), f.claimTime(w, "zoom", 0)
			var renewed int
			var took time.Duration
			for b.Loop() {
				n, d := f.renewals(w, 2000)
				renewed, took = renewed+n, took+d
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(each, "B/grant")
			b.ReportMetric(aimOfRoom, "B/grant-aim")
			b.ReportMetric(float64(many), "ns/due-claim")
			b.ReportMetric(float64(many)/float64(few), "x-few")
			b.ReportMetric(aimOfClaim, "x-few-aim")
			b.ReportMetric(float64(renewed)/took.Seconds(), "refreshes/s")
			b.ReportMetric(took.Seconds()*1000/float64(renewed), "refresh-ms")
			b.ReportMetric(1000/aimOfRate, "refresh-ms-aim")
		})
	}
}

func usedMemory(b *testing.B, rdb redis.UniversalClient) int64 {
	b.Helper()
	info, err := rdb.InfoMap(b.Context(), "memory").Result()
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.ParseInt(info["Memory"]["used_memory"], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func (f *fleet) copied(w *worker, n int) {
	f.t.Helper()
	due := f.redisNow(w) + (365 * 24 * time.Hour).Milliseconds()
	const step = 5000
	for i := 0; i < n; i += step {
		if err := copies.Run(f.ctx(), w.rdb, nil, f.prefix, i, i+step-1, due).Err(); err != nil && err != redis.Nil {
			f.t.Fatal(err)
		}
	}
}

// claimTime is how long it takes to take one due grant, eight at a time, of the app's shards,
// after so many entries were added to each.
func (f *fleet) claimTime(w *worker, app string, add int) time.Duration {
	f.t.Helper()
	for shard := range engine.DueShards {
		for i := range add {
			w.rdb.ZAdd(f.ctx(), fmt.Sprintf("%s:due:%s:%02d", f.prefix, app, shard), redis.Z{Score: float64(f.redisNow(w)) + 1e10, Member: i})
		}
	}
	const calls = 400
	taken := 0
	start := time.Now()
	for i := range calls {
		due, err := w.cache.App(app).TakeDue(f.ctx(), i%engine.DueShards, 8, 2*365*24*time.Hour, time.Hour)
		if err != nil {
			f.t.Fatal(err)
		}
		taken += len(due)
	}
	return time.Since(start) / time.Duration(max(1, taken))
}

// renewals makes n grants due that are in use, and lets two workers renew them.
func (f *fleet) renewals(w *worker, n int) (int, time.Duration) {
	f.t.Helper()
	for i := range n {
		tenant := fmt.Sprint("due", i)
		f.connect(w, tenant, false)
		f.inUse(w, tenant)
	}
	before := f.server.Stats().Pairs
	a, b := f.worker(), f.worker()
	start := time.Now()
	stopA, stopB := f.run(a), f.run(b)
	for f.server.Stats().Pairs < before+n {
		if time.Since(start) > time.Minute {
			f.t.Fatalf("%d of %d grants were renewed in a minute", f.server.Stats().Pairs-before, n)
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(start)
	stopA()
	stopB()
	return n, took
}

// BenchmarkCrowd: 10,000 grants that are minted together, whose tokens live for a minute, and a
// provider that allows 700 requests a second, 32 at once. Three processes renew them, while
// tenants come whose token has expired. It fails if the provider ever sees more than the budget,
// or a token expires before it is renewed.
func BenchmarkCrowd(b *testing.B) {
	const grants = 10_000
	const life = time.Minute
	budget := provider.Budget{Requests: 700, Per: time.Second, Concurrency: 32}
	for b.Loop() {
		f := newFleet(b, refreshtest.Config{AccessTokenLife: life, LatencyBefore: 5 * time.Millisecond})
		f.redis, f.profile.Budget = redistest.Own(b), budget
		w := f.worker()
		took := f.minted(w, grants)
		listening, stop := context.WithCancel(b.Context())
		events := w.Events(listening)
		f.listening(w, 1)
		for range 3 {
			f.run(f.worker())
		}
		demand := f.comers(w, listening)
		early, late := f.renewedInTime(events, grants)
		stop()
		waits := <-demand
		slices.Sort(waits)
		l := f.server.Ledger()
		if n := l.Peak(budget.Per); n > budget.Requests {
			b.Errorf("%d exchanges within %s, the budget is %d", n, budget.Per, budget.Requests)
		}
		if n := l.InFlight(); n > budget.Concurrency {
			b.Errorf("%d exchanges at once, the budget is %d", n, budget.Concurrency)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(took.Seconds(), "minted-s")
		b.ReportMetric(float64(l.Peak(budget.Per))/float64(budget.Requests), "x-rate")
		b.ReportMetric(1, "x-rate-aim")
		b.ReportMetric(float64(l.InFlight())/float64(budget.Concurrency), "x-at-once")
		b.ReportMetric(1, "x-at-once-aim")
		b.ReportMetric(early.Seconds(), "first-s")
		b.ReportMetric(late.Seconds(), "last-s")
		b.ReportMetric(life.Seconds(), "last-s-aim")
		b.ReportMetric(float64(waits[len(waits)/2].Milliseconds()), "demand-p50-ms")
		b.ReportMetric(float64(waits[len(waits)*99/100].Milliseconds()), "demand-p99-ms")
	}
}

// minted connects n grants at once, that are in use.
func (f *fleet) minted(w *worker, n int) time.Duration {
	f.t.Helper()
	tokens := make([]*oauth2.Token, n)
	for i := range n {
		tokens[i] = f.server.Grant(fmt.Sprint("crowd", i))
	}
	start := time.Now()
	var next atomic.Int64
	var connecting sync.WaitGroup
	for range 64 {
		connecting.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				tokens[i].Expiry = time.Now().Add(time.Minute)
				if err := w.Connect(f.ctx(), fmt.Sprint("crowd", i), tokens[i]); err != nil {
					f.t.Error(err)
				}
			}
		})
	}
	connecting.Wait()
	took := time.Since(start)
	now := f.redisNow(w)
	_, err := w.rdb.Pipelined(f.ctx(), func(p redis.Pipeliner) error {
		for i := range n {
			p.HSet(f.ctx(), fmt.Sprintf("%s:{zoom:crowd%d}:grant", f.prefix, i), "used_at", now)
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return took
}

// comers are tenants who ask for a token that has expired, until ctx ends, and how long each waited.
func (f *fleet) comers(w *worker, ctx context.Context) <-chan []time.Duration {
	waited := make(chan []time.Duration, 1)
	go func() {
		var waits []time.Duration
		for i := 0; ctx.Err() == nil; i++ {
			f.connect(w, fmt.Sprint("comer", i), true)
			start := time.Now()
			f.token(w, fmt.Sprint("comer", i))
			waits = append(waits, time.Since(start))
			time.Sleep(100 * time.Millisecond)
		}
		waited <- waits
	}()
	return waited
}

// renewedInTime waits until each grant of the crowd has been renewed, and returns how long after
// it was minted the first and the last was. It fails if one had expired by then.
func (f *fleet) renewedInTime(events <-chan refresh.Event, n int) (first, last time.Duration) {
	f.t.Helper()
	const life = time.Minute
	first = life
	timeout := time.After(2 * life)
	for n > 0 {
		select {
		case e := <-events:
			if e.Kind != refresh.EventRefreshed || e.Generation != 2 || !strings.HasPrefix(e.Tenant, "crowd") {
				continue
			}
			epoch, err := strconv.ParseInt(strings.Split(e.ID, "/")[1], 10, 64) // of its consent
			if err != nil {
				f.t.Fatal(err)
			}
			age := e.At.Sub(time.UnixMilli(epoch))
			first, last, n = min(first, age), max(last, age), n-1
		case <-timeout:
			f.t.Fatalf("%d grants were not renewed", n)
		}
	}
	if last > life {
		f.t.Errorf("one was renewed %s after it was minted, when it had expired", last)
	}
	return first, last
}
