package refresh_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// recorder is an Observer that remembers.
type recorder struct {
	mu      sync.Mutex
	counts  map[string]int // "saves/spare"
	redis   map[string]int
	begun   []refresh.Exchange
	ended   []refresh.ExchangeEnd
	waits   []refresh.Wait
	read    []func() refresh.Reading
	watched int
}

type exchangeNumber struct{}

func newRecorder() *recorder { return &recorder{counts: map[string]int{}, redis: map[string]int{}} }

func (r *recorder) Exchange(ctx context.Context, x refresh.Exchange) (context.Context, func(refresh.ExchangeEnd)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = append(r.begun, x)
	return context.WithValue(ctx, exchangeNumber{}, len(r.begun)), func(e refresh.ExchangeEnd) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = append(r.ended, e)
	}
}

func (r *recorder) Waited(_ context.Context, w refresh.Wait) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits = append(r.waits, w)
}

func (r *recorder) Counted(app string, what refresh.Count, label string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[fmt.Sprintf("%s/%s", what, label)]++
}

func (r *recorder) Redis(op string, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.redis[op]++
}

func (r *recorder) Pushed(time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.redis["push"]++
}

func (r *recorder) Watch(read func() refresh.Reading) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read, r.watched = append(r.read, read), r.watched+1
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watched--
	}
}

// outcomes are those of all exchanges that have ended.
func (r *recorder) outcomes() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.ended {
		all = append(all, string(e.Outcome))
	}
	return all
}

func (r *recorder) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[what]
}

// took is how often Redis was asked for something.
func (r *recorder) took(op string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.redis[op]
}

func (r *recorder) by(cfg *refresh.Config) { cfg.Observer = r }

func TestAnObserverHearsWhoLedAndWhoWaited(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	led, waited := newRecorder(), newRecorder()
	a, b := f.worker(led.by), f.worker(waited.by)
	f.connect(a, "acme", true)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	var callers sync.WaitGroup
	callers.Go(func() { f.token(a, "acme") })
	gate.Await(t)
	for range 3 {
		callers.Go(func() { f.token(b, "acme") })
	}
	f.eventually("three callers wait for the holder", func() bool {
		return waited.read[0]().Waiters == 3 && b.cache.Grant(key("acme")).Recall() != nil
	})
	gate.Release()
	callers.Wait()
	if n := waited.read[0]().Waiters; n != 0 {
		t.Errorf("%d callers are said to wait still", n)
	}
	if got := led.outcomes(); !slices.Equal(got, []string{"refreshed"}) {
		t.Errorf("exchanges ended as %v", got)
	}
	if got := waited.outcomes(); got != nil {
		t.Errorf("a process that made no exchange tells of %v", got)
	}
	x, e := led.begun[0], led.ended[0]
	if x.App != "zoom" || x.Tenant != "acme" || x.Generation != 1 || x.Why != "asked" || x.Takeover || e.Took <= 0 || e.CommitID == "" {
		t.Errorf("%+v %+v", x, e)
	}
	for _, w := range led.waits {
		if w.How != "led" || w.Exchange == nil || w.Exchange.Value(exchangeNumber{}) != 1 || w.CommitID != e.CommitID {
			t.Errorf("the leader: %+v", w)
		}
	}
	for _, w := range waited.waits {
		if w.How != "pushed" || w.Exchange != nil || w.CommitID != e.CommitID || w.Took <= 0 || w.Tenant != "acme" {
			t.Errorf("a waiter: %+v", w)
		}
	}
	if len(led.waits) != 1 || len(waited.waits) != 3 || led.count("served/refresh") != 1 || waited.count("served/refresh") != 3 {
		t.Errorf("%d and %d waits, %v %v", len(led.waits), len(waited.waits), led.counts, waited.counts)
	}
	if waited.took("push") == 0 {
		t.Error("no push was told of")
	}
	before := waited.read[0]().FromMemory
	for range 5 {
		f.token(b, "acme")
	}
	if n := waited.read[0]().FromMemory - before; n != 5 {
		t.Errorf("memory has served %d tokens, want 5", n)
	}
	for _, op := range []string{"lease", "claim", "commit", "connect"} {
		if led.took(op) == 0 {
			t.Errorf("nothing of %s", op)
		}
	}
}

