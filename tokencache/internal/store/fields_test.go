package store

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// list returns what stands in braces behind a name in Lua.
func list(t *testing.T, lua, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(lua, "local "+name+" = {")
	body, _, closed := strings.Cut(rest, "\n}")
	if !ok || !closed {
		t.Fatalf("there is no %s in Lua: nothing is proven", name)
	}
	return body
}

// The Lua side writes only the fields it lists; the Go side restores only those it knows.
func TestLuaAndGoKnowTheSameFields(t *testing.T) {
	order := list(t, common, "order")
	for _, f := range grant.Fields {
		if !strings.Contains(order, "'"+f.Name+"'") {
			t.Errorf("common.lua does not write %s", f.Name)
		}
	}
	if n := strings.Count(order, "'") / 2; n != len(grant.Fields) {
		t.Errorf("common.lua lists %d fields, Go %d", n, len(grant.Fields))
	}
}

// A script that calls a record damaged which Go reads, or the other way round, would stop one of them for good.
func TestLuaAndGoTakeTheSameForDamage(t *testing.T) {
	const now = 1_800_000_000_000
	sound := func() *grant.Record {
		return &grant.Record{Schema: grant.Schema, State: grant.Active, Epoch: now, Generation: 1}
	}
	m := regexp.MustCompile(`latest = now \+ (\d+)`).FindStringSubmatch(common)
	if m == nil {
		t.Fatal("common.lua has no latest time: nothing is proven")
	}
	ahead, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	limits := map[string]string{} // field → its kind in Lua
	for _, m := range regexp.MustCompile(`(\w+) = ([123])`).FindAllStringSubmatch(list(t, common, "limits"), -1) {
		limits[m[1]] = m[2]
	}
	if len(limits) != len(grant.Fields) {
		t.Errorf("common.lua bounds %d fields, Go has %d", len(limits), len(grant.Fields))
	}
	believes := func(name, value string) bool {
		r := sound()
		return r.Set(name, value) == nil && r.Check(now) == nil
	}
	for _, f := range grant.Fields {
		if f.Name == "state" || f.Name == "v" {
			continue // not every line is a state, and a version above ours is a newer record
		}
		line := strings.Repeat("x", 64)
		for _, c := range []struct {
			kind, value string
			sound       bool
		}{
			{"1", "9000000000000000", true}, {"1", "9000000000000001", false}, {"1", line, false}, {"1", "-1", false},
			{"2", strconv.FormatInt(now+ahead, 10), true}, {"2", strconv.FormatInt(now+ahead+1, 10), false}, {"2", line, false},
			{"3", line, true}, {"3", line + "x", false}, {"3", "\x7f", false}, {"3", "a b~", true},
		} {
			if c.kind == limits[f.Name] && believes(f.Name, c.value) != c.sound {
				t.Errorf("%s=%.70q: Go believes it: %t; Lua, which takes the field for kind %s: %t", f.Name, c.value, !c.sound, c.kind, c.sound)
			}
		}
	}
	for _, s := range []grant.State{grant.Active, grant.Reauthorize, grant.Disconnected} {
		if !regexp.MustCompile(`local states = \{[^}]*\b` + string(s) + ` = 1`).MatchString(common) {
			t.Errorf("common.lua does not know the state %s", s)
		}
	}
}

// Numbers that both sides need stand in both: Lua has no other way to know them.
func TestLuaAndGoCountAlike(t *testing.T) {
	for _, c := range []struct {
		lua, says string
		n         int64
		times     int
	}{
		{common, `local schema = (\d+)`, grant.Schema, 1},
		{common, `GETRANGE', key, 0, (\d+)`, grant.MaxSealed, 1},
		{common, `#value > (\d+)`, grant.MaxValue, 1},
		{aboutApps, `now \+ (\d+)`, grant.ClockTolerance, 1},
		{aboutApps, `longest = (\d+)`, MaxAhead, 1},
		{aboutApps, `most_fields = \d+, (\d+)`, MaxFields, 1},
		{claimLua, `now \+ (\d{2,})`, grant.ClockTolerance, 3},
	} {
		found := regexp.MustCompile(c.says).FindAllStringSubmatch(c.lua, -1)
		if len(found) != c.times {
			t.Errorf("Lua says %s %d times, not %d: what is compared here has moved", c.says, len(found), c.times)
		}
		for _, m := range found {
			if m[1] != fmt.Sprint(c.n) {
				t.Errorf("Lua says %s, Go %d", m[0], c.n)
			}
		}
	}
}

// What a script writes down, people on call and explanations read by a name that Go has.
func TestLuaWritesNoKindOfEntryThatGoDoesNotKnow(t *testing.T) {
	known := map[string]bool{}
	for _, kind := range []string{
		journal.Connect, journal.Disconnect, journal.Claim, journal.Extend, journal.Commit, journal.Fail, journal.Refused, journal.Reauthorize,
		journal.Revival, journal.ReauthDue, journal.Reject, journal.Suspect, journal.Spare, journal.Restore,
	} {
		known[kind] = false
	}
	said := regexp.MustCompile(`(?:(?:announce|journal)\(KEYS\[\d\], ARGV\[2\], (?:ARGV\[1\], )?|\bkind(?:, [\w.]+)? = (?:\{\}, )?)'(\w+)'`)
	for _, lua := range []string{claimLua, commitLua, connectLua, disconnectLua, extendLua, failLua, rejectLua, restoreLua, warnLua} {
		for _, m := range said.FindAllStringSubmatch(lua, -1) {
			if _, ok := known[m[1]]; !ok {
				t.Errorf("a script writes %q, which package journal does not know", m[1])
			}
			known[m[1]] = true
		}
	}
	for kind, written := range known {
		if !written {
			t.Errorf("no script writes %q", kind)
		}
	}
}
