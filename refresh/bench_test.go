package refresh_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

// The aims that these benchmarks print beside what they measure.
const (
	aimOfMap = 1.5 // Token of a hot grant, over a map look-up and a look at the clock
	aimOfGet = 1.3 // Token from Redis, over a GET of the sealed pair
	aimOfOne = 1   // anything, over one oauth2.ReuseTokenSource for all
	aimOfTip = 25  // ns, of a Client, Transport or TokenSource that asks for its token
)

// duel measures two things in one run, in turns, so that their ratio says more than a
// noisy machine does.
type duel struct {
	ours, theirs func(goroutine int)
	parallel     int // goroutines of each
	calls        int // of each goroutine and turn
}

// run reports our ns/op, and how many times theirs that is as "x-<name>".
func (d duel) run(b *testing.B, name string, aim float64) {
	b.Helper()
	d.turn(d.theirs) // not measured
	d.turn(d.ours)
	var ours, theirs time.Duration
	turns := 0
	for b.Loop() {
		theirs += d.turn(d.theirs)
		ours += d.turn(d.ours)
		turns++
	}
	n := float64(turns * d.calls * d.parallel)
	b.ReportMetric(float64(ours)/n, "ns/op")
	b.ReportMetric(float64(theirs)/n, "ns/"+name)
	b.ReportMetric(float64(ours)/float64(theirs), "x-"+name)
	b.ReportMetric(aim, "x-"+name+"-aim")
}

// allocations reports those of one call, where none is the aim.
func allocations(b *testing.B, call func()) {
	b.Helper()
	b.ReportMetric(testing.AllocsPerRun(1000, call), "allocations")
	b.ReportMetric(0, "allocations-aim")
}

func (d duel) turn(call func(goroutine int)) time.Duration {
	start := time.Now()
	var all sync.WaitGroup
	for g := range d.parallel {
		all.Go(func() {
			for range d.calls {
				call(g)
			}
		})
	}
	all.Wait()
	return time.Since(start)
}

// crowd is n connected tenants, their names in random order.
func crowd(b *testing.B, n int) (*fleet, []string) {
	b.Helper()
	f := newFleet(b, refreshtest.Config{})
	w := f.roomy(1)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("tenant-", i)
	}
	ctx := context.Background()
	each(names, func(name string) {
		if err := w.Connect(ctx, name, lasting()); err != nil {
			b.Error(err)
		}
	})
	rand.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
	return f, names
}

// roomy is a worker whose memory has room for n grants, and which seals like real ones.
func (f *fleet) roomy(n int, alter ...func(*refresh.Config)) *worker {
	f.t.Helper()
	return f.worker(append(alter, func(cfg *refresh.Config) {
		cache, err := tokencache.New(cfg.Cache.Redis(), tokencache.Config{Prefix: f.prefix, AEAD: sealer(), HotGrants: n})
		if err != nil {
			f.t.Fatal(err)
		}
		cfg.Cache = cache
	})...)
}

// sealer is the AEAD of one new keyset.
var sealer = sync.OnceValue(func() tokencache.AEAD {
	keyset, err := seal.Generate()
	if err != nil {
		panic(err)
	}
	aead, err := seal.FromJSON(keyset)
	if err != nil {
		panic(err)
	}
	return aead
})

// lasting is a pair of the size that real ones have, which does not become due.
func lasting() *oauth2.Token {
	return &oauth2.Token{
		AccessToken: strings.Repeat("a", 600), RefreshToken: strings.Repeat("r", 600),
		Expiry: time.Now().Add(10 * time.Hour),
	}
}

// each calls f for all names, some at a time.
func each(names []string, f func(name string)) {
	var all sync.WaitGroup
	next := atomic.Int64{}
	for range 32 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(names)); i = next.Add(1) - 1 {
				f(names[i])
			}
		})
	}
	all.Wait()
}

