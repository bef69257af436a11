package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func passwordFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// addressOf parses the flags as the demo does.
func addressOf(t *testing.T, args ...string) (string, error) {
	t.Helper()
	opt, err := parseDemo(args, &bytes.Buffer{})
	if err == flag.ErrHelp {
		t.Fatal(err)
	}
	return opt.redis, err
}

func TestRedisIsFoundInFlagsAndEnvironment(t *testing.T) {
	const file = "--redis-password-file"
	odd := "hun/ter@2:%\"é "
	for _, tt := range []struct {
		name, variable, password string
		args                     []string
		want                     string
	}{
		{name: "nothing", want: ""},
		{name: "flag", args: []string{"--redis", "h:1"}, want: "h:1"},
		{name: "environment", variable: "redis://u:hunter2@h:1/2", want: "redis://u:hunter2@h:1/2"},
		{name: "the flag wins", variable: "redis://u:hunter2@h:1", args: []string{"--redis", "g:1"}, want: "g:1"},
		{name: "flag and file", password: "hunter2\n", args: []string{"--redis", "h:1"}, want: "redis://:hunter2@h:1"},
		{name: "flag with a user, and file", password: "hunter2\r\n", args: []string{"--redis", "rediss://u@h:1/3?db=4"}, want: "rediss://u:hunter2@h:1/3?db=4"},
		{name: "environment and file", variable: "h:1", password: "hunter2", want: "redis://:hunter2@h:1"},
		{name: "an IPv6 address and file", password: "hunter2", args: []string{"--redis", "[::1]:1"}, want: "redis://:hunter2@[::1]:1"},
		{name: "an odd password", password: odd, args: []string{"--redis", "h:1"}, want: "redis://:hun%2Fter%402%3A%25%22%C3%A9%20@h:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(redisVariable, tt.variable)
			if tt.password != "" {
				tt.args = append(tt.args, file, passwordFile(t, tt.password))
			}
			got, err := addressOf(t, tt.args...)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			if got == "" {
				return
			}
			rdb, err := openRedis(got)
			if err != nil {
				t.Fatal(err)
			}
			defer rdb.Close()
			if password := strings.TrimRight(tt.password, "\r\n"); password != "" && rdb.Options().Password != password {
				t.Errorf("the password is %q", rdb.Options().Password)
			}
		})
	}
}

func TestABadRedisAddressIsAnsweredWithoutItsPassword(t *testing.T) {
	const file = "--redis-password-file"
	for _, tt := range []struct {
		variable string
		args     []string
		want     string
	}{
		{"redis://u:hunter2@[", nil, redisVariable + ": not a URL"},
		{"u:hunter2@h:1", nil, redisVariable + ": not an address"},
		{"hunter2@h:1", nil, redisVariable + ": not an address"},
		{"redis://hunter2@h:1", nil, redisVariable + ": names a user and no password"},
		{"redis://u:hunter2@h:1", []string{file, passwordFile(t, "hunter2")}, "holds a password already"},
		{"", []string{file, passwordFile(t, "hunter2")}, "goes with --redis"},
		{"h:1", []string{file, passwordFile(t, "\n")}, "on one line"},
		{"h:1", []string{file, passwordFile(t, "hunter2\nmore\n")}, "on one line"},
		{"h:1", []string{file, passwordFile(t, strings.Repeat("hunter2", 1000))}, "on one line"},
		{"h:1", []string{file, "/no/such/file"}, "no such file"},
		{"h:1", []string{file, t.TempDir()}, "is a directory"},
	} {
		t.Setenv(redisVariable, tt.variable)
		_, err := addressOf(t, tt.args...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: %v, want %q", tt.args, err, tt.want)
		}
	}
}

func TestNoProcessOfTheDemoShowsThePassword(t *testing.T) {
	needsProc(t)
	server := redistest.Own(t)
	rdb := server.Client(t)
	const password = "hunter2-CANARY"
	if err := rdb.Do(t.Context(), "ACL", "SETUSER", "demo", "on", ">"+password, "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	wrong := prepare(t, "demo", "--redis", "redis://demo@"+server.Addr(), "--redis-password-file", passwordFile(t, "hunter3"))
	if code := wrong.runs(t); code != exitFailed || !strings.Contains(wrong.stderr.String(), "refuses the login") || strings.Contains(wrong.stderr.String(), "hunter3") {
		t.Errorf("a wrong password: code %d: %s", code, &wrong.stderr)
	}
	for name, how := range map[string]func(c *tokenlatch){
		"environment": func(c *tokenlatch) {
			c.Env = append(c.Env, redisVariable+"=redis://demo:"+password+"@"+server.Addr())
		},
		"file": func(c *tokenlatch) {
			c.Args = append(c.Args, "--redis", "redis://demo@"+server.Addr(), "--redis-password-file", passwordFile(t, password+"\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := prepare(t, "demo", "--duration", "3s", "--workers", "2", "--tenants", "2", "--kill=false")
			how(c)
			started(t, c, 2)
			until(t, "the workers log in", func() bool {
				list, _ := rdb.ClientList(t.Context()).Result()
				return strings.Count(list, "user=demo") > 3
			})
			for _, pid := range c.processes() {
				args, _ := os.ReadFile("/proc/" + pid + "/cmdline")
				env, _ := os.ReadFile("/proc/" + pid + "/environ")
				worker := strings.Contains(string(args), workerCommand)
				if len(args) == 0 || strings.Contains(string(args), password) || worker && strings.Contains(string(env), password) {
					t.Errorf("process %s shows the password (worker: %t)", pid, worker)
				}
			}
			if code := c.exit(t); code != exitOK || strings.Contains(c.stdout.String()+c.stderr.String(), password) {
				t.Errorf("code %d\n%s%s", code, &c.stdout, &c.stderr)
			}
		})
	}
}
