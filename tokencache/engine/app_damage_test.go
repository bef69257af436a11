package engine

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// appFields are all that an app's state holds, and hostFields what it holds of a host.
var (
	hostFields = []string{
		"circuit", "error", "opened_at", "probes", "probe_at", "probe_by", "probe_id", "refused", "throttled_until", "limited", "changed_at",
	}
	appFields = append([]string{
		"brake", "ramp", "ramp_at", "mass_at", "mass_try_at", "deaths", "deaths_at", "failing", "down_at", "accepted_at", "read_at", "several",
		"born", "born_before", "lost_at", "change", "host", "by", "change_id", "rev", "v", "of_a_later_version",
	}, hostFields...)
)

// appFacts is all that a state says, in words that can be compared.
func appFacts(s *AppState) string {
	trouble := s.AppTrouble
	trouble.ByHost = nil
	said := fmt.Sprintf("%+v %v", trouble, []any{s.ProbeBy, s.Failing, s.AcceptedAt, s.ReadAt, s.Limited, s.Born, s.Ramp, s.By, s.Rev, s.Several, s.About})
	for _, name := range s.HostsWhere(func(*AppState) bool { return true }) {
		said += "\n" + name + ": " + appFacts(s.Hosts[name])
	}
	return said
}

// lines is an app's state as a script answers it that changes nothing.
func (c *Cache) lines(t *testing.T, key string) (fields map[string]string, now int64) {
	t.Helper()
	got, err := c.db.Publish(t.Context(), store.UnprobeScript, []string{key}, NewID(), "test", "no probe", 0, "").Slice()
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.ScriptReply(got)
	if err != nil {
		t.Fatal(err)
	}
	fields = map[string]string{}
	for line := range strings.SplitSeq(r.Text, "\n") {
		name, value, _ := strings.Cut(line, " ")
		fields[name] = value
	}
	return fields, r.Now
}

// Where scripts believe what Go does not, or the other way round, one of them waits for the other for good. What
// neither believes is gone with the next change, and no wait that is left lasts longer than a day.
func TestADamagedStateOfAnAppIsReadAlikeAndCleaned(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, value := range damages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCache(t, server.Client(t), redistest.Prefix(t))
			for _, at := range []string{"", "@a.example.com"} {
				fields := appFields
				if at != "" {
					fields = hostFields
				}
				for _, field := range slices.Concat(fields, []string{"limited with"}) {
					app, what := field+at+"/"+name, fmt.Sprintf("%s%s = %.20q", field, at, value)
					now, damaged := time.Now().UnixMilli(), value
					if field == "limited with" {
						field, damaged = "limited", "0123abcd "+value
					}
					sound := map[string]string{
						"circuit": "open", "opened_at": grant.Millis(now - 1000), "probes": "9", "probe_at": grant.Millis(now + 1000), "probe_by": "w",
						"throttled_until": grant.Millis(now + 2000), "limited": "0123abcd " + grant.Millis(now+2000), "changed_at": grant.Millis(now - 1000),
					}
					write := map[string]string{"accepted_at": "1", "mass_at": grant.Millis(now - 2000), "mass_try_at": grant.Millis(now + 1000), "rev": "5"}
					for f, v := range sound {
						write[f+at], write[f+"@b"] = v, v
					}
					write[field+at] = damaged
					key := c.App(app).AppKey()
					if err := c.rdb.HSet(t.Context(), key, write).Err(); err != nil {
						t.Fatal(err)
					}
					goes, err := c.App(app).AppState(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					lua, redisNow := c.lines(t, key)
					var said AppState
					said.Read(lua, redisNow)
					if a, b := appFacts(goes), appFacts(&said); a != b {
						t.Errorf("%s: Go reads\n%s\nof what scripts say it reads\n%s", what, a, b)
					}
					if v := lua[field+at]; len(v) > grant.MaxValue {
						t.Errorf("%s: pushed with %d bytes", what, len(v))
					}
					for of, s := range map[string]*AppState{"": goes, at: goes.Host("a.example.com"), "@b": goes.Host("b")} {
						if s == nil {
							continue
						}
						for of2, until := range map[string]int64{"probe_at": s.ProbeAt, "throttled_until": s.ThrottledUntil, "mass_try_at": s.MassTryAt, "mass_at": s.MassAt} {
							if d := s.Until(until); d > 24*time.Hour {
								t.Errorf("%s: %s%s is %s ahead", what, of2, of, d)
							}
						}
					}
					if goes.Host("b") == nil || !goes.Host("b").Open {
						t.Errorf("%s: another host's circuit is forgotten", what)
					}
					if _, _, err := c.App(app).As("w").Failing(t.Context(), NewID(), "ambiguous//502", "someone", 3); err != nil {
						t.Errorf("%s: %v", what, err)
					}
					left := c.rdb.HGetAll(t.Context(), key).Val()
					for f, v := range left {
						if strings.HasPrefix(f, field) && v == damaged && lua[f] != v {
							t.Errorf("%s: left by the next change", what)
						}
					}
					after, _ := c.lines(t, key)
					for f := range left {
						if _, kept := after[f]; !kept {
							t.Errorf("%s: %s is left and not believed", what, f)
						}
					}
				}
			}
		})
	}
}