// heat asks for all tokens until they are served from memory.
func heat(b *testing.B, w *worker, names []string) {
	b.Helper()
	each(names, func(name string) {
		for w.cache.Grant(key(name)).Peek() == nil {
			if _, err := w.Token(b.Context(), name); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// bare is what any in-process cache has to do: find an atomic pointer, and look at a
// monotonic clock.
type bare struct {
	token *oauth2.Token
	until time.Duration
}

var began = time.Now()

func bareMap(names []string) *xsync.Map[string, *atomic.Pointer[bare]] {
	m := xsync.NewMap[string, *atomic.Pointer[bare]]()
	for _, name := range names {
		p := &atomic.Pointer[bare]{}
		p.Store(&bare{lasting(), 10 * time.Hour})
		m.Store(name, p)
	}
	return m
}

func BenchmarkTokenHot(b *testing.B) {
	for _, n := range []int{1, 100, 100_000} {
		b.Run(fmt.Sprintf("grants=%d", n), func(b *testing.B) {
			f, names := crowd(b, n)
			w := f.roomy(n)
			heat(b, w, names)
			m := bareMap(names)
			ctx := context.Background()
			at := make([]struct {
				state uint64
				_     [56]byte // each goroutine's own cache line
			}, runtime.GOMAXPROCS(0))
			next := func(g int) string { // in an order that nobody allocated in
				x := at[g].state + uint64(g) + 0x9e3779b97f4a7c15
				at[g].state = x
				return names[(x*x>>20^x>>7)%uint64(n)]
			}
			duel{
				parallel: len(at), calls: 200_000,
				ours: func(g int) {
					if tok, err := w.Token(ctx, next(g)); tok == nil {
						b.Error(err)
					}
				},
				theirs: func(g int) {
					p, _ := m.Load(next(g))
					if s := p.Load(); time.Since(began) > s.until {
						b.Error("expired")
					}
				},
			}.run(b, "map", aimOfMap)
			allocations(b, func() { _, _ = w.Token(ctx, names[0]) })
		})
	}
}

// BenchmarkTokenSource is what a Client, Transport or TokenSource pays, beside the source
// that x/oauth2 has for many goroutines.
func BenchmarkTokenSource(b *testing.B) {
	f, names := crowd(b, 1)
	w := f.roomy(1)
	heat(b, w, names)
	ours := w.TokenSource(b.Context(), names[0])
	theirs := oauth2.ReuseTokenSource(lasting(), nil)
	call := func(s oauth2.TokenSource) func(int) {
		return func(int) {
			if tok, err := s.Token(); tok == nil {
				b.Error(err)
			}
		}
	}
	duel{ours: call(ours), theirs: call(theirs), parallel: runtime.GOMAXPROCS(0), calls: 200_000}.run(b, "reuse", aimOfOne)
	b.ReportMetric(aimOfTip, "ns/op-aim")
	allocations(b, func() { _, _ = ours.Token() })
}

func BenchmarkTokenFromRedis(b *testing.B) {
	for _, parallel := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", parallel), func(b *testing.B) {
			f, names := crowd(b, 20_000)
			w := f.roomy(100) // full, so that next to all of them are read
			ctx := context.Background()
			bare := make([]string, len(names))
			for i, name := range names {
				bare[i] = f.prefix + ":{zoom:" + name + "}:secret"
			}
			var at atomic.Int64
			duel{
				parallel: parallel, calls: 2000 / parallel,
				ours: func(int) {
					if _, err := w.Token(ctx, names[at.Add(1)%int64(len(names))]); err != nil {
						b.Error(err)
					}
				},
				theirs: func(int) {
					if err := w.rdb.Get(ctx, bare[at.Add(1)%int64(len(names))]).Err(); err != nil {
						b.Error(err)
					}
				},
			}.run(b, "get", aimOfGet)
		})
	}
}

func TestHotTokenDoesNotAllocate(t *testing.T) {
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	for w.cache.Grant(key("acme")).Peek() == nil {
		f.token(w, "acme")
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = w.Token(context.Background(), "acme") }); n != 0 {
		t.Errorf("%v allocations per call", n)
	}
}

// BenchmarkTokenHotObserved is what an Observer adds to Token of a hot grant, in turns with the same without one.
func BenchmarkTokenHotObserved(b *testing.B) {
	f, names := crowd(b, 1)
	bare := f.roomy(1)
	observed := f.roomy(1, newRecorder().by)
	heat(b, bare, names)
	heat(b, observed, names)
	ctx := context.Background()
	call := func(w *worker) func(int) {
		return func(int) {
			if tok, err := w.Token(ctx, names[0]); tok == nil {
				b.Error(err)
			}
		}
	}
	duel{ours: call(observed), theirs: call(bare), parallel: runtime.GOMAXPROCS(0), calls: 200_000}.run(b, "bare", 1.5)
	allocations(b, func() { _, _ = observed.Token(ctx, names[0]) })
}
