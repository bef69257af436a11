package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// hostRefused notes the refusal of a tenant by a host; two open its circuit.
func hostRefused(t testing.TB, c *Cache, host, tenant, probe string, waits ...time.Duration) (opened bool, _ *AppState) {
	t.Helper()
	r := Refusal{Tenant: tenant, Error: "app_refused/invalid_client/401", Probe: probe, Tenants: 2}
	opened, s, err := c.App("zoom").As("w").At(host).Trip(t.Context(), NewID(), r, waits...)
	if err != nil {
		t.Fatal(err)
	}
	return opened, s
}

func hostAccept(t testing.TB, c *Cache, host string) (closed bool, _ *AppState) {
	t.Helper()
	closed, s, err := c.App("zoom").As("w").At(host).Accept(t.Context(), NewID(), Acceptance{Read: true})
	if err != nil {
		t.Fatal(err)
	}
	return closed, s
}

func hostThrottle(t testing.TB, c *Cache, host, tenant string, d time.Duration) (paused bool, _ *AppState) {
	t.Helper()
	paused, s, err := c.App("zoom").As("w").At(host).Throttle(t.Context(), NewID(), "throttled//429", tenant, d)
	if err != nil {
		t.Fatal(err)
	}
	return paused, s
}

// What one host says neither touches the app nor another host, and what they say does not touch it.
func TestEachHostHasItsOwnCircuit(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	accept(t, c, "zoom")
	if opened, s := hostRefused(t, c, "a.example.com", "one", "", 0, time.Minute); opened || s.Open || s.Host("a.example.com").Open {
		t.Fatalf("one tenant: %+v", s)
	}
	hostRefused(t, c, "b.example.com", "one", "")
	hostAccept(t, c, "b.example.com")
	accept(t, c, "zoom")
	opened, s := hostRefused(t, c, "a.example.com", "two", "", 0, time.Minute)
	a := s.Host("a.example.com")
	if !opened || a == nil || !a.Open || a.Probes != 1 || a.OpenedAt != s.At() || s.Open || s.Refused != "" || len(s.Hosts) != 1 || s.About != "a.example.com" {
		t.Fatalf("two tenants: %+v, %+v", s, a)
	}
	if n := c.rdb.HGet(t.Context(), string(c.names)+":app:zoom", "circuit@a.example.com").Val(); n != "open" {
		t.Errorf("what people on call read is %q", n)
	}
	// A probe of the host is neither the app's nor another's.
	id := NewID()
	if ok, s, err := c.App("zoom").As("w").At("a.example.com").Probe(t.Context(), id, 0, time.Hour); !ok || err != nil || s.Host("a.example.com").ProbeBy != "w" || s.ProbeBy != "" {
		t.Fatal(ok, err)
	}
	if ok, _, err := c.App("zoom").As("w").At("a.example.com").Probe(t.Context(), NewID(), 0, time.Hour); ok || err != nil {
		t.Fatal("two probes at once", err)
	}
	_, s = hostRefused(t, c, "a.example.com", "three", id, 0, time.Minute)
	if a := s.Host("a.example.com"); a.Probes != 2 || a.ProbeBy != "" || a.ProbeAt-s.At() != time.Minute.Milliseconds() {
		t.Errorf("a refused probe: %+v", a)
	}
	if s := accept(t, c, "zoom"); !s.Host("a.example.com").Open {
		t.Error("an acceptance by another host has closed it")
	}
	closed, s := hostAccept(t, c, "a.example.com")
	if !closed || s.Hosts != nil || s.AcceptedAt == 0 {
		t.Errorf("accepted: %t, %+v", closed, s)
	}
	for field := range c.rdb.HGetAll(t.Context(), c.App("zoom").AppKey()).Val() {
		if strings.Contains(field, "@") {
			t.Errorf("%s is left", field)
		}
	}
}

func TestAHostsPauseEndsByItself(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	accept(t, c, "zoom")
	if paused, s := hostThrottle(t, c, "a", "one", time.Hour); paused || s.Host("a").ThrottledUntil != 0 {
		t.Fatalf("one tenant: %+v", s)
	}
	if paused, s := hostThrottle(t, c, "b", "two", time.Hour); paused || s.Host("b").ThrottledUntil != 0 {
		t.Fatalf("a tenant of another host: %+v", s)
	}
	paused, s := hostThrottle(t, c, "a", "two", time.Hour)
	if a := s.Host("a"); !paused || a.ThrottledUntil-s.At() != time.Hour.Milliseconds() || s.ThrottledUntil != 0 || s.Ramp != 0 || s.HostUnsettled("a") {
		t.Fatalf("two tenants: %+v, %+v", s, a)
	}
	if _, s := hostAccept(t, c, "a"); s.Host("a").ThrottledUntil == 0 {
		t.Error("an exchange that was under way has ended the pause")
	}
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "throttled_until@a", 1)
	if _, s := hostAccept(t, c, "a"); s.Host("a") != nil || s.Host("b") == nil {
		t.Errorf("after it: %+v", s)
	}
}