// Deaths are doubted, or believed, for a day; not for as long as a damaged record, or a clock that was set back, says.
func TestADamagedStateOfAnAppLetsDeathsBeBelieved(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	d := Deaths{Most: 10, Within: 5 * time.Minute, Doubt: 24 * time.Hour}
	long := time.Now().Add(48 * time.Hour).UnixMilli()
	for name, value := range map[string]string{
		"no number": "abc", "negative": "-1", "10^18": "1000000000000000000", "2^53": "9007199254740992", "year 2255": "9000000000000",
		"not a number": "nan", "infinite": "inf", "two days ahead": strconv.FormatInt(long, 10),
	} {
		for _, field := range []string{"mass_at", "mass_try_at", "deaths", "deaths_at", "changed_at"} {
			app := field + "/" + name
			c.rdb.HSet(t.Context(), c.App(app).AppKey(), "deaths_at", time.Now().Add(-time.Hour).UnixMilli(), field, value, "rev", 1)
			if ok, first, err := c.App(app).As("w").Death(t.Context(), NewID(), d); !ok || first || err != nil {
				t.Errorf("%s = %s: a death is believed %t, the one too many %t, %v", field, value, ok, first, err)
			}
		}
		app := "retry/" + name
		c.rdb.HSet(t.Context(), c.App(app).AppKey(), "mass_at", time.Now().UnixMilli(), "mass_try_at", value, "rev", 1)
		if ok, err := c.App(app).As("w").Retry(t.Context(), NewID(), time.Minute, d); !ok || err != nil {
			t.Errorf("mass_try_at = %s: none may be tried: %v", value, err)
		}
	}
}

