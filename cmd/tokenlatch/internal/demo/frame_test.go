package demo

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// crowded is a frame in which everything is as wide as it gets.
func crowded(tenants int) *frame {
	f := &frame{
		heading: "coordinated, 32 workers, 500 tenants, Redis at redis-0.redis-headless.production.svc:6379",
		rule:    "atlassian: " + inRules(provider.Atlassian()),
		elapsed: 59*time.Minute + 59*time.Second, total: time.Hour,
		sums: sums{12345678, 123456, 12345, 1234567, 1234567, 12345, 1234, 1234, 1234, 1234},
	}
	states := []string{"must consent again", "holder died, 10.0s", "exchanging", "recovering", "backing off", "fresh", "due", "quiet"}
	for i := range tenants {
		left := time.Duration(i%5) * 800 * time.Millisecond
		f.rows = append(f.rows, row{tenantName(i), 9999, states[i%len(states)], cli.Tone(i % 6), left, 4194304, 1000, 9999, 999})
	}
	for i := range 30 {
		f.events = append(f.events, event{time.Duration(i) * time.Minute, cli.Alarm, "cyberdyne: holder 4194304 killed in mid-exchange (before the commit), as it happens"})
	}
	return f
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

func TestFrameFitsItsTerminal(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {200, 60}, {80, 10}, {40, 24}, {20, 5}, {1, 1}} {
		for _, tenants := range []int{1, 6, 40, 500} {
			width, height := size[0], size[1]
			lines := crowded(tenants).lines(width, height, true)
			if len(lines) > height {
				t.Errorf("%d lines on %d rows with %d tenants", len(lines), height, tenants)
			}
			for _, l := range lines {
				text := escapes.ReplaceAllString(l.Text(width, true), "")
				if utf8.RuneCountInString(text) > width {
					t.Errorf("wider than %d columns: %q", width, text)
				}
			}
		}
	}
}

func TestTableNeedsNoCutAt80Columns(t *testing.T) {
	for _, l := range crowded(40).lines(80, 24, true)[4:] {
		text := l.Text(0, false)
		if strings.Contains(text, "killed in") || strings.Contains(text, "calls") || strings.Contains(text, "repeated") {
			continue // prose, and sums in the millions, may be cut
		}
		if utf8.RuneCountInString(text) > 80 {
			t.Errorf("a column is lost: %q", text)
		}
	}
}

func TestFrameSaysHowManyTenantsItHides(t *testing.T) {
	text := term.Render(crowded(40).lines(80, 24, true), 80, false)
	shown := strings.Count(text, "4194304   1,000")
	if want := fmt.Sprintf("... and %d more", 40-shown); shown == 0 || !strings.Contains(text, want) {
		t.Errorf("%d rows shown, but no %q:\n%s", shown, want, text)
	}
	if all := term.Render(crowded(6).lines(80, 24, true), 80, false); strings.Contains(all, "more") {
		t.Errorf("six tenants have room on 24 rows:\n%s", all)
	}
}

func TestNoColourMeansNoEscapes(t *testing.T) {
	if text := term.Render(crowded(6).lines(80, 24, true), 80, false); strings.Contains(text, "\x1b") {
		t.Errorf("%q", text)
	}
	if text := term.Render(crowded(6).lines(80, 24, false), 80, false); strings.ContainsAny(text, "█░") {
		t.Errorf("block characters without UTF-8:\n%s", text)
	}
}

func TestStateNamesTheProcessThatIsWaitedFor(t *testing.T) {
	now := at(0)
	dead := map[int]bool{7: true}
	for want, tc := range map[string]struct {
		t       tenant
		waiting int
	}{
		"fresh":              {t: tenant{seen: grant{left: time.Second}}},
		"due":                {t: tenant{seen: grant{left: time.Second, due: true}}},
		"quiet":              {t: tenant{seen: grant{left: -time.Second}}},
		"waiting":            {t: tenant{seen: grant{left: -time.Second}}, waiting: 3},
		"exchanging":         {t: tenant{seen: grant{holder: 8}}},
		"recovering":         {t: tenant{seen: grant{holder: 8, again: true}}},
		"holder died, 1.5s":  {t: tenant{seen: grant{holder: 7, claim: 1500 * time.Millisecond}}},
		"holder died":        {t: tenant{seen: grant{holder: 7, claim: -time.Second}}},
		"backing off":        {t: tenant{seen: grant{backoff: true}}},
		"must consent again": {t: tenant{lost: true}},
	} {
		tc.t.seenAt = now
		if got, _ := stateOf(&tc.t, now, dead, tc.waiting); got != want {
			t.Errorf("%+v: %q, want %q", tc.t.seen, got, want)
		}
	}
}
