package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// What was before is no news. What comes is a line each, also of an app's grants that nobody knew.
func TestWatchPrintsALineForEachChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"all":       {nil, "zoom/acme/connect zoom/acme/claim zoom/acme/disconnect hubspot/one/connect zoom//app"},
		"an app":    {[]string{"zoom"}, "zoom/acme/connect zoom/acme/claim zoom/acme/disconnect zoom//app"},
		"one grant": {[]string{"zoom", "acme"}, "zoom/acme/connect zoom/acme/claim zoom/acme/disconnect"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Own(t)
			rdb := server.Client(t)
			cache, err := tokencache.New(rdb, tokencache.Config{AEAD: tokencache.Plaintext})
			if err != nil {
				t.Fatal(err)
			}
			s := teller{t, t.Context(), rdb, cache}
			s.connect("zoom", "before")
			cmd := prepare(t, append([]string{"watch", "--jsonl", "--redis", server.Addr()}, c.args...)...)
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			cmd.Stdout = write
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = write.Close()
			until(t, "the command listens", func() bool {
				list, _ := rdb.ClientList(t.Context()).Result()
				return strings.Contains(list, "cmd=xread") || strings.Contains(list, "sub=2") || strings.Contains(list, "psub=2")
			})
			s.claim("acme", "web-2/4711")
			if err := cache.Grant(grant.Key{App: "zoom", Tenant: "acme"}).Disconnect(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.connect("hubspot", "one")
			if _, _, err := cache.App("zoom").As("w").Throttle(t.Context(), engine.NewID(), "throttled//429", "a", time.Minute); err != nil {
				t.Fatal(err)
			}
			if _, _, err := cache.App("zoom").As("w").Throttle(t.Context(), engine.NewID(), "throttled//429", "b", time.Minute); err != nil {
				t.Fatal(err)
			}
			lines, want := bufio.NewScanner(read), strings.Fields(c.want)
			var got []string
			for len(got) < len(want) && lines.Scan() {
				parsed(t, lines.Text(), "watch")
				var e struct{ App, Tenant, Kind, State string }
				if err := json.Unmarshal(lines.Bytes(), &e); err != nil || strings.Contains(lines.Text(), canary) {
					t.Errorf("%s: %v", lines.Text(), err)
				}
				if e.Kind == "app" && e.State != "paused" {
					continue // the first 429 is one tenant's
				}
				got = append(got, e.App+"/"+e.Tenant+"/"+e.Kind)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q, want %q; %s", got, c.want, &cmd.stderr)
			}
			_ = cmd.Process.Signal(os.Interrupt)
			if code := cmd.exit(t); code != cli.ExitInterrupted {
				t.Errorf("exit code %d: %s", code, &cmd.stderr)
			}
		})
	}
}
