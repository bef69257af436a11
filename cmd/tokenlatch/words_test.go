package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
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

// What is stored is shown in the same times wherever it is read.
func TestEachCommandShowsUTC(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	tell(t, server.Client(t))
	clock := regexp.MustCompile(`\d\d:\d\d:\d\d`)
	for _, args := range []string{"ls zoom", "inspect zoom dead", "journal zoom dead", "explain zoom dead"} {
		var seen [2]string
		for i, zone := range []string{"UTC", "Etc/GMT-5"} {
			c := prepare(t, append(strings.Fields(args), "--redis", server.Addr())...)
			c.Env = append(c.Env, "TZ="+zone)
			if code := c.runs(t); code != cli.ExitOK {
				t.Fatalf("%s: code %d: %s", args, code, &c.stderr)
			}
			seen[i] = strings.Join(clock.FindAllString(c.stdout.String(), -1), " ")
			if said := c.stdout.String() + c.stderr.String(); !strings.Contains(said, "UTC") {
				t.Errorf("%s does not say that its times are UTC:\n%s", args, said)
			}
		}
		if seen[0] != seen[1] || seen[0] == "" {
			t.Errorf("%s: %s in UTC, and %s elsewhere", args, seen[0], seen[1])
		}
	}
}

// A claim that nobody takes over is said by all who look, from the same minute on.
func TestAllAgreeAboutAClaimThatNobodyTakesOver(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	tell(t, server.Client(t))
	now := time.Now().UnixMilli()
	for _, tt := range []struct {
		ago  time.Duration
		acts string
		late bool
	}{{50 * time.Second, "nobody", false}, {70 * time.Second, "you", true}} {
		at := strconv.FormatInt(now-tt.ago.Milliseconds(), 10)
		teller{t, t.Context(), server.Client(t), nil}.hset("silent", "claim_at", at, "claim_until", at, "refresh_at", at, "expires_at", at, "used_at", at)
		if _, out, _ := told(t, server, "explain", "zoom", "silent"); !strings.Contains(out, "who acts    "+tt.acts) || strings.Contains(out, "NOBODY HAS MADE") != tt.late {
			t.Errorf("explain after %s:\n%s", tt.ago, out)
		}
		if _, out, _ := told(t, server, "ls", "zoom"); !regexp.MustCompile(`silent .* \[TL203\] +` + tt.acts + `\n`).MatchString(out) {
			t.Errorf("ls after %s:\n%s", tt.ago, out)
		}
		if _, out, _ := told(t, server, "doctor", "--json"); strings.Contains(out, "have a claim that nobody takes over: zoom silent") != tt.late {
			t.Errorf("doctor after %s:\n%s", tt.ago, out)
		}
	}
}

func TestALineOfTheJournalHasWhatTheProviderAnswered(t *testing.T) {
	t.Parallel()
	line := entryLine(journal.Entry{Kind: journal.Fail, Generation: 1, By: "w", Answer: "ambiguous//500", Took: 412 * time.Millisecond, RequestID: "7d1f"}, time.Now(), 8).Text(0, false)
	for _, want := range []string{"ambiguous//500", "412ms", "request id 7d1f"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q lacks %s", line, want)
		}
	}
}

// After a FLUSHALL there may be no grant that says anything: the app's own trouble must be said.
func TestAnAppThatHasLostItsDataSaysSo(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	loseData(t, server.Client(t))
	_, stdout, stderr := told(t, server, "explain", "zoom")
	if !strings.Contains(stdout, "Redis has lost data") || !strings.Contains(stderr, "tokenlatch accept-loss zoom") {
		t.Errorf("%s%s", stdout, stderr)
	}
}

// What the help shows as a configuration file is one.
func TestTheConfigurationInTheHelpIsOne(t *testing.T) {
	t.Parallel()
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
