package board

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

var noon = time.Now()

func filled(t *testing.T, width, height, grants int) *Model {
	t.Helper()
	m := New("tokenlatch watch", "127.0.0.1:6379, prefix tl", false)
	m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	rows := []Row{
		{App: "zoom", Tenant: "t0005", State: "reauthorize", Why: "an exchange's answer was lost, and its token is spent", Acts: "tenant", Code: "TL302", Trouble: true, Tone: cli.Alarm, Since: noon, Expires: noon},
		{App: "zoom", Tenant: strings.Repeat("long", 30), State: "waiting", Why: "the exchange failed", Code: "TL201", Trouble: true, Tone: cli.Busy, Since: noon.Add(-time.Hour)},
		{App: "zoom", State: "circuit_open", Why: "the provider refuses the client", Trouble: true},
	}
	for i := range grants {
		rows = append(rows, Row{App: "zoom", Tenant: fmt.Sprintf("c%05d", i), State: "active", Tone: cli.Calm, Since: noon.Add(-time.Duration(i*7%31) * time.Minute), Expires: noon.Add(time.Duration(i) * time.Minute)})
	}
	m.Update(Rows{Rows: rows, Now: noon})
	for i := range 50 {
		m.Update(Event{Line: term.Line{term.In(cli.Plain, fmt.Sprint("event ", i, strings.Repeat(" and more", 20)))}})
	}
	m.Update(Listed{})
	return m
}

func press(m *Model, keys ...string) {
	for _, k := range keys {
		switch k {
		case "enter":
			m.Update(tea.KeyPressMsg{Code: tea.KeyEnter})
		case "esc":
			m.Update(tea.KeyPressMsg{Code: tea.KeyEscape})
		case "down":
			m.Update(tea.KeyPressMsg{Code: tea.KeyDown})
		case "end":
			m.Update(tea.KeyPressMsg{Code: tea.KeyEnd})
		case "backspace":
			m.Update(tea.KeyPressMsg{Code: tea.KeyBackspace})
		case "ctrl+c":
			m.Update(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl})
		default:
			for _, r := range k {
				m.Update(tea.KeyPressMsg{Code: r, Text: string(r)})
			}
		}
	}
}

func TestTheBoardFitsEachTerminal(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {140, 40}, {40, 10}, {20, 8}, {200, 60}, {1, 1}} {
		for _, grants := range []int{0, 3, 1000} {
			m := filled(t, size[0], size[1], grants)
			for _, keys := range []string{"", "down", "end", "/nothing at all"} {
				press(m, keys)
				lines := m.lines()
				if len(lines) > max(8, size[1]) {
					t.Errorf("%v: %d lines", size, len(lines))
				}
				for _, l := range lines {
					if n := utf8.RuneCountInString(l); n > max(20, size[0]) {
						t.Errorf("%v: a line of %d columns: %q", size, n, l)
					}
				}
			}
		}
	}
}

func TestTroubleComesFirstWhateverTheOrder(t *testing.T) {
	m := filled(t, 140, 40, 30)
	seen := map[string]bool{}
	for range orders {
		lines := m.lines()
		if both := lines[3] + lines[4]; !strings.Contains(both, "t0005") || !strings.Contains(both, "longlong") {
			t.Errorf("order %s:\n%s", orders[m.order].name, strings.Join(lines, "\n"))
		}
		seen[lines[5]+lines[6]] = true
		press(m, "s")
	}
	if len(seen) < 2 {
		t.Error("s does not change the order")
	}
}

func TestTheBoardSaysWhatAHumanNeeds(t *testing.T) {
	m := filled(t, 80, 24, 3)
	text := strings.Join(m.lines(), "\n")
	for _, want := range []string{"5 grants", "2 in trouble", "zoom: circuit_open, the provider refuses the client", "event 49", "t0005", "spent [TL302]; acts: tenant", "/ filter"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	press(m, "down")
	if text := strings.Join(m.lines(), ""); !strings.Contains(text, "zoom"+strings.Repeat("long", 30)+":waiting for") {
		t.Errorf("the chosen name is not whole:\n%s", text)
	}
	m.Update(Away("Redis does not answer"))
	if !strings.Contains(m.lines()[1], "NOT LIVE: Redis does not answer") {
		t.Errorf("%q", m.lines()[1])
	}
}

func TestAFilterIsTypedAndLifted(t *testing.T) {
	m := filled(t, 80, 24, 30)
	press(m, "/", "c0001", "x", "backspace")
	if text := strings.Join(m.lines(), "\n"); !strings.Contains(text, "/c0001_") || len(m.shown) != 10 {
		t.Errorf("%d rows\n%s", len(m.shown), text)
	}
	press(m, "q") // is a letter of the filter
	if m.filter != "c0001q" || !strings.Contains(strings.Join(m.lines(), "\n"), "no grant matches") {
		t.Errorf("filter %q", m.filter)
	}
	press(m, "backspace", "enter", "esc")
	if m.filter != "" || len(m.shown) != 32 {
		t.Errorf("filter %q, %d rows", m.filter, len(m.shown))
	}
	press(m, "/", "TL302")
	if len(m.shown) != 1 {
		t.Errorf("%d rows have the code", len(m.shown))
	}
}

func TestACopiedNameIsTheTenants(t *testing.T) {
	m := filled(t, 80, 24, 3)
	_, cmd := m.Update(tea.KeyPressMsg{Code: 'y', Text: "y"})
	if cmd == nil || fmt.Sprint(cmd()) != "t0005" || !strings.Contains(strings.Join(m.lines(), "\n"), "copied: t0005") {
		t.Errorf("%v\n%s", cmd, strings.Join(m.lines(), "\n"))
	}
}

func TestAGrantThatIsGoneLeavesTheBoard(t *testing.T) {
	m := filled(t, 80, 24, 3)
	m.Update(Gone{"zoom", "t0005"})
	m.Update(Rows{Rows: []Row{{App: "zoom", Tenant: "c00001", State: "active"}}})
	m.Update(Listed{}) // the others were not seen this time
	m.again()
	if len(m.shown) != 1 || m.shown[0].Tenant != "c00001" || m.chosen.tenant != "c00001" {
		t.Errorf("%d rows, chosen %v", len(m.shown), m.chosen)
	}
}

func TestHowABoardEnds(t *testing.T) {
	for key, interrupted := range map[string]bool{"q": false, "ctrl+c": true} {
		m := filled(t, 80, 24, 3)
		press(m, key)
		if m.Interrupted != interrupted {
			t.Errorf("%s: interrupted %t", key, m.Interrupted)
		}
	}
}

func TestManyGrantsDoNotStopTheBoard(t *testing.T) {
	m := filled(t, 80, 24, 100_000)
	began := time.Now()
	for range 1000 {
		m.Update(Rows{Rows: []Row{{App: "zoom", Tenant: "c00001", State: "active", Since: time.Now()}}})
		m.Update(tick{})
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("1000 changes of 100,000 grants took %s", took)
	}
}

// Names come from anybody who may write to Redis.
func TestNoControlCharacterReachesTheScreen(t *testing.T) {
	m := filled(t, 140, 40, 1)
	m.Update(Rows{Rows: []Row{{App: "\x1b[2J", Tenant: "\x1b]0;x\x07", State: "waiting", Trouble: true, Since: noon.Add(time.Hour)}, {App: "\x1b[2J", State: "paused", Trouble: true}}})
	m.again()
	for range 3 {
		press(m, "y")
		if text := strings.Join(m.lines(), "\n"); strings.ContainsAny(text, "\x1b\x07") {
			t.Errorf("%q", text)
		}
		press(m, "down")
	}
}
