package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/settings"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Redis goes away in the middle: the lines after the last page are done by --resume, and none twice.
func TestAnImportThatWasBrokenOffIsResumed(t *testing.T) {
	server, dir := redistest.Own(t), t.TempDir()
	w := newWorld(t, dir, server, provider.Profile{AuthStyle: oauth2.AuthStyleInHeader})
	t.Setenv(settings.Variable, w.config)
	const grants = 3*importPage + 5
	var text strings.Builder
	for i := range grants {
		fmt.Fprintf(&text, `{"app":"zoom","tenant":"t%03d","access_token":"%s","refresh_token":"%s%d"}`+"\n", i, canary, canary, i)
	}
	file := filepath.Join(dir, "grants.jsonl")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	// The record of a grant in the third page cannot be written: its key is the server's that refuses.
	if err := w.rdb.Do(t.Context(), "ACL", "SETUSER", "limited", "on", ">limited", "resetkeys", "~tl:{zoom:t00*}:*", "~tl:{zoom:t01*}:*", "~tl:{zoom:t02*}:*", "~tl:{zoom:t03*}:*", "~tl:app:*", "~tl:due:*", "~tl:proof", "~tl:masters", "~tl:heartbeat:*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(cli.RedisVariable, "redis://limited:limited@"+server.Addr())
	code, stdout, stderr := told(t, nil, "import", file)
	if code != cli.ExitFailed || !strings.Contains(stderr, "broken off") || !strings.Contains(stderr, "--resume goes on") || !strings.Contains(stdout, "line 41: zoom t040: failed: ") {
		t.Fatalf("code %d\n%s%s", code, stdout, stderr)
	}
	t.Setenv(cli.RedisVariable, "redis://"+server.Addr())
	code, stdout, stderr = told(t, nil, "import", file, "--resume")
	if code != cli.ExitOK || strings.Contains(stdout, "line 1:") || !strings.Contains(stdout, fmt.Sprintf("line %d: zoom t%03d: imported", grants, grants-1)) {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	if keys, err := w.rdb.Keys(context.Background(), "tl:{zoom:t*}:grant").Result(); err != nil || len(keys) != grants {
		t.Errorf("%d grants, %v", len(keys), err)
	}
	if _, err := os.Stat(file + ".progress"); !os.IsNotExist(err) {
		t.Errorf("what was done is still written down: %v", err)
	}
}

func TestAFileThatHasChangedIsNotResumed(t *testing.T) {
	server, dir := redistest.Own(t), t.TempDir()
	w := newWorld(t, dir, server, provider.Profile{AuthStyle: oauth2.AuthStyleInHeader})
	t.Setenv(settings.Variable, w.config)
	w.write("grants.jsonl", "{}\n")
	w.write("grants.jsonl.progress", `{"sha256":"00","lines":7}`)
	if code, _, stderr := told(t, server, "import", filepath.Join(dir, "grants.jsonl"), "--resume"); code != cli.ExitFailed || !strings.Contains(stderr, "has changed since") {
		t.Errorf("code %d: %s", code, stderr)
	}
}
