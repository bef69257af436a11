package integration

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// table runs bench-table.
func table(t *testing.T, input string) (stdout, stderr string, err error) {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("integration/bench-table needs bash")
	}
	cmd := exec.Command("./bench-table")
	cmd.Env = append(os.Environ(), "REDIS_VERSION=Redis 7.0.15")
	cmd.Stdin = strings.NewReader(input)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	return out.String(), log.String(), err
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var tableHead = regexp.MustCompile(`^Measured at \d{4}-\d\d-\d\d \d\d:\d\d UTC on AMD EPYC, 2 cores, with Go \d\S+ and Redis 7\.0\.15:$`)

func TestTheBenchTableShowsMediansAndAims(t *testing.T) {
	t.Parallel()
	input := read(t, "testdata/bench.txt")
	got, log, err := table(t, input)
	if err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	head, rest, _ := strings.Cut(got, "\n")
	if !tableHead.MatchString(head) {
		t.Errorf("the head is %q", head)
	}
	if want := read(t, "testdata/bench.md"); rest != want {
		t.Errorf("the table is\n%s\nwant\n%s", rest, want)
	}
	if log != input {
		t.Errorf("what was read is not shown:\n%s", log)
	}
}

func TestThereIsNoBenchTableOfFailedBenchmarks(t *testing.T) {
	t.Parallel()
	input := read(t, "testdata/bench.txt")
	lines := strings.SplitAfter(input, "\n")
	for name, broken := range map[string]string{
		"failed":             strings.Replace(input, "PASS\n", "FAIL\n", 1),
		"failed to build":    input + "FAIL\tgithub.com/tokenlatch/tokenlatch/lock [build failed]\n",
		"panic":              "panic: no\n" + input,
		"killed":             strings.Join(lines[:len(lines)-3], ""),
		"torn line":          strings.Replace(input, "\t         3.201 p50-ms", "oops", 1),
		"aim for nothing":    strings.Replace(input, "3.201 p50-ms", "3.201 p51-ms", 1),
		"nothing but a head": strings.Join(lines[:4], "") + "PASS\nok  \tgithub.com/tokenlatch/tokenlatch/refresh\t1s\n",
		"nothing":            "",
	} {
		got, log, err := table(t, broken)
		if err == nil || got != "" || !strings.Contains(log, "bench-table: ") {
			t.Errorf("%s: error %v, said %q, and printed\n%s", name, err, log, got)
		}
	}
}