func TestAHostsScriptsAreIdempotent(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]struct {
		before func(c *Cache)
		script func(c *Cache, id string) (*AppState, error)
	}{
		"suspect": {func(*Cache) {}, func(c *Cache, id string) (*AppState, error) {
			_, s, err := c.App("zoom").At("a").Trip(t.Context(), id, Refusal{Tenant: "one", Tenants: 2}, 0)
			return s, err
		}},
		"trip": {func(c *Cache) { hostRefused(t, c, "a", "one", "") }, func(c *Cache, id string) (*AppState, error) {
			_, s, err := c.App("zoom").At("a").Trip(t.Context(), id, Refusal{Tenant: "two", Tenants: 2}, 0)
			return s, err
		}},
		"probe": {func(c *Cache) { hostRefused(t, c, "a", "one", ""); hostRefused(t, c, "a", "two", "", 0) }, func(c *Cache, id string) (*AppState, error) {
			ok, s, err := c.App("zoom").At("a").Probe(t.Context(), id, 0, time.Hour)
			if !ok {
				t.Error("no probe")
			}
			return s, err
		}},
		"unprobe": {func(c *Cache) {
			hostRefused(t, c, "a", "one", "")
			hostRefused(t, c, "a", "two", "", 0)
			if ok, _, err := c.App("zoom").At("a").Probe(t.Context(), "probe", 0, time.Hour); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}, func(c *Cache, id string) (*AppState, error) {
			return c.App("zoom").At("a").Unprobe(t.Context(), id, "probe", 0)
		}},
		"throttle": {func(c *Cache) { hostThrottle(t, c, "a", "one", time.Hour) }, func(c *Cache, id string) (*AppState, error) {
			_, s, err := c.App("zoom").At("a").Throttle(t.Context(), id, "e", "two", time.Hour)
			return s, err
		}},
		"accept": {func(c *Cache) { hostRefused(t, c, "a", "one", "") }, func(c *Cache, id string) (*AppState, error) {
			_, s, err := c.App("zoom").At("a").Accept(t.Context(), id, Acceptance{})
			return s, err
		}},
	} {
		c := freshCache(t)
		known(t, c, "zoom")
		run.before(c)
		id := NewID()
		first, err1 := run.script(c, id)
		again, err2 := run.script(c, id)
		if err1 != nil || err2 != nil || first.Rev == 0 || first.Rev != again.Rev {
			t.Errorf("%s: %+v, then %+v; %v, %v", name, first, again, err1, err2)
		}
	}
}

// 10,000 hosts in trouble are no load, and those that are stopped stay longest.
func TestTheStateOfManyHostsStaysSmall(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	for i := range 3 {
		host := fmt.Sprint("open", i)
		hostRefused(t, c, host, "one", "")
		hostRefused(t, c, host, "two", "", time.Hour)
	}
	hostThrottle(t, c, "paused", "one", time.Hour)
	hostThrottle(t, c, "paused", "two", time.Hour)
	var s *AppState
	for i := range 200 {
		_, s = hostRefused(t, c, fmt.Sprintf("%s%d.example.com", strings.Repeat("long", 30), i), strings.Repeat("t", 200), "")
	}
	names := slices.Sorted(maps.Keys(s.Hosts))
	for _, name := range []string{"open0", "open1", "open2", "paused"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s has made room for hosts that nothing stops", name)
		}
	}
	if len(names) != 16 || s.Host(fmt.Sprintf("%s199.example.com", strings.Repeat("long", 30))) == nil || s.Host(fmt.Sprintf("%s0.example.com", strings.Repeat("long", 30))) != nil {
		t.Errorf("%d hosts: %v", len(names), names)
	}
	size := 0
	for field, value := range c.rdb.HGetAll(t.Context(), c.App("zoom").AppKey()).Val() {
		if size += len(field) + len(value); len(field) > 100 || len(value) > 64 {
			t.Errorf("%s is %q", field, value)
		}
	}
	if size > 16<<10 {
		t.Errorf("%d bytes", size)
	}
	if closed, s := hostAccept(t, c, "open0"); !closed || len(s.Hosts) != 15 {
		t.Error(closed, len(s.Hosts))
	}
}

