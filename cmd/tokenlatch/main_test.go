package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/demo"
)

// asCommand in the environment makes the test binary the command itself, race detector
// included; the workers that it starts inherit it.
const asCommand = "TOKENLATCH_TEST_AS_COMMAND"

// tokenlatch is one run of the command.
type tokenlatch struct {
	*exec.Cmd
	mark           string // in the environment of the command and all its workers
	stdout, stderr bytes.Buffer
}

func prepare(t *testing.T, args ...string) *tokenlatch {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &tokenlatch{Cmd: exec.CommandContext(t.Context(), exe, args...), mark: asCommand + "=" + t.Name() + time.Now().String()}
	c.Env = append(os.Environ(), c.mark)
	c.Stdout, c.Stderr = &c.stdout, &c.stderr
	return c
}

// exit waits for the command's end and returns its code.
func (c *tokenlatch) exit(t *testing.T) int {
	t.Helper()
	err := c.Wait()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode()
}

func (c *tokenlatch) runs(t *testing.T) int {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c.exit(t)
}

func TestBadCommandLineIsAnsweredWithAHint(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"frobnicate":               `no command "frobnicate"`,
		"lss":                      "did you mean ls?",
		"help frobnicate":          `no command "frobnicate"`,
		"help operations nowhere":  `no section of operations has "nowhere" in its heading`,
		"help looks":               "but a section of a page\nhint: tokenlatch help operations looks",
		"help json nothing":        `there is no schema "nothing"`,
		"version now":              `takes no argument "now"`,
		"version --redis x":        "does not take --redis",
		"demo --bogus":             "unknown flag: --bogus",
		"demo --workers x":         `for "--workers" flag`,
		"demo --workers":           "needs an argument: --workers",
		"demo --workers 0":         "--workers 0: must be between",
		"demo --workers 33":        "--workers 33: must be between",
		"demo --tenants -1":        "--tenants -1: must be between",
		"demo --tenants 501":       "--tenants 501: must be between",
		"demo --duration 10":       `for "--duration" flag`,
		"demo --duration 1ms":      "--duration 1ms: must be between",
		"demo --duration 2h":       "--duration 2h0m0s: must be between",
		"demo --latency 2s":        "--latency 2s: must be between",
		"demo --latency -1s":       "--latency -1s: must be between",
		"demo --profile zomm":      "not known; there are: adobe_sign",
		"demo --kill false":        "write it as in --kill=false",
		"demo --kill=perhaps":      `for "--kill" flag`,
		"demo --naive --compare":   "give one of them",
		"demo now":                 `takes flags only, got "now"`,
		"demo --redis=":            "host:port",
		"demo --redis nowhere":     "host:port",
		"demo --redis host:0":      "host:port",
		"demo --redis foo://host":  "redis://",
		"demo --redis redis://h,g": "redis://",

		"demo --redis redis-cluster://h,g": "takes one server",

		"fake now":                     `takes flags only, got "now"`,
		"fake --profile zomm":          "not known; there are: adobe_sign",
		"fake --latency -1s":           "--latency -1s: must not",
		"fake --access-token-life 1ms": "must be at least 1s",
		"demo-worker":                  "is started by tokenlatch demo only",
	} {
		var stdout, stderr bytes.Buffer
		code := run(strings.Fields(args), &stdout, &stderr)
		text := stderr.String()
		hint := strings.Contains(text, "hint: tokenlatch") || args == demo.WorkerCommand
		if code != cli.ExitUsage || !strings.Contains(text, want) || !hint || stdout.Len() > 0 {
			t.Errorf("tokenlatch %s: code %d, stdout %q, stderr %q; want code 2, %q and a hint", args, code, &stdout, text, want)
		}
	}
}

func TestPasswordInRedisURLIsNotRepeated(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	for _, addr := range []string{
		"redis://user:hunter2@127.0.0.1:1", "redis://:hunter2@127.0.0.1:1", "redis://user:hunter2@[", "user:hunter2@host", "redis-cluster://u:hunter2@h,g", "redis-sentinel://:hunter2@h,g/?master=m", "redis://h?password=hunter2",
		"hunter2@127.0.0.1:1", "user:hunter2@127.0.0.1:1", "rediss://u:hunter2@h:1/0?db=1", "unix://u:hunter2@/tmp/redis.sock", "foo://u:hunter2@h",
	} {
		stderr.Reset()
		if code := run([]string{"demo", "--redis", addr}, &stdout, &stderr); code != cli.ExitUsage {
			t.Errorf("--redis %s was taken: code %d", addr, code)
		}
		if text := stderr.String() + stdout.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, cli.RedisVariable) || !strings.Contains(text, "--redis-password-file") {
			t.Errorf("--redis %s: %s", addr, text)
		}
	}
	// A user without password does nothing at all, and may be a password.
	stderr.Reset()
	if code := run([]string{"demo", "--redis", "redis://hunter2@127.0.0.1:1"}, &stdout, &stderr); code != cli.ExitUsage || strings.Contains(stderr.String(), "hunter2") {
		t.Errorf("code %d: %s", code, &stderr)
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":             "usage: tokenlatch <command>",
		"help":         "usage: tokenlatch <command>",
		"--help":       "usage: tokenlatch <command>",
		"help demo":    "--duration",
		"demo -h":      "--naive",
		"demo --help":  "--redis ADDR",
		"help fake":    "--listen ADDR",
		"fake -h":      "POST /control/revoke?tenant=acme",
		"help version": "usage: tokenlatch version",
		"version":      "tokenlatch ",
		"--version":    "tokenlatch ",
		"help json":    "RFC 3339",
		"help states":  "provider_down",
		"help codes":   "TL302 lost answer",
		"help words":   "one OAuth client registration",
		"help docs":    "operations   Operating tokenlatch",
	} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(args), &stdout, &stderr); code != cli.ExitOK || !strings.Contains(stdout.String(), want) || stderr.Len() > 0 {
			t.Errorf("tokenlatch %s: code %d, stdout %q, stderr %q; want code 0 and %q", args, code, &stdout, &stderr, want)
		}
		if strings.Contains(stdout.String(), demo.WorkerCommand) {
			t.Errorf("tokenlatch %s tells people of %s", args, demo.WorkerCommand)
		}
		for line := range strings.Lines(stdout.String()) {
			if len(line) > 81 {
				t.Errorf("tokenlatch %s: wider than 80 columns: %q", args, line)
			}
		}
	}
}
