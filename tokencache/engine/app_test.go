package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/apps"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// known is an app's state in memory, coherent.
func known(t testing.TB, c *Cache, app string) *AppState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for c.App(app).WatchApp(ctx) != nil {
		if ctx.Err() != nil {
			t.Fatal("no subscription")
		}
	}
	s, err := c.App(app).AppState(t.Context())
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
		news := c.App(app).AppChanged()
		if s := c.App(app).KnownApp(); s != nil && reached(s) {
			return
		}
		select {
		case <-news:
		case <-timeout:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// refused notes the refusal of a tenant; two open the circuit.
func refused(t testing.TB, c *Cache, app, tenant, probe string, waits ...time.Duration) *AppState {
	t.Helper()
	r := Refusal{Tenant: tenant, Error: "app_refused/invalid client\n/401", Probe: probe, Tenants: 2}
	_, s, err := c.App(app).As("w").Trip(t.Context(), NewID(), r, waits...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// trip opens the circuit.
func trip(t testing.TB, c *Cache, app string, waits ...time.Duration) *AppState {
	t.Helper()
	refused(t, c, app, "one", "", waits...)
	return refused(t, c, app, "two", "", waits...)
}

func accept(t testing.TB, c *Cache, app string) *AppState {
	t.Helper()
	_, s, err := c.App(app).As("w").Accept(t.Context(), NewID(), Acceptance{Read: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func probe(t testing.TB, c *Cache, handicap time.Duration) (string, bool) {
	t.Helper()
	id := NewID()
	ok, _, err := c.App("zoom").As("w").Probe(context.Background(), id, handicap, time.Hour)
	if err != nil {
		t.Error(err)
	}
	return id, ok
}

func TestAppCircuitOpensAndItsProbesAreSpacedAsAsked(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	if s := known(t, c, "zoom"); s.Open || s.Rev != 0 || !s.Unsettled(true) {
		t.Fatalf("an app that nobody has heard of: %+v", s)
	}
	s := trip(t, c, "zoom", 0, time.Minute, time.Hour)
	if s.ProbeAt != s.At() || s.Probes != 1 || !s.Open || s.OpenedAt != s.At() {
		t.Errorf("two tenants were refused: %+v", s)
	}
	for i, want := range []time.Duration{time.Minute, time.Hour, time.Hour} {
		id, ok := probe(t, c, 0)
		if !ok {
			t.Fatalf("no probe %d", i)
		}
		s = refused(t, c, "zoom", fmt.Sprint("tenant", i), id, 0, time.Minute, time.Hour)
		if got := time.Duration(s.ProbeAt-s.At()) * time.Millisecond; got != want || s.Probes != int64(i+2) || !s.Open || s.ProbeBy != "" {
			t.Errorf("after %d refusals the next probe is in %v, want %v; %+v", i+2, got, want, s)
		}
		c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "probe_at", 1)
	}
	if strings.ContainsAny(s.Error, " \n") {
		t.Errorf("error %q", s.Error)
	}
	if n := c.rdb.HGet(t.Context(), string(c.names)+":app:zoom", "circuit").Val(); n != "open" {
		t.Errorf("what people on call read is %q", n)
	}
}

// The evidence: different tenants, with no acceptance in between.
func TestAppCircuitOpensOnlyOnDifferentTenantsInARow(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	accept(t, c, "zoom")
	for range 10 {
		if s := refused(t, c, "zoom", "bad", ""); s.Open || !s.Refuses("bad") || s.Refuses("good") {
			t.Fatalf("one tenant, again and again: %+v", s)
		}
	}
	for i := range 10 {
		if s := accept(t, c, "zoom"); s.Refused != "" || s.Error != "" {
			t.Fatalf("suspected after an acceptance: %+v", s)
		}
		if s := refused(t, c, "zoom", fmt.Sprint("bad", i), ""); s.Open {
			t.Fatalf("an acceptance between any two: %+v", s)
		}
	}
	if s := refused(t, c, "zoom", "another", ""); !s.Open || s.Probes != 1 {
		t.Fatalf("two in a row: %+v", s)
	}
	for i := range 20 { // they were under way
		s := refused(t, c, "zoom", fmt.Sprint("late", i), "")
		if s.Probes != 1 || len(s.Refused) > 64 || !s.Refuses(fmt.Sprint("late", i)) {
			t.Fatalf("counted as a probe: %+v", s)
		}
	}
}

func TestAppOneRefusalIsEnoughBeforeTheFirstAcceptance(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	for _, accepted := range []bool{false, true} {
		c.rdb.Del(t.Context(), c.App("zoom").AppKey())
		if accepted {
			accept(t, c, "zoom")
		}
		opened, s, err := c.App("zoom").As("w").Trip(t.Context(), NewID(), Refusal{Tenant: "a", Error: "e", Tenants: 2, First: true}, 0)
		if err != nil || s.Open == accepted || opened == accepted {
			t.Errorf("accepted before %v: %+v, %v", accepted, s, err)
		}
	}
}

func TestAppFactsThatAreOverAreRemoved(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	trip(t, c, "zoom", 0)
	throttle(t, c, "a", time.Millisecond)
	throttle(t, c, "b", time.Millisecond)
	probe(t, c, 0)
	time.Sleep(RampStep + 10*time.Millisecond)
	accept(t, c, "zoom")
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "ramp", apps.RampTop, "ramp_at", 1)
	accept(t, c, "zoom")
	got := c.rdb.HGetAll(t.Context(), c.App("zoom").AppKey()).Val()
	for name := range got {
		if !slices.Contains([]string{"accepted_at", "read_at", "change", "by", "change_id", "changed_at", "rev", "v"}, name) {
			t.Errorf("%s is %q when all is well", name, got[name])
		}
	}
	if s, _ := c.App("zoom").AppState(t.Context()); s.Unsettled(true) {
		t.Errorf("%+v", s)
	}
}

func TestAppProbeIsGivenToOneAtATimeAndEndsByItself(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	if _, ok := probe(t, c, 0); !ok {
		t.Error("with a closed circuit")
	}
	trip(t, c, "zoom", time.Hour)
	if _, ok := probe(t, c, 0); ok {
		t.Error("before its time")
	}
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "probe_at", 1)
	var given atomic.Int64
	var askers sync.WaitGroup
	for range 50 {
		askers.Go(func() {
			ok, _, err := c.App("zoom").As("w").Probe(context.Background(), NewID(), 0, time.Hour)
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
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "probe_at", 1)
	if _, ok := probe(t, c, 0); !ok {
		t.Error("the right does not end with its prober")
	}
}

func TestAppProbeIsGivenLateToTheTenantThatWasRefused(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	s := trip(t, c, "zoom", 0)
	if _, ok := probe(t, c, time.Hour); ok {
		t.Error("to a tenant that was refused a moment ago")
	}
	if _, ok := probe(t, c, 0); !ok {
		t.Error("not to another")
	}
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "probe_at", s.ProbeAt-time.Hour.Milliseconds())
	if _, ok := probe(t, c, time.Hour); !ok {
		t.Error("nobody else came")
	}
}

func TestAppProbeThatIsGivenBackIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	trip(t, c, "zoom", 0)
	first, _ := probe(t, c, 0)
	back := func(probe string, again time.Duration) *AppState {
		s, err := c.App("zoom").As("w").Unprobe(t.Context(), NewID(), probe, again)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := back(first, 0); s.ProbeBy != "" || s.Probes != 1 || s.ProbeAt > s.At() {
		t.Errorf("%+v", s)
	}
	second, ok := probe(t, c, 0)
	if !ok {
		t.Fatal("not given again")
	}
	if s := back(first, 0); s.ProbeBy == "" {
		t.Error("another's right was given back")
	}
	if s := back(second, time.Hour); s.Until(s.ProbeAt) < time.Minute {
		t.Errorf("%+v", s)
	}
}

func throttle(t testing.TB, c *Cache, tenant string, d time.Duration) *AppState {
	t.Helper()
	_, s, err := c.App("zoom").As("w").Throttle(t.Context(), NewID(), "throttled//429", tenant, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAppPauseNeedsTwoTenantsInARow(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	for range 5 {
		if s := throttle(t, c, "bad", time.Hour); s.ThrottledUntil != 0 || !s.Unsettled(true) {
			t.Fatalf("one tenant, again and again: %+v", s)
		}
	}
	accept(t, c, "zoom")
	if s := throttle(t, c, "other", 50*time.Millisecond); s.ThrottledUntil != 0 {
		t.Fatalf("an acceptance in between: %+v", s)
	}
	time.Sleep(60 * time.Millisecond)
	if s := throttle(t, c, "third", time.Hour); s.ThrottledUntil != 0 {
		t.Fatalf("the first's wait is over: %+v", s)
	}
	if s := throttle(t, c, "fourth", time.Minute); s.Until(s.ThrottledUntil) < 50*time.Second || s.Ramp != 1 || s.Open {
		t.Fatalf("two in a row: %+v", s)
	}
}

func TestAppRampDoublesStepByStepAndEnds(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	throttle(t, c, "a", time.Minute)
	throttle(t, c, "b", time.Minute)
	if s := accept(t, c, "zoom"); s.ThrottledUntil == 0 || s.Ramp != 1 {
		t.Fatalf("one that was under way when the pause began: %+v", s)
	}
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "throttled_until", 1, "ramp_at", 1)
	for want := int64(2); want <= apps.RampTop; want *= 2 {
		s := accept(t, c, "zoom")
		c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "ramp_at", s.At()+time.Hour.Milliseconds())
		if again := accept(t, c, "zoom"); s.Ramp != want || s.ThrottledUntil != 0 || again.Ramp != want {
			t.Fatalf("want %d: %+v, then %+v", want, s, again)
		}
		c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "ramp_at", s.At()-RampStep.Milliseconds())
	}
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "ramp_at", c.App("zoom").KnownApp().Now())
	if s := accept(t, c, "zoom"); s.Ramp != apps.RampTop {
		t.Fatalf("the top is over at once: %+v", s)
	}
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "ramp_at", 1)
	if s := accept(t, c, "zoom"); s.Ramp != 0 || s.Unsettled(true) {
		t.Fatalf("%+v", s)
	}
}

func TestAppPauseIsTheLongestWishAndEnds(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	throttle(t, c, "a", time.Hour)
	long := throttle(t, c, "b", time.Hour)
	if s := throttle(t, c, "c", time.Minute); s.ThrottledUntil != long.ThrottledUntil || s.Rev != long.Rev {
		t.Errorf("a shorter wish changed it: %+v", s)
	}
	if s := throttle(t, c, "a", 2*time.Hour); s.ThrottledUntil <= long.ThrottledUntil || s.Open {
		t.Errorf("a longer one did not: %+v", s)
	}
}

var few = Deaths{Most: 2, Within: time.Hour, Doubt: time.Hour}

// die lets n grants die, and returns how many of these deaths are believed.
func die(t testing.TB, c *Cache, n int) (believed int) {
	t.Helper()
	for range n {
		ok, _, err := c.App("zoom").As("w").Death(t.Context(), NewID(), few)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			believed++
		}
	}
	return believed
}