func TestAnObserverHearsWhatBecomesOfExchanges(t *testing.T) {
	t.Parallel()
	step := func(status int, code string) refreshtest.Step {
		return refreshtest.Step{Status: status, Body: fmt.Sprintf(`{"error":%q}`, code)}
	}
	for _, c := range []struct {
		name     string
		steps    []refreshtest.Step
		profile  provider.Profile
		outcomes string
		code     string // of the first
	}{
		{"refused once", []refreshtest.Step{refusal}, provider.Profile{}, "[reauthorize refreshed]", "invalid_grant"},
		{"refused", []refreshtest.Step{refusal, refusal}, provider.Profile{}, "[reauthorize reauthorize]", "invalid_grant"},
		{"throttled", []refreshtest.Step{step(429, "slow_down")}, provider.Profile{}, "[throttled]", "slow_down"},
		{"the client is refused", []refreshtest.Step{step(401, "invalid_client")}, provider.Profile{}, "[app_refused]", "invalid_client"},
		{"unknown", []refreshtest.Step{step(400, "tenant-acme-is-odd")}, provider.Profile{}, "[refused]", "other"},
		{"broken", []refreshtest.Step{step(500, "")}, provider.Profile{}, "[ambiguous]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, r := newFleet(t, refreshtest.Config{Profile: c.profile}), newRecorder()
			w := f.worker(r.by)
			f.connect(w, "acme", true)
			f.server.Script(c.steps...)
			_, _ = w.Token(f.ctx(), "acme")
			if got := fmt.Sprint(r.outcomes()); got != c.outcomes {
				t.Errorf("%s, want %s", got, c.outcomes)
			}
			if e := r.ended[0]; e.Code != c.code || e.Status != c.steps[0].Status {
				t.Errorf("%+v", e)
			}
			if want := strings.Contains(c.name, "once"); (r.count("saves/second_opinion") == 1) != want {
				t.Errorf("saves: %v", r.counts)
			}
		})
	}
}

// A process answered with 503 does not know whether its refresh token was spent: the next presentation is a take-over.
func TestAnObserverHearsOfTakeovers(t *testing.T) {
	t.Parallel()
	for _, spent := range []bool{false, true} {
		f, r := newFleet(t, refreshtest.Config{}), newRecorder()
		w := f.worker(short, r.by)
		f.connect(w, "acme", true)
		lost := refreshtest.Step{Status: 503}
		if spent {
			lost.At = refreshtest.AfterCommit
		}
		f.server.Script(lost)
		_, err := w.Token(f.ctx(), "acme")
		time.Sleep(kind(t, err, refresh.ErrUnavailable, "").RetryAfter)
		_, err = w.Token(f.ctx(), "acme")
		want, saved := "takeovers/recovered", 1
		if spent {
			want, saved = "takeovers/lost", 0
		}
		if (err != nil) != spent || r.count(want) != 1 || r.count("saves/takeover") != saved {
			t.Errorf("spent=%v: %v, %v", spent, err, r.counts)
		}
		if last := r.begun[len(r.begun)-1]; !last.Takeover || last.SecondOpinion != spent {
			t.Errorf("spent=%v: %+v", spent, last)
		}
	}
}

func TestAnObserverHearsOfRejects(t *testing.T) {
	t.Parallel()
	f, r := newFleet(t, refreshtest.Config{}), newRecorder()
	w := f.worker(r.by)
	old := f.connect(w, "acme", false).AccessToken
	for range 2 {
		if err := w.Reject(f.ctx(), "acme", old); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		_ = w.Reject(f.ctx(), "acme", f.token(w, "acme").AccessToken)
	}
	if r.count("rejects/forced") != 2 || r.count("rejects/newer") != 1 || r.count("rejects/suspect") != 1 {
		t.Errorf("%v", r.counts)
	}
}

