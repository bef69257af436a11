package refresh_test

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// healthy asserts a worker's health, and that each of its reasons is one sentence.
func (f *fleet) healthy(w *worker, status string, ready bool, codes ...string) refresh.Health {
	f.t.Helper()
	var h refresh.Health
	f.eventually("the health to be "+status+" "+strings.Join(codes, " "), func() bool {
		h = w.Health(f.ctx())
		return h.Status == status && h.Ready == ready && slices.Equal(codesOf(h), codes)
	})
	for _, r := range h.Reasons {
		if !strings.HasSuffix(r.Text, ".") && !strings.HasSuffix(r.Text, ").") || strings.Contains(r.Text, "\n") {
			f.t.Errorf("%s: no sentence: %q", r.Code, r.Text)
		}
	}
	return h
}

func codesOf(h refresh.Health) (codes []string) {
	for _, r := range h.Reasons {
		codes = append(codes, r.Code)
	}
	return codes
}

func TestHealthAsksNothingOfRedisWhileTheHeartbeatComesBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	w := f.worker()
	f.healthy(w, refresh.HealthOK, true) // before its first grant it asks
	f.connect(w, "acme", false)
	f.token(w, "acme")
	f.listens(w, "acme")
	calls := redistest.Commands(t, f.redis.Client(t), func() {
		for range 100 {
			if h := w.Health(f.ctx()); h.Status != refresh.HealthOK || !h.Ready || h.Reasons != nil {
				t.Fatalf("%+v", h)
			}
		}
	})
	for name, n := range calls {
		if n > 10 { // heartbeats read the clock, and the app's state
			t.Errorf("a hundred calls of Health gave %d %s", n, name)
		}
	}
	text, err := json.Marshal(w.Health(f.ctx()))
	if err != nil || string(text) != `{"status":"ok","ready":true}` {
		t.Errorf("%s, %v", text, err)
	}
}

// A Redis that is away for all is no reason to take each process out of work.
func TestARedisThatIsAwayWhileMemoryServesIsDegradedAndReady(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.cuttable()
	f.connect(w, "acme", false)
	f.token(w, "acme")
	f.listens(w, "acme")
	proxy.Refuse()
	proxy.Cut()
	h := f.healthy(w, refresh.HealthDegraded, true, "redis_away")
	if !strings.Contains(h.Reasons[0].Text, "memory") {
		t.Errorf("%+v", h)
	}
	f.token(w, "acme")
	proxy.Accept()
	f.healthy(w, refresh.HealthOK, true)

	cold, proxy := f.cuttable()
	f.healthy(cold, refresh.HealthOK, true)
	proxy.Refuse()
	proxy.Cut()
	f.healthy(cold, refresh.HealthFailing, true, "redis_away") // it has nothing to serve
	proxy.Accept()
}

// A process that has never reached Redis must not replace one that remembers grants.
func TestAProcessThatHasNeverReachedRedisIsNotReady(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.cuttable()
	proxy.Refuse()
	f.healthy(w, refresh.HealthFailing, false, "redis_unreached")
	proxy.Accept()
	f.healthy(w, refresh.HealthOK, true)
}

func TestHealthEndsWithItsContextAndAfterASecond(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.patient()
	proxy.Freeze()
	defer proxy.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// With another code than the one that a second brings.
	if h := w.Health(ctx); !slices.Equal(codesOf(h), []string{"unknown"}) || h.Status != refresh.HealthDegraded {
		t.Errorf("%+v", h)
	}
	fastest := time.Minute                                                        // what the client waits for an answer
	for try := 0; try < 3 || fastest > 1500*time.Millisecond && try < 10; try++ { // a busy machine adds to some
		start := time.Now()
		h := w.Health(t.Context())
		fastest = min(fastest, time.Since(start))
		if h.Ready || !slices.Equal(codesOf(h), []string{"redis_unreached"}) {
			t.Errorf("%+v", h)
		}
	}
	if fastest > 1500*time.Millisecond {
		t.Errorf("it took %v at least", fastest)
	}
}

func TestAProcessIsNotReadyWhileRedisRefusesACommand(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	admin := f.redis.Client(t)
	user := func(rules ...string) {
		t.Helper()
		if err := admin.ACLSetUser(f.ctx(), "worker", append([]string{"on", ">secret"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	user("~*", "&*", "+@all", "-pttl")
	w := f.workerOn(f.redis.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "worker", "secret" }))
	h := f.healthy(w, refresh.HealthFailing, false, "redis_unfit") // before any work
	if !strings.Contains(h.Reasons[0].Text, "pttl") {
		t.Errorf("%+v", h)
	}
	user("+@all")
	f.healthy(w, refresh.HealthOK, true)

	// A right that is taken away later is noticed by the first call that needs it.
	f.connect(w, "acme", true)
	user("-hset")
	_, err := w.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrClientConfig, "redis_unfit")
	f.healthy(w, refresh.HealthFailing, false, "redis_unfit")
	user("+@all")
	f.healthy(w, refresh.HealthOK, true)
	f.token(w, "acme")
}

func TestAProcessWithAnotherKeysetIsNotReady(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	maker, _ := f.sealedWith(keyset(t), "maker")
	stranger, _ := f.sealedWith(keyset(t), "stranger")
	f.connect(maker, "acme", false)
	_, err := stranger.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrClientConfig, "sealed")
	h := f.healthy(stranger, refresh.HealthFailing, false, "keyset")
	if !regexp.MustCompile(`key \d+ of a Tink keyset`).MatchString(h.Reasons[0].Text) {
		t.Errorf("%+v", h)
	}
	f.healthy(maker, refresh.HealthOK, true)
}