func TestAppDeathsAreBelievedUntilThereAreTooMany(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	if n := die(t, c, 10); n != 2 {
		t.Fatalf("%d of 10 deaths are believed, want 2", n)
	}
	retry := func() bool {
		ok, err := c.App("zoom").As("w").Retry(t.Context(), NewID(), time.Hour, few)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !retry() || retry() {
		t.Error("one at a time tries again")
	}
	if until := c.App("zoom").KnownApp().MassTryAt; until < c.App("zoom").KnownApp().Now()+time.Minute.Milliseconds() {
		t.Errorf("the next one's turn is at %d", until)
	}
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "mass_try_at", 1)
	if !retry() {
		t.Error("it is the next one's turn")
	}
	accept(t, c, "zoom")
	if s := c.App("zoom").KnownApp(); s.MassAt == 0 {
		t.Error("an acceptance of another grant ended it")
	}
	if _, s, err := c.App("zoom").As("w").Accept(t.Context(), NewID(), Acceptance{Read: true, Revived: true}); err != nil || s.MassAt != 0 || s.Ramp == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if n := die(t, c, 3); n != 2 {
		t.Errorf("%d of 3 deaths are believed then, want 2", n)
	}
	// A day later, for a day.
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "mass_at", c.App("zoom").KnownApp().Now()-few.Doubt.Milliseconds()-1000)
	if n := die(t, c, 5); n != 5 || !retry() {
		t.Errorf("%d of 5 deaths are believed after the doubt", n)
	}
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "mass_at", 1)
	if n := die(t, c, 5); n != 2 {
		t.Errorf("%d of 5 deaths are believed when all that is long ago, want 2", n)
	}
}

