package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/demo"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func TestRealRedisIsLeftAsItWas(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	ctx := t.Context()
	if err := rdb.Set(ctx, "tldemo", "somebody else's", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"--naive=false", "--naive"} {
		r := reported(t, cli.ExitOK, "--redis", server.Addr(), "--duration", "2s", "--workers", "2", "--tenants", "2", "--kill=false", mode)
		if r.Exchanges == 0 {
			t.Errorf("%s: nothing happened: %+v", mode, r)
		}
		keys, err := rdb.Keys(ctx, "*").Result()
		if err != nil || len(keys) != 1 || keys[0] != "tldemo" {
			t.Errorf("%s: left behind: %v %v", mode, keys, err)
		}
	}
}

func TestUnreachableRedisIsAnsweredWithAHint(t *testing.T) {
	t.Parallel()
	var stdout, stderr strings.Builder
	code := run([]string{"demo", "--redis", "127.0.0.1:1"}, &stdout, &stderr)
	if code != cli.ExitFailed || !strings.Contains(stderr.String(), "127.0.0.1:1") || !strings.Contains(stderr.String(), "hint:") {
		t.Errorf("code %d: %s", code, &stderr)
	}
}

func passwordFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestNoProcessOfTheDemoShowsThePassword(t *testing.T) {
	t.Parallel()
	needsProc(t)
	server := redistest.Own(t)
	rdb := server.Client(t)
	const password = "hunter2-CANARY"
	if err := rdb.Do(t.Context(), "ACL", "SETUSER", "demo", "on", ">"+password, "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	wrong := prepare(t, "demo", "--redis", "redis://demo@"+server.Addr(), "--redis-password-file", passwordFile(t, "hunter3"))
	if code := wrong.runs(t); code != cli.ExitFailed || !strings.Contains(wrong.stderr.String(), "refuses the login") || strings.Contains(wrong.stderr.String(), "hunter3") {
		t.Errorf("a wrong password: code %d: %s", code, &wrong.stderr)
	}
	for name, how := range map[string]func(c *tokenlatch){
		"environment": func(c *tokenlatch) {
			c.Env = append(c.Env, cli.RedisVariable+"=redis://demo:"+password+"@"+server.Addr())
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
				worker := strings.Contains(string(args), demo.WorkerCommand)
				if len(args) == 0 || strings.Contains(string(args), password) || worker && strings.Contains(string(env), password) {
					t.Errorf("process %s shows the password (worker: %t)", pid, worker)
				}
			}
			if code := c.exit(t); code != cli.ExitOK || strings.Contains(c.stdout.String()+c.stderr.String(), password) {
				t.Errorf("code %d\n%s%s", code, &c.stdout, &c.stderr)
			}
		})
	}
}
