package tokencache

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// known is an app's state in memory, coherent.
func known(t testing.TB, c *Cache, app string) *AppState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for c.WatchApp(ctx, app) != nil {
		if ctx.Err() != nil {
			t.Fatal("no subscription")
		}
	}
	s, err := c.AppState(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// heardOf waits until memory holds what is looked for.
func heardOf(t testing.TB, c *Cache, app, what string, reached func(*AppState) bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		news := c.AppChanged(app)
		if s := c.KnownApp(app); s != nil && reached(s) {
			return
		}
		select {
		case <-news:
		case <-timeout:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func trip(t testing.TB, c *Cache, asked *AppState, waits ...time.Duration) *AppState {
	t.Helper()
	s, err := c.Trip(t.Context(), asked.App, NewID(), "w", "app_refused/invalid client\n/401", asked, waits...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAppCircuitOpensAndItsProbesAreSpacedAsAsked(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	s := known(t, c, "zoom")
	if s.Open || s.Rev != 0 {
		t.Fatalf("an app that nobody has heard of: %+v", s)
	}
	for i, want := range []time.Duration{time.Second, time.Minute, time.Hour, time.Hour} {
		s = trip(t, c, s, time.Second, time.Minute, time.Hour)
		if got := time.Duration(s.ProbeAt-s.now) * time.Millisecond; got != want || s.Probes != int64(i+1) || !s.Open {
			t.Errorf("after %d refusals the next probe is in %v, want %v; %+v", i+1, got, want, s)
		}
		if strings.ContainsAny(s.Error, " \n") {
			t.Errorf("error %q", s.Error)
		}
	}
	if n := c.rdb.HGet(t.Context(), c.prefix+":app:zoom", "circuit").Val(); n != "open" {
		t.Errorf("what people on call read is %q", n)
	}
}

func TestAppRefusalsThatWereUnderWayWhenItOpenedCountOnce(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	before := known(t, c, "zoom")
	first := trip(t, c, before, time.Second, time.Hour)
	if again := trip(t, c, before, time.Second, time.Hour); again.Rev != first.Rev || again.Probes != 1 {
		t.Errorf("counted again: %+v", again)
	}
}

func TestAppProbeIsGivenToOneAtATimeAndEndsByItself(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	if ok, _, err := c.Probe(t.Context(), "zoom", NewID(), "w", time.Hour); !ok || err != nil {
		t.Errorf("with a closed circuit: %v, %v", ok, err)
	}
	trip(t, c, known(t, c, "zoom"), time.Hour)
	if ok, _, err := c.Probe(t.Context(), "zoom", NewID(), "w", time.Hour); ok || err != nil {
		t.Errorf("before its time: %v, %v", ok, err)
	}
	c.rdb.HSet(t.Context(), c.AppKey("zoom"), "probe_at", 1)
	var given atomic.Int64
	var askers sync.WaitGroup
	for range 50 {
		askers.Go(func() {
			ok, _, err := c.Probe(context.Background(), "zoom", NewID(), "w", 300*time.Millisecond)
			if err != nil {
				t.Error(err)
			}
			if ok {
				given.Add(1)
			}
		})
	}
	askers.Wait()
	if given.Load() != 1 {
		t.Errorf("%d may probe at once", given.Load())
	}
	eventually(t, "the right to end", patience, func() bool {
		ok, _, err := c.Probe(t.Context(), "zoom", NewID(), "w", time.Hour)
		return ok && err == nil
	})
}

func TestAppCircuitIsClosedOnlyByWhoProbedIt(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	first := trip(t, c, known(t, c, "zoom"), 0)
	if s, err := c.Mend(t.Context(), "zoom", NewID(), "w", first); err != nil || s.Open {
		t.Fatalf("%+v, %v", s, err)
	}
	time.Sleep(2 * time.Millisecond) // opened_at is in ms
	second := trip(t, c, known(t, c, "zoom"), 0)
	if s, err := c.Mend(t.Context(), "zoom", NewID(), "w", first); err != nil || !s.Open || s.OpenedAt != second.OpenedAt {
		t.Errorf("one that was opened anew was closed: %+v, %v", s, err)
	}
}

func TestAppPauseIsTheLongestWishAndEnds(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	throttle := func(d time.Duration) *AppState {
		t.Helper()
		s, err := c.Throttle(t.Context(), "zoom", NewID(), "w", "throttled//429", d)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	long := throttle(time.Hour)
	if s := throttle(time.Minute); s.ThrottledUntil != long.ThrottledUntil || s.Rev != long.Rev {
		t.Errorf("a shorter wish changed it: %+v", s)
	}
	if s := throttle(2 * time.Hour); s.ThrottledUntil <= long.ThrottledUntil || s.Open {
		t.Errorf("a longer one did not: %+v", s)
	}
}

func TestAppScriptsAreSafeToRunTwice(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	// Each has an app of its own: if one app's state were deleted and made anew within a
	// millisecond, memory could not tell which is the newer.
	var app string
	var zero *AppState
	for name, run := range map[string]func(id string) (*AppState, error){
		"trip":     func(id string) (*AppState, error) { return c.Trip(t.Context(), app, id, "w", "e", zero, 0) },
		"throttle": func(id string) (*AppState, error) { return c.Throttle(t.Context(), app, id, "w", "e", time.Hour) },
		"probe": func(id string) (*AppState, error) {
			trip(t, c, zero, 0)
			ok, s, err := c.Probe(t.Context(), app, id, "w", time.Hour)
			if !ok {
				t.Error("no probe")
			}
			return s, err
		},
		"mend": func(id string) (*AppState, error) {
			return c.Mend(t.Context(), app, id, "w", trip(t, c, zero, 0))
		},
	} {
		app, zero = name, known(t, c, name)
		id := NewID()
		first, err1 := run(id)
		if name == "mend" {
			zero = first // closed: the next trip is not one that was under way
		}
		again, err2 := run(id)
		if err1 != nil || err2 != nil || name != "mend" && first.Rev != again.Rev {
			t.Errorf("%s: %+v, then %+v; %v, %v", name, first, again, err1, err2)
		}
	}
}

func TestAppStateIsPushedAndThenCostsNothing(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func() redis.UniversalClient{
		"one Redis": func() redis.UniversalClient { return redistest.Own(t).Client(t) },
		"Cluster":   func() redis.UniversalClient { return redistest.StartCluster(t).Client(t) },
	} {
		t.Run(name, func(t *testing.T) {
			rdb, prefix := start(), redistest.Prefix(t)
			a, b := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
			odd := "my app:{x}"
			known(t, b, odd)
			told := make(chan string, 10)
			stop := b.OnApp(odd, func(ch AppChange) { told <- fmt.Sprint(ch.Kind, ch.State.Rev) })
			defer stop()
			s := trip(t, a, known(t, a, odd), time.Hour)
			heardOf(t, b, odd, "the push", func(got *AppState) bool { return got.Rev == s.Rev && got.Open && got.ProbeAt == s.ProbeAt })
			if _, err := a.Mend(t.Context(), odd, NewID(), "w", s); err != nil {
				t.Fatal(err)
			}
			heardOf(t, b, odd, "the push", func(got *AppState) bool { return !got.Open })
			hear := func() string {
				select {
				case change := <-told:
					return change
				case <-time.After(10 * time.Second):
					return "nothing"
				}
			}
			if first, second := hear(), hear(); first != "open1" || second != "closed2" || len(told) > 0 {
				t.Errorf("told %s and %s, and %d more", first, second, len(told))
			}
			if name == "Cluster" {
				return
			}
			calls := redistest.Commands(t, rdb, func() {
				for range 100 {
					if _, err := b.AppState(t.Context(), odd); err != nil {
						t.Error(err)
					}
				}
			})
			if redistest.Total(calls) != 0 {
				t.Errorf("what is known cost %v", calls)
			}
		})
	}
}

// A state that stops all exchanges may be deleted by hand, which nobody pushes.
func TestAppStopThatWasDeletedByHandEnds(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	trip(t, c, known(t, c, "zoom"), time.Hour)
	c.rdb.Del(t.Context(), c.AppKey("zoom"))
	eventually(t, "the circuit to close", patience, func() bool {
		s, err := c.AppState(t.Context(), "zoom")
		return err == nil && !s.Open
	})
}

func TestAppPushThatComesLateDoesNotReplaceNewerNews(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	s := trip(t, c, known(t, c, "zoom"), time.Hour)
	s = trip(t, c, s, time.Hour)
	c.appPushed(c.AppKey("zoom"), "closed 1\nrev 1\ncircuit closed", monotonic())
	if got := c.KnownApp("zoom"); got.Rev != s.Rev || !got.Open {
		t.Errorf("%+v", got)
	}
}

func TestAppPlacesAreLimitedAndThoseOfTheDeadRunOut(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	enter := func(id string, most int, ttl time.Duration) bool {
		ok, _, err := c.Enter(context.Background(), "zoom", id, most, ttl)
		if err != nil {
			t.Error(err)
		}
		return ok
	}
	var in atomic.Int64
	var callers sync.WaitGroup
	for i := range 50 {
		callers.Go(func() {
			if enter(fmt.Sprint("id", i), 7, time.Hour) {
				in.Add(1)
			}
		})
	}
	callers.Wait()
	if in.Load() != 7 {
		t.Errorf("%d of 7 places were taken", in.Load())
	}
	ids := c.rdb.ZRange(t.Context(), c.inflightKey("zoom"), 0, -1).Val()
	if !enter(ids[0], 7, time.Hour) {
		t.Error("a repeat was refused")
	}
	freed := c.AppChanged("zoom")
	for range 2 { // twice does no harm
		if err := c.Leave(t.Context(), "zoom", ids[0], 7); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-freed:
	case <-time.After(patience):
		t.Error("who waits for a place was not told")
	}
	if !enter("dead", 7, time.Minute) || enter("late", 7, time.Hour) {
		t.Error("one place was free, and one only")
	}
	if _, wait, _ := c.Enter(t.Context(), "zoom", "late", 7, time.Hour); wait > time.Minute {
		t.Errorf("wait %v, the first ends in a minute", wait)
	}
	c.rdb.ZAdd(t.Context(), c.inflightKey("zoom"), redis.Z{Score: 1, Member: "dead"}) // its minute is over
	if !enter("late", 7, time.Hour) {
		t.Error("the dead one's place is not free")
	}
}

func TestAppThatIsForgottenEndsItsSubscription(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	if err := c.Forget(t.Context(), "zoom"); err != nil || c.KnownApp("zoom") != nil {
		t.Error(err)
	}
	select {
	case <-c.hub.stopped:
	default:
		t.Error("the connection is still there")
	}
}

// Redis has lost the app's state, and counts from one again: what it says then is news all the same.
func TestAppStateIsPushedAlsoAfterRedisLostIt(t *testing.T) {
	t.Parallel()
	rdb := redistest.Own(t).Client(t)
	prefix := redistest.Prefix(t)
	a, b := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
	known(t, b, "zoom")
	for range 5 {
		s := trip(t, a, known(t, a, "zoom"), time.Hour)
		if _, err := a.Mend(t.Context(), "zoom", NewID(), "w", s); err != nil {
			t.Fatal(err)
		}
	}
	heardOf(t, b, "zoom", "the last mend", func(got *AppState) bool { return got.Rev == 10 })
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for last := b.KnownApp("zoom").asOf; rdb.Time(t.Context()).Val().UnixMilli() <= last; { // else it is not news
	}
	trip(t, a, &AppState{App: "zoom"}, time.Hour)
	heardOf(t, b, "zoom", "the circuit", func(got *AppState) bool { return got.Open && got.Rev == 1 })
}