func TestAppSteadyDeathsAreBelieved(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	for range 6 {
		ok, _, err := c.App("zoom").As("w").Death(t.Context(), NewID(), Deaths{Most: 2, Within: 400 * time.Millisecond, Doubt: time.Hour})
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		time.Sleep(220 * time.Millisecond)
	}
}

func TestAppBrakeEndsOnlyByAPairThatIsRead(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	brake := func(digest string) *AppState {
		t.Helper()
		_, s, err := c.App("zoom").As("w").Brake(t.Context(), NewID(), "ambiguous/unreadable/200", "first", digest)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if _, _, err := c.App("zoom").As("w").Accept(t.Context(), NewID(), Acceptance{}); err != nil {
		t.Fatal(err)
	}
	if s := brake("0123abcd"); !s.Braked("0123abcd") || s.Braked("4567abcd") || !s.Refuses("first") {
		t.Fatalf("%+v", s)
	}
	if s := brake("4567abcd"); !s.Braked("0123abcd") || !s.Braked("4567abcd") {
		t.Fatalf("%+v", s)
	}
	if _, s, err := c.App("zoom").As("w").Accept(t.Context(), NewID(), Acceptance{}); err != nil || !s.Open {
		t.Fatalf("the client was accepted, nothing was read: %+v, %v", s, err)
	}
	if s := accept(t, c, "zoom"); s.Open || s.Brake != "" {
		t.Fatalf("%+v", s)
	}
	if s := brake("0123abcd"); s.Open {
		t.Fatalf("others were read before: %+v", s)
	}
}

func TestAppScriptsAreSafeToRunTwice(t *testing.T) {
	t.Parallel()
	var c *Cache // one for each script: a push about the one before may come late
	const tenant = "tenant"
	for name, run := range map[string]struct {
		before func()
		script func(id string) (*AppState, error)
	}{
		"suspect": {func() { accept(t, c, "zoom") }, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Trip(t.Context(), id, Refusal{Tenant: tenant, Tenants: 2}, 0)
			return s, err
		}},
		"trip": {func() { refused(t, c, "zoom", "another", "") }, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Trip(t.Context(), id, Refusal{Tenant: tenant, Tenants: 2}, 0)
			return s, err
		}},
		"refused probe": {func() {
			trip(t, c, "zoom", 0)
			if ok, _, err := c.App("zoom").As("w").Probe(t.Context(), "probe", 0, time.Hour); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Trip(t.Context(), id, Refusal{Tenant: tenant, Tenants: 2, Probe: "probe"}, 0)
			return s, err
		}},
		"limit": {func() {}, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Throttle(t.Context(), id, "e", tenant, time.Hour)
			return s, err
		}},
		"throttle": {func() { throttle(t, c, "another", time.Hour) }, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Throttle(t.Context(), id, "e", tenant, time.Hour)
			return s, err
		}},
		"brake": {func() {}, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Brake(t.Context(), id, "e", tenant, "0123abcd")
			return s, err
		}},
		"failing": {func() {}, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Failing(t.Context(), id, "e", tenant, 2)
			return s, err
		}},
		"provider down": {func() { fails(t, c, "another") }, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Failing(t.Context(), id, "e", tenant, 2)
			return s, err
		}},
		"provider up": {func() { fails(t, c, "another"); fails(t, c, "a third") }, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Accept(t.Context(), id, Acceptance{})
			return s, err
		}},
		"death": {func() {}, func(id string) (*AppState, error) {
			_, _, err := c.App("zoom").As("w").Death(t.Context(), id, few)
			return c.App("zoom").KnownApp(), err
		}},
		"mass death": {func() { die(t, c, 2) }, func(id string) (*AppState, error) {
			believed, _, err := c.App("zoom").As("w").Death(t.Context(), id, few)
			if believed {
				t.Error("believed")
			}
			return c.App("zoom").KnownApp(), err
		}},
		"retry": {func() { die(t, c, 3) }, func(id string) (*AppState, error) {
			ok, err := c.App("zoom").As("w").Retry(t.Context(), id, time.Hour, few)
			if !ok {
				t.Error("no right")
			}
			return c.App("zoom").KnownApp(), err
		}},
		"probe": {func() { trip(t, c, "zoom", 0) }, func(id string) (*AppState, error) {
			ok, s, err := c.App("zoom").As("w").Probe(t.Context(), id, 0, time.Hour)
			if !ok {
				t.Error("no probe")
			}
			return s, err
		}},
		"unprobe": {func() {
			trip(t, c, "zoom", 0)
			if ok, _, err := c.App("zoom").As("w").Probe(t.Context(), "probe", 0, time.Hour); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}, func(id string) (*AppState, error) { return c.App("zoom").As("w").Unprobe(t.Context(), id, "probe", 0) }},
		"accept": {func() { trip(t, c, "zoom", 0) }, func(id string) (*AppState, error) {
			_, s, err := c.App("zoom").As("w").Accept(t.Context(), id, Acceptance{Read: true})
			return s, err
		}},
	} {
		c = freshCache(t)
		known(t, c, "zoom")
		run.before()
		id := NewID()
		first, err1 := run.script(id)
		again, err2 := run.script(id)
		if err1 != nil || err2 != nil || first.Rev == 0 || first.Rev != again.Rev {
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
			stop := b.App(odd).OnApp(func(ch AppChange) { told <- fmt.Sprint(ch.Kind, ch.State.Rev) })
			defer stop()
			known(t, a, odd)
			s := trip(t, a, odd, time.Hour)
			heardOf(t, b, odd, "the push", func(got *AppState) bool { return got.Rev == s.Rev && got.Open && got.ProbeAt == s.ProbeAt })
			accept(t, a, odd)
			heardOf(t, b, odd, "the push", func(got *AppState) bool { return !got.Open })
			hear := func() string {
				select {
				case change := <-told:
					return change
				case <-time.After(patience):
					return "nothing"
				}
			}
			for _, want := range []string{"suspected1", "open2", "closed3"} {
				if got := hear(); got != want {
					t.Errorf("told %s, want %s", got, want)
				}
			}
			if len(told) > 0 {
				t.Errorf("told %d more", len(told))
			}
			if name == "Cluster" {
				return
			}
			calls := redistest.Commands(t, rdb, func() {
				for range 100 {
					if _, err := b.App(odd).AppState(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
			if delete(calls, "get"); redistest.Total(calls) != 0 { // the proof key is looked at every few seconds
				t.Errorf("what is known cost %v", calls)
			}
		})
	}
}

// A state that stops all exchanges may be deleted by hand, which nobody pushes.
func TestAppStopThatWasDeletedByHandEnds(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	trip(t, c, "zoom", time.Hour)
	c.rdb.Del(t.Context(), c.App("zoom").AppKey())
	eventually(t, "the circuit to close", patience, func() bool {
		s, err := c.App("zoom").AppState(t.Context())
		return err == nil && !s.Open
	})
}

func TestAppPushThatComesLateDoesNotReplaceNewerNews(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	s := trip(t, c, "zoom", time.Hour)
	c.apps.ReceiveState(c.App("zoom").AppKey(), fmt.Sprintf("closed %d\nrev 1\ncircuit closed", s.At()-1000), mono.Now())
	if got := c.App("zoom").KnownApp(); got.Rev != s.Rev || !got.Open {
		t.Errorf("%+v", got)
	}
}

func TestAppPlacesAreLimitedAndThoseOfTheDeadRunOut(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	enter := func(id string, most int, ttl time.Duration) bool {
		ok, _, err := c.App("zoom").Enter(context.Background(), id, most, ttl)
		if err != nil {
			t.Error(err)
		}
		return ok
	}
	var in atomic.Int64
	var callers sync.WaitGroup
	for i := range 50 {
		callers.Go(func() {
			if enter(fmt.Sprint("id", i), 7, 2*time.Minute) {
				in.Add(1)
			}
		})
	}
	callers.Wait()
	if in.Load() != 7 {
		t.Errorf("%d of 7 places were taken", in.Load())
	}
	ids := c.rdb.ZRange(t.Context(), c.names.App("zoom").Inflight(), 0, -1).Val()
	if !enter(ids[0], 7, 2*time.Minute) {
		t.Error("a repeat was refused")
	}
	freed := c.App("zoom").AppChanged()
	for range 2 { // twice does no harm
		if err := c.App("zoom").Leave(t.Context(), ids[0], 7); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-freed:
	case <-time.After(patience):
		t.Error("who waits for a place was not told")
	}
	if !enter("dead", 7, time.Minute) || enter("late", 7, 2*time.Minute) {
		t.Error("one place was free, and one only")
	}
	if _, wait, _ := c.App("zoom").Enter(t.Context(), "late", 7, 2*time.Minute); wait > time.Minute {
		t.Errorf("wait %v, the first ends in a minute", wait)
	}
	c.rdb.ZAdd(t.Context(), c.names.App("zoom").Inflight(), redis.Z{Score: 1, Member: "dead"}) // its minute is over
	if !enter("late", 7, 2*time.Minute) {
		t.Error("the dead one's place is not free")
	}
}

func TestAppThatIsForgottenEndsItsSubscription(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	if err := c.App("zoom").Forget(t.Context()); err != nil || c.App("zoom").KnownApp() != nil {
		t.Error(err)
	}
	if c.hub.Running() {
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
	known(t, a, "zoom")
	for range 5 {
		trip(t, a, "zoom", time.Hour)
		accept(t, a, "zoom")
	}
	heardOf(t, b, "zoom", "the last acceptance", func(got *AppState) bool { return got.Rev == 15 })
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for last := b.App("zoom").KnownApp().At(); rdb.Time(t.Context()).Val().UnixMilli() <= last; { // else it is not news
	}
	trip(t, a, "zoom", time.Hour)
	heardOf(t, b, "zoom", "the circuit", func(got *AppState) bool { return got.Open && got.Rev == 2 })
}

// fails notes that the provider has failed for a tenant; two of them are several.
func fails(t *testing.T, c *Cache, tenant string) (down bool, _ *AppState) {
	t.Helper()
	down, s, err := c.App("zoom").As("w").Failing(t.Context(), NewID(), "ambiguous/http_500/500", tenant, 2)
	if err != nil {
		t.Fatal(err)
	}
	return down, s
}

// A provider that fails for several tenants in a row is down; any answer of another kind ends that.
func TestAProviderIsDownWhenItFailsForSeveralTenantsInARow(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	accept(t, c, "zoom")
	for range 3 { // one tenant's failures are its own
		if down, s := fails(t, c, "a"); down || s.DownAt != 0 || !s.Fails("a") || s.Fails("b") {
			t.Fatalf("%t, %+v", down, s)
		}
	}
	accept(t, c, "zoom")
	if down, s := fails(t, c, "b"); down || s.DownAt != 0 {
		t.Fatalf("an acceptance in between: %+v", s)
	}
	down, s := fails(t, c, "a")
	if !down || s.DownAt == 0 || s.Error != "ambiguous/http_500/500" || !s.Fails("any") || !s.Unsettled(true) {
		t.Fatalf("%t, %+v", down, s)
	}
	if again, s2 := fails(t, c, "c"); again || s2.DownAt != s.DownAt {
		t.Errorf("it is down twice: %+v", s2)
	}
	if s := accept(t, c, "zoom"); s.DownAt != 0 || s.Failing != "" || s.Error != "" {
		t.Errorf("it answers: %+v", s)
	}
	// The circuit opens while it is down: the end of both is told.
	fails(t, c, "a")
	fails(t, c, "b")
	trip(t, c, "zoom", 0)
	listener := newCache(t, c.rdb, string(c.names))
	told := make(chan string, 16)
	t.Cleanup(listener.App("zoom").OnApp(func(ch AppChange) { told <- ch.Kind }))
	if err := listener.App("zoom").WatchApp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := accept(t, c, "zoom"); s.DownAt != 0 || s.Open {
		t.Errorf("%+v", s)
	}
	if first, second := <-told, <-told; first != "closed" || second != "provider_up" {
		t.Errorf("told are %s and %s", first, second)
	}
}

// A process that missed the push of a loss is told of it by whichever road it comes to know.
func TestALossWhosePushWasMissedIsTold(t *testing.T) {
	t.Parallel()
	for name, learns := range map[string]func(c *Cache) error{
		"it reads the app": func(c *Cache) error {
			place := c.apps.Place("zoom")
			place.Invalidate() // or it would look five seconds later
			_, err := place.State(t.Context())
			return err
		},
		"it notices the loss itself, as the second one": func(c *Cache) error {
			_, err := c.apps.Place("zoom").SayLost(t.Context(), "w2", "before", "after")
			return err
		},
		"an app's change tells it": func(c *Cache) error {
			throttle(t, c, "a", time.Second)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := freshCache(t)
			state := c.names.App("zoom").State()
			accept(t, c, "zoom")
			told := make(chan AppChange, 16)
			t.Cleanup(c.App("zoom").OnApp(func(ch AppChange) { told <- ch }))
			if err := c.rdb.HSet(t.Context(), state, "born", "after", "born_before", "before", "lost_at", 9).Err(); err != nil {
				t.Fatal(err)
			}
			if err := learns(c); err != nil {
				t.Fatal(err)
			}
			for {
				select {
				case ch := <-told:
					if ch.Kind == "data_lost" && ch.State.LostAt == 9 {
						return
					}
				default:
					t.Fatal("nobody was told of the loss")
				}
			}
		})
	}
}
