package main

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

func TestJournalFollowsUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	tell(t, rdb)
	c := prepare(t, "journal", "zoom", "fine", "-f", "--jsonl", "--redis", server.Addr())
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	c.Stdout = write
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	lines := bufio.NewScanner(read)
	for _, want := range []string{"connect", "disconnect"} {
		var e oncall.Entry
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &e) != nil || e.Kind != want {
			t.Fatalf("%q, want %s; stderr %s", lines.Text(), want, &c.stderr)
		}
		if want == "connect" {
			cache, err := tokencache.New(rdb, tokencache.Config{AEAD: tokencache.Plaintext})
			if err != nil {
				t.Fatal(err)
			}
			if err := cache.Grant(grant.Key{App: "zoom", Tenant: "fine"}).Disconnect(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = c.Process.Signal(os.Interrupt)
	if code := c.exit(t); code != cli.ExitInterrupted || c.stderr.Len() > 0 {
		t.Errorf("exit code %d: %s", code, &c.stderr)
	}
}