func TestAHostsNameIsPlainWhateverItIs(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	known(t, c, "zoom")
	odd := []string{"a b", "a\nrev 99", "a@b", "ä.example.com", "{zoom:acme}", strings.Repeat("x", 300), strings.Repeat("x", 301), "A b"}
	for _, host := range odd {
		if _, s := hostRefused(t, c, host, "one", ""); s.Host(host) == nil || !s.Host(host).Refuses("one") {
			t.Errorf("%q is not known: %+v", host, s)
		}
	}
	s, err := c.App("zoom").AppState(t.Context())
	if err != nil || len(s.Hosts) != len(odd) || s.Rev != int64(len(odd)) {
		t.Errorf("%v, %+v", err, s)
	}
	for name := range s.Hosts {
		if len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || c == '@' || c == '{' }) {
			t.Errorf("%q", name)
		}
	}
	if _, s := hostRefused(t, c, "A.Example.com:8443", "one", ""); s.Host("a.example.com:8443") == nil {
		t.Errorf("a plain name is not kept: %v", slices.Sorted(maps.Keys(s.Hosts)))
	}
}

func TestAHostsChangesArePushed(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Own(t).Client(t), redistest.Prefix(t)
	a, b := newCache(t, rdb, prefix), newCache(t, rdb, prefix)
	known(t, b, "zoom")
	known(t, a, "zoom")
	told := make(chan string, 10)
	t.Cleanup(b.App("zoom").OnApp(func(ch AppChange) { told <- ch.Kind + " " + ch.State.About }))
	hostRefused(t, a, "a", "one", "")
	hostRefused(t, a, "a", "two", "", time.Hour)
	heardOf(t, b, "zoom", "the circuit of a", func(s *AppState) bool {
		h := s.Host("a")
		return h != nil && h.Open && h.Until(h.ProbeAt) > time.Minute
	})
	hostThrottle(t, a, "b", "one", time.Hour)
	hostThrottle(t, a, "b", "two", time.Hour)
	hostAccept(t, a, "a")
	accept(t, a, "zoom")
	for _, want := range []string{"host_suspected a", "host_open a", "host_limited b", "host_throttled b", "host_closed a", "accepted "} {
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("%s was not told", want)
		}
	}
}

// Redis' clock was set back: what a host waits for would last as long as that.
func TestAHostsWaitsEndWhenTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	hostRefused(t, c, "a", "one", "")
	hostRefused(t, c, "a", "two", "", time.Hour)
	ahead := time.Now().Add(24 * time.Hour).UnixMilli()
	c.rdb.HSet(t.Context(), c.App("zoom").AppKey(), "changed_at@a", ahead, "probe_at@a", ahead, "throttled_until@a", ahead)
	s, err := stranger(t, c).App("zoom").AppState(t.Context())
	if h := s.Host("a"); err != nil || h.ProbeAt != 0 || h.ThrottledUntil != 0 || !h.Open {
		t.Errorf("%v, %+v", err, h)
	}
	if ok, s, err := c.App("zoom").At("a").Probe(t.Context(), NewID(), 0, time.Minute); err != nil || !ok || s.Host("a").ThrottledUntil != 0 {
		t.Error(ok, err)
	}
}

// A process of a version that knows no hosts changes the app's own facts alone, and so does not end theirs.
func TestAnAppsChangesLeaveItsHostsAlone(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	hostRefused(t, c, "a", "one", "")
	hostRefused(t, c, "a", "two", "", time.Hour)
	trip(t, c, "zoom", time.Hour)
	throttle(t, c, "one", time.Hour)
	die(t, c, 3)
	if s := accept(t, c, "zoom"); s.Host("a") == nil || !s.Host("a").Open {
		t.Errorf("%+v", s)
	}
}

// What a host says must not hide that Redis' clock was set back since the app's waits were written.
func TestAHostsChangeLetsNoWaitOfTheAppLastAsLongAsAClockWasSetBack(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	key, ahead := c.App("zoom").AppKey(), time.Now().Add(time.Hour).UnixMilli()
	if err := c.rdb.HSet(t.Context(), key, "circuit", "open", "opened_at", ahead, "probes", 1, "probe_at", ahead+10_000,
		"throttled_until", ahead+60_000, "changed_at", ahead, "rev", 5, "v", 1).Err(); err != nil {
		t.Fatal(err)
	}
	_, s := hostRefused(t, c, "a.example.com", "one", "")
	if probe, pause := s.Until(s.ProbeAt), s.Until(s.ThrottledUntil); probe > time.Minute || pause > time.Minute {
		t.Errorf("the app waits %s for a probe, and pauses for %s", probe, pause)
	}
}
