package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/demo"
)

var reportKeys = []string{
	"workers", "tenants", "calls", "errors", "exchanges", "expiries", "repeat_presentations", "grants_lost",
	"lost_response", "kills", "recovered", "surfaced_401", "wait_ms", "exchange_ms",
}

// reported runs the demo with --json and returns its report.
func reported(t *testing.T, wantCode int, args ...string) demo.Report {
	t.Helper()
	c := prepare(t, append([]string{"demo", "--json"}, args...)...)
	code := c.runs(t)
	if code != wantCode || c.stderr.Len() > 0 {
		t.Errorf("exit code %d, want %d; stderr: %s", code, wantCode, &c.stderr)
	}
	var keys map[string]any
	if err := json.Unmarshal(c.stdout.Bytes(), &keys); err != nil {
		t.Fatalf("stdout is not one JSON object: %v\n%s", err, &c.stdout)
	}
	for _, key := range reportKeys {
		if _, ok := keys[key]; !ok {
			t.Errorf("the report has no %q", key)
		}
	}
	var r demo.Report
	if err := json.Unmarshal(c.stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if left := c.processes(); len(left) > 0 {
		t.Errorf("processes outlive the demo: %v", left)
	}
	return r
}

func TestFleetKeepsTheProvidersRulesThoughHoldersAreKilled(t *testing.T) {
	t.Parallel()
	r := reported(t, cli.ExitOK, "--duration", "5s", "--workers", "3", "--tenants", "4")
	if r.Workers != 3 || r.Tenants != 4 || r.Calls == 0 || r.Exchanges == 0 || r.Verdict != "pass" {
		t.Errorf("nothing much happened: %+v", r)
	}
	if r.Repeats != 0 || r.GrantsLost != 0 {
		t.Errorf("%d presentations repeated, %d grants lost", r.Repeats, r.GrantsLost)
	}
	// Whoever is killed in mid-exchange leaves a grant that recovers, or is lost with it.
	if r.Kills == 0 || r.Recovered+r.LostResponse < r.Kills {
		t.Errorf("%d kills, but %d recovered and %d lost_response", r.Kills, r.Recovered, r.LostResponse)
	}
	if r.Expiries > r.Exchanges || r.Wait.P50 > r.Wait.P99 || r.Wait.P99 > r.Wait.Max || r.Exchange.P50 <= 0 {
		t.Errorf("the numbers contradict each other: %+v", r)
	}
}

func TestWithoutKillsEveryTokenIsReplacedByOneExchange(t *testing.T) {
	t.Parallel()
	r := reported(t, cli.ExitOK, "--duration", "4s", "--workers", "2", "--tenants", "2", "--kill=false", "--profile", "gitlab")
	if r.Exchanges == 0 || r.Exchanges != r.Expiries || r.Kills != 0 || r.LostResponse != 0 || r.Errors != 0 {
		t.Errorf("%+v", r)
	}
}

func TestNaiveFleetRepeatsPresentationsAndLosesGrants(t *testing.T) {
	t.Parallel()
	r := reported(t, cli.ExitOK, "--naive", "--duration", "4s", "--tenants", "3")
	if r.Mode != "naive" || r.Verdict != "demonstration" || r.Kills != 0 {
		t.Errorf("the report does not say what it is: %+v", r)
	}
	if r.Repeats == 0 || r.GrantsLost == 0 || r.Exchanges <= r.Expiries {
		t.Errorf("%d exchanges for %d tokens, %d repeated, %d grants lost: that is too good", r.Exchanges, r.Expiries, r.Repeats, r.GrantsLost)
	}
}

func TestComparingShowsWhatCoordinationIsFor(t *testing.T) {
	t.Parallel()
	c := prepare(t, "demo", "--compare", "--json", "--duration", "4s", "--tenants", "3", "--workers", "2")
	if code := c.runs(t); code != cli.ExitOK || c.stderr.Len() > 0 {
		t.Fatalf("exit code %d: %s", code, &c.stderr)
	}
	var r demo.Comparison
	if err := json.Unmarshal(c.stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, &c.stdout)
	}
	if a, b := r.Coordinated, r.Naive; a.Verdict != "pass" || a.Repeats != 0 || a.GrantsLost != 0 || b.Mode != "naive" || b.Repeats == 0 || a.Kills+b.Kills != 0 {
		t.Errorf("%+v\n%+v", a, b)
	}
	if left := c.processes(); len(left) > 0 {
		t.Errorf("processes outlive the demo: %v", left)
	}
}

// Whoever waited for a compiler sees at once that it is done, and what is to come.
func TestTheDemoSaysAtOnceWhatIsToCome(t *testing.T) {
	t.Parallel()
	c := prepare(t, "demo", "--compare", "--duration", "1s", "--tenants", "1", "--workers", "1")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	c.Stdout = write
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	lines := bufio.NewScanner(read)
	if !lines.Scan() || !strings.Contains(lines.Text(), "nothing is compiled") {
		t.Errorf("%q", lines.Text())
	}
	t.Logf("after %s", time.Since(began))
	all := ""
	for lines.Scan() {
		all += lines.Text() + "\n"
	}
	if code := c.exit(t); code != cli.ExitOK || !strings.Contains(all, "presentations repeated against the rules") || strings.Contains(all, "\x1b") {
		t.Errorf("exit code %d\n%s%s", code, all, &c.stderr)
	}
}

// started waits until the demo, which prints plain lines, is under way with workers.
func started(t *testing.T, c *tokenlatch, workers int) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	until(t, "the workers run", func() bool { return len(c.processes()) == workers+1 })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestInterruptEndsTheDemoWithItsReport(t *testing.T) {
	t.Parallel()
	needsProc(t)
	c := prepare(t, "demo", "--duration", "10m", "--workers", "2", "--tenants", "2")
	started(t, c, 2)
	began := time.Now()
	_ = c.Process.Signal(os.Interrupt)
	if code := c.exit(t); code != cli.ExitOK {
		t.Errorf("exit code %d; stderr: %s", code, &c.stderr)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %s to end", took)
	}
	if !strings.Contains(c.stdout.String(), "presentations repeated against the rules") {
		t.Errorf("no report:\n%s", &c.stdout)
	}
	if strings.Contains(c.stdout.String(), "\x1b") {
		t.Error("escape sequences went to what is no terminal")
	}
	if left := c.processes(); len(left) > 0 {
		t.Errorf("processes outlive the demo: %v", left)
	}
}

func TestWorkersDieWithTheirParent(t *testing.T) {
	t.Parallel()
	needsProc(t)
	c := prepare(t, "demo", "--duration", "10m", "--workers", "3", "--tenants", "1")
	started(t, c, 3)
	_ = c.Process.Kill()
	c.exit(t)
	until(t, "no worker is left", func() bool { return len(c.processes()) == 0 })
}

// processes are those with the run's mark in their environment; none where there is no
// /proc to look in.
func (c *tokenlatch) processes() []string {
	found := []string{}
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		env, err := os.ReadFile("/proc/" + d.Name() + "/environ")
		if err == nil && strings.Contains(string(env), c.mark+"\x00") {
			found = append(found, d.Name())
		}
	}
	return found
}

func needsProc(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skip("needs /proc")
	}
}