// Lua unpacks no 8000 values at once, and every change is pushed to all.
func TestAStateWithManyFieldsIsCleanedByTheNextChange(t *testing.T) {
	t.Parallel()
	for name, field := range map[string]string{
		"of one host": "x%d@a", "of the app": "x%d", "circuits of hosts": "circuit@h%d", "changes of hosts": "changed_at@h%d", "of no host": "x%d@",
	} {
		for of, change := range map[string]func(c *Cache) *AppState{
			"an acceptance by the host": func(c *Cache) *AppState {
				hostAccept(t, c, "a") // forgotten, or accepted: either is well
				return accept(t, c, "zoom")
			},
			"a refusal by the host": func(c *Cache) *AppState { _, s := hostRefused(t, c, "a", "one", ""); return s },
			"an acceptance":         func(c *Cache) *AppState { return accept(t, c, "zoom") },
		} {
			c := freshCache(t)
			key, now := c.App("zoom").AppKey(), time.Now().UnixMilli()
			many := map[string]any{"circuit@a": "open", "changed_at@a": now, "lost_at": now - 1000, "rev": 7}
			for i := range 20_000 {
				many[fmt.Sprintf(field, i)] = now
			}
			if err := c.rdb.HSet(t.Context(), key, many).Err(); err != nil {
				t.Fatal(err)
			}
			goes, err := c.App("zoom").AppState(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var said AppState
			said.Read(c.lines(t, key))
			if a, b := appFacts(goes), appFacts(&said); a != b {
				t.Errorf("%s: Go reads\n%.300s\nof what scripts say it reads\n%.300s", name, a, b)
			}
			s := change(c)
			if s.LostAt == 0 || len(s.Hosts) > 16 {
				t.Errorf("%s, %s: lost at %d, %d hosts", name, of, s.LostAt, len(s.Hosts))
			}
			if fields := c.rdb.HGetAll(t.Context(), key).Val(); len(fields) > 30 {
				t.Errorf("%s, %s: %d fields are left", name, of, len(fields))
			}
		}
	}
}

// What is huge is neither pushed nor answered, and goes with the next change.
func TestAHugeFieldOfAnAppIsNotPushed(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	key := c.App("zoom").AppKey()
	huge := strings.Repeat("x", 1<<20)
	for _, field := range []string{"error", "odd", "error@a", "odd@a", huge, "circuit@" + huge} {
		c.rdb.HSet(t.Context(), key, field, huge, "changed_at@a", time.Now().UnixMilli())
	}
	if lines, _ := c.lines(t, key); len(lines) > 10 || strings.Contains(fmt.Sprint(lines), strings.Repeat("x", 65)) {
		t.Errorf("%d fields are answered", len(lines))
	}
	accept(t, c, "zoom")
	for field, value := range c.rdb.HGetAll(t.Context(), key).Val() {
		if len(field)+len(value) > 128 {
			t.Errorf("%.30s is left", field)
		}
	}
}

// Nobody can probe a host of which no tenant is left.
func TestAHostThatNobodyWantsIsForgottenAfterADay(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	hostRefused(t, c, "a", "one", "")
	hostRefused(t, c, "a", "two", "", time.Minute)
	hostRefused(t, c, "b", "one", "")
	hostRefused(t, c, "b", "two", "", time.Minute)
	key, now := c.App("zoom").AppKey(), time.Now()
	c.rdb.HSet(t.Context(), key, "changed_at@a", now.Add(-23*time.Hour).UnixMilli(), "changed_at@b", now.Add(-25*time.Hour).UnixMilli())
	s, err := stranger(t, c).App("zoom").AppState(t.Context())
	if err != nil || !s.OpenAt("a") || s.Host("b") != nil || len(s.ByHost) != 1 {
		t.Errorf("%v, %+v", err, s)
	}
	if s := accept(t, c, "zoom"); !s.OpenAt("a") || s.Host("b") != nil {
		t.Errorf("%+v", s)
	}
	for field := range maps.Keys(c.rdb.HGetAll(t.Context(), key).Val()) {
		if strings.HasSuffix(field, "@b") {
			t.Errorf("%s is left", field)
		}
	}
	if ok, s, err := c.App("zoom").As("w").At("b").Probe(t.Context(), NewID(), 0, time.Minute); !ok || err != nil || s.Host("b") != nil {
		t.Errorf("its tenants wait: %t, %v", ok, err)
	}
}

// A right to probe that lasted longer than what is believed would be given to everybody.
func TestAProbeOfAVeryLongExchangeIsGivenToOne(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	trip(t, c, "zoom", 0)
	for i, want := range []bool{true, false} {
		if ok, _, err := c.App("zoom").As("w").Probe(t.Context(), NewID(), 0, 100*time.Hour); ok != want || err != nil {
			t.Errorf("%d: %t, %v", i, ok, err)
		}
	}
}