// One pair whose key was taken out too early, and which every process meets, must not stop the fleet.
func TestAPairOfAKeyThatIsGoneLeavesTheProcessReady(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	past, _ := f.sealedWith(keyset(t), "past")
	key := keyset(t)
	maker, _ := f.sealedWith(key, "maker")
	w, _ := f.sealedWith(key, "w")
	f.connect(past, "orphan", false)
	time.Sleep(5 * time.Millisecond) // it is the older one
	f.connect(maker, "acme", false)
	_, err := w.Token(f.ctx(), "orphan")
	kind(t, err, refresh.ErrClientConfig, "sealed")
	f.healthy(w, refresh.HealthFailing, false, "keyset")
	f.token(w, "acme")
	f.healthy(w, refresh.HealthDegraded, true, "keyset_lacks")
}

func TestAProcessThatDrainsIsNotReady(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	asked := make(chan error, 1)
	go func() { _, err := w.Token(f.ctx(), "acme"); asked <- err }()
	gate.Await(t)
	ended := make(chan error, 1)
	go func() { ended <- w.Close(f.ctx()) }()
	f.healthy(w, refresh.HealthDegraded, false, "draining")
	gate.Release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-asked
	f.healthy(w, refresh.HealthDegraded, false, "draining")
}

func TestHealthSaysWhatStopsTheApp(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.accepted(w)
	f.opened(w, 3, time.Hour)
	f.state(w, "the circuit", func(s *engine.AppState) bool { return s.Open })
	f.healthy(w, refresh.HealthFailing, true, "circuit_open")

	g := newFleet(t, refreshtest.Config{})
	w = g.worker()
	g.accepted(w)
	if _, _, err := w.cache.App("zoom").As("w").Throttle(g.ctx(), engine.NewID(), "throttled//429", "a", time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.cache.App("zoom").As("w").Throttle(g.ctx(), engine.NewID(), "throttled//429", "b", time.Minute); err != nil {
		t.Fatal(err)
	}
	g.healthy(w, refresh.HealthDegraded, true, "throttled")

	b := newFleet(t, refreshtest.Config{})
	w = b.worker()
	b.braked(w, "first")
	b.healthy(w, refresh.HealthFailing, true, "unreadable_answer")
	b.server.ClearScript()
	b.profile.CodeKeys = []string{"fault"}
	mended := b.worker()
	b.state(mended, "the brake", func(s *engine.AppState) bool { return s.Open })
	b.healthy(mended, refresh.HealthOK, true) // a changed profile goes on
}

// Each new pair that Redis has not taken is a reason not to kill the process.
func TestHealthCountsThePairsThatOnlyThisProcessHas(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.cuttable()
	f.connect(w, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	asked := make(chan error, 1)
	go func() { _, err := w.Token(f.ctx(), "acme"); asked <- err }()
	gate.Await(t)
	proxy.Refuse()
	proxy.Cut()
	gate.Release()
	if err := <-asked; err != nil {
		t.Error(err)
	}
	f.healthy(w, refresh.HealthDegraded, true, "redis_away", "pairs_pending")
	proxy.Accept()
	f.healthy(w, refresh.HealthOK, true)
}

// What is sealed, presented or configured stands in no text of Health.
func TestHealthShowsNoSecret(t *testing.T) {
	t.Parallel()
	const canary = "canary7d1f"
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	if err := f.redis.Client(t).ACLSetUser(f.ctx(), "worker", "on", ">another", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	w := f.workerOn(f.redis.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "worker", canary }),
		func(cfg *refresh.Config) { cfg.Log = zerolog.New(log) })
	h := f.healthy(w, refresh.HealthFailing, false, "redis_unfit")
	if strings.Contains(h.Reasons[0].Text, canary) || log.has(canary) {
		t.Errorf("%+v", h)
	}
	f.eventually("the log to say what must be mended", func() bool { return log.has(`"level":"error"`) })
}

// The table of docs/operations.md has each code, with what it means for readiness.
func TestTheTableOfHealthIsWhole(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile("health.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Health\n")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z, ]+) \\| (yes|no) \\|").FindAllStringSubmatch(table, -1) {
		rows[row[1]] = row[3]
	}
	_, list, _ := strings.Cut(string(code), "var notReady = []string{")
	list, _, _ = strings.Cut(list, "}")
	seen := 0
	for _, said := range regexp.MustCompile(`add\(Health\w+, "([a-z_]+)"`).FindAllStringSubmatch(string(code), -1) {
		seen++
		ready := "yes"
		if strings.Contains(list, `"`+said[1]+`"`) {
			ready = "no"
		}
		if strings.TrimSuffix(rows[said[1]], ", seen") != ready {
			t.Errorf("%s: the table says ready %q, the code %q", said[1], rows[said[1]], ready)
		}
		rows[said[1]] = ready + ", seen"
	}
	for name, is := range rows {
		if !strings.HasSuffix(is, "seen") {
			t.Errorf("the table has %s, of which the code knows nothing", name)
		}
	}
	if seen < 10 {
		t.Errorf("%d codes: nothing is proven", seen)
	}
}