// The deaths of coordinators must not add up in an Observer that outlives them.
func TestAnObserverHearsOnceOfAllCoordinatorsOfACacheUntilClose(t *testing.T) {
	t.Parallel()
	f, r := newFleet(t, refreshtest.Config{}), newRecorder()
	a := f.worker(r.by)
	b := f.worker(r.by, func(cfg *refresh.Config) { cfg.Cache, cfg.App = a.cache, "slack" })
	f.connect(a, "acme", false)
	if n := r.took("connect"); n != 1 {
		t.Errorf("connect is told of %d times", n)
	}
	if x, y := r.read[0](), r.read[1](); x.App != "zoom" || y.App != "slack" || x.Cache.ID != y.Cache.ID || x.Cache.HotGrants != y.Cache.HotGrants {
		t.Errorf("%+v %+v", x, y)
	}
	for _, w := range []*worker{a, a, b} {
		if err := w.Close(f.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	if r.watched != 0 {
		t.Errorf("%d coordinators are still watched", r.watched)
	}
}

func TestSeveralObserversAllHearAndOneThatCannotBeComparedIsRefused(t *testing.T) {
	t.Parallel()
	f, x, y := newFleet(t, refreshtest.Config{}), newRecorder(), newRecorder()
	both := refresh.Observers(x, refresh.Unobserved{}, y)
	w := f.worker(func(cfg *refresh.Config) { cfg.Observer = both })
	f.connect(w, "acme", true)
	f.token(w, "acme")
	for _, r := range []*recorder{x, y} {
		if len(r.ended) != 1 || len(r.waits) != 1 || r.count("served/refresh") != 1 || r.took("commit") != 1 || len(r.read) != 1 {
			t.Errorf("%d exchanges, %d waits", len(r.ended), len(r.waits))
		}
	}
	var e struct {
		refresh.Unobserved
		_ []int
	}
	cfg := refresh.Config{App: "zoom", Cache: w.cache, Provider: provider.Provider{Exchanger: exchanger(nil)}, Observer: e}
	if _, err := refresh.New(cfg); err == nil || !strings.Contains(err.Error(), "Config.Observer") {
		t.Errorf("%v", err)
	}
}

func TestAnObserverHearsOfPairsThatRedisDoesNotTakeAndOfThoseThatItLost(t *testing.T) {
	t.Parallel()
	f, r := newFleet(t, refreshtest.Config{}), newRecorder()
	f.redis = redistest.Own(t)
	f.config.Observer = r
	w, proxy := f.cuttable()
	f.connect(w, "acme", true)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	var caller sync.WaitGroup
	caller.Go(func() { f.token(w, "acme") })
	gate.Await(t)
	proxy.Refuse()
	proxy.Cut()
	gate.Release()
	caller.Wait() // served from memory
	f.eventually("a pair is pending", func() bool { return r.read[0]().PendingCommits == 1 })
	if n := r.count("saves/late_commit"); n != 0 {
		t.Errorf("%d late commits before Redis is back", n)
	}
	proxy.Accept()
	f.eventually("it is stored", func() bool { return r.read[0]().PendingCommits == 0 && r.count("saves/late_commit") == 1 })
	if got := r.outcomes(); !slices.Equal(got, []string{"refreshed"}) {
		t.Errorf("exchanges ended as %v", got)
	}
	f.hot(w, "acme")
	before := r.count("saves/restore")
	f.redis.Client(t).FlushAll(f.ctx())
	f.eventually("what Redis lost is given back", func() bool { return r.count("saves/restore") > before })
	f.lawful(w, "acme")
}

// brokenObserver is an Observer that is broken.
type brokenObserver struct{ refresh.Unobserved }

func (brokenObserver) Counted(string, refresh.Count, string) { panic("counted") }
func (brokenObserver) Redis(string, time.Duration)           { panic("redis") }
func (brokenObserver) Pushed(time.Duration)                  { panic("pushed") }
func (brokenObserver) Waited(context.Context, refresh.Wait)  { panic("waited") }
func (brokenObserver) Exchange(context.Context, refresh.Exchange) (context.Context, func(refresh.ExchangeEnd)) {
	panic("exchange")
}

func TestAnObserverThatPanicsCostsNoPair(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.config.Observer = brokenObserver{}
	w := f.worker()
	f.connect(w, "acme", true)
	f.token(w, "acme")
	f.lawful(w, "acme")
}
