package demo

import (
	"bytes"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

var update = flag.Bool("update", false, "write the golden files anew")

var storyOf = map[string]Report{
	"pass": {
		Mode: modeCoordinated, Profile: "zoom", Workers: 4, Tenants: 6, Calls: 12345, Errors: 85,
		Exchanges: 33, Expiries: 29, LostResponse: 1, Kills: 4, Recovered: 3, Unauthorized: 16,
		Wait: waits{P50: 92.4, P99: 2657.4, Max: 2660.7}, Exchange: median{P50: 154.2},
		failures: map[string]int{"the tenant had to consent again": 85}, recovery: 1,
		seconds: 15.4, backend: "embedded Redis",
	},
	"fail": {
		Mode: modeCoordinated, Profile: "gitlab", Workers: 1, Tenants: 1, Calls: 40, Exchanges: 3, Expiries: 2,
		Repeats: 1, GrantsLost: 1, LostResponse: 1, timedOut: 1, seconds: 5, backend: "Redis at 127.0.0.1:6379",
	},
	"naive": {
		Mode: modeNaive, Profile: "zoom", Workers: 4, Tenants: 6, Calls: 1319, Errors: 460, Exchanges: 34,
		Expiries: 12, Repeats: 22, GrantsLost: 10, Unauthorized: 218, Wait: waits{0.3, 155, 155}, Exchange: median{152},
		failures: map[string]int{"the tenant had to consent again": 460}, seconds: 8.1, backend: "embedded Redis",
	},
	"idle": {Mode: modeCoordinated, Profile: "zoom", Workers: 4, Tenants: 6, backend: "embedded Redis"},
}

func TestReportReadsLikeItsGoldenFile(t *testing.T) {
	for name, r := range storyOf {
		r.judge()
		if r.Verdict != name && name != "naive" {
			t.Errorf("%s: verdict %q", name, r.Verdict)
		}
		golden(t, name+".txt", term.Render(r.Lines(), 0, false))
		for _, l := range r.Lines() {
			if text := l.Text(0, false); utf8.RuneCountInString(text) > 80 {
				t.Errorf("%s: wider than 80 columns: %q", name, text)
			}
		}
	}
	var out bytes.Buffer
	r := storyOf["pass"]
	r.judge()
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "pass.json", out.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", path, got)
	}
}

func TestOnlyABrokenPromiseFails(t *testing.T) {
	for _, tc := range []struct {
		r    Report
		code int
	}{
		{Report{Exchanges: 1, LostResponse: 3, Errors: 5, Unauthorized: 7}, cli.ExitOK},
		{Report{Exchanges: 1, Repeats: 1}, cli.ExitFailed},
		{Report{Exchanges: 1, GrantsLost: 1}, cli.ExitFailed},
		{Report{Mode: modeNaive, Exchanges: 9, Repeats: 1, GrantsLost: 1}, cli.ExitOK},
		{Report{}, cli.ExitOK},
	} {
		tc.r.judge()
		if got := tc.r.Exit(); got != tc.code {
			t.Errorf("%+v: exit code %d, want %d", tc.r, got, tc.code)
		}
	}
}

func TestHistogramIsTrueToFivePercent(t *testing.T) {
	var h histogram
	if h.quantile(0.5) != 0 {
		t.Error("the median of nothing is not 0")
	}
	for i := 1; i <= 1000; i++ {
		h.add(float64(i))
	}
	for q, want := range map[float64]float64{0.5: 500, 0.99: 990, 1: 1000} {
		if got := h.quantile(q); math.Abs(got-want) > want*(growth-1) {
			t.Errorf("quantile %v: %v, want about %v", q, got, want)
		}
	}
	if h.max != 1000 {
		t.Errorf("max %v, want it exactly", h.max)
	}
}
