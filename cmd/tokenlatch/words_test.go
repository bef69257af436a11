package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/settings"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// The words of an explanation say UTC: the times beside them must be UTC, too, wherever it is read.
func TestAnExplanationHasOneTimeZone(t *testing.T) {
	const far = "TZ=Etc/GMT-5" // of a process of its own: what other tests have left behind may read the clock
	if os.Getenv("TZ") != strings.TrimPrefix(far, "TZ=") {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), far)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if _, offset := time.Now().Zone(); offset == 0 {
		t.Skip("this machine knows no time zones")
	}
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	e := explain.Explanation{
		Code: "TL201", Title: "acme is WAITING; the next try is at 12:00:09 UTC", RetryAt: noon.Add(9 * time.Second),
		Story: []explain.Sentence{{At: noon.Add(-time.Second), Text: "it failed"}},
	}
	text := term.Render(explanationLines(e, noon, 100), 0, false)
	if strings.Contains(text, "17:00") || strings.Contains(text, "16:59") || !strings.Contains(text, "11:59:59") || !strings.Contains(text, "at 12:00:09 UTC (in 9s)") {
		t.Errorf("two time zones:\n%s", text)
	}
}

func TestALineOfTheJournalHasWhatTheProviderAnswered(t *testing.T) {
	line := entryLine(journal.Entry{Kind: journal.Fail, Generation: 1, By: "w", Answer: "ambiguous//500", Took: 412 * time.Millisecond, RequestID: "7d1f"}, time.Now(), 8).Text(0, false)
	for _, want := range []string{"ambiguous//500", "412ms", "request id 7d1f"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q lacks %s", line, want)
		}
	}
}

// After a FLUSHALL there may be no grant that says anything: the app's own trouble must be said.
func TestAnAppThatHasLostItsDataSaysSo(t *testing.T) {
	server := redistest.Own(t)
	loseData(t, server.Client(t))
	_, stdout, stderr := told(t, server, "explain", "zoom")
	if !strings.Contains(stdout, "Redis has lost data") || !strings.Contains(stderr, "tokenlatch accept-loss zoom") {
		t.Errorf("%s%s", stdout, stderr)
	}
}

// What the help shows as a configuration file is one.
func TestTheConfigurationInTheHelpIsOne(t *testing.T) {
	_, text, _ := strings.Cut(configTopic, "\n  keyset:")
	text, _, _ = strings.Cut(text, "\n\nIn profile")
	name := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(name, []byte("  keyset:"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := settings.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.App("zoom"); err != nil {
		t.Error(err)
	}
}
