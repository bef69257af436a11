package main

import (
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// The command is asleep in Redis when the change comes: it ends by that, not by its timeout.
func TestWaitEndsWithTheChange(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	tell(t, rdb)
	c := prepare(t, "wait", "zoom", "fine", "--for", "gone", "--timeout", "1h", "--redis", server.Addr())
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the command waits", func() bool {
		list, _ := rdb.ClientList(t.Context()).Result()
		return strings.Contains(list, "cmd=xread")
	})
	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: tokencache.Plaintext})
	if err != nil {
		t.Fatal(err)
	}
	if err := cache.Grant(grant.Key{App: "zoom", Tenant: "fine"}).Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code := c.exit(t); code != cli.ExitOK || c.stdout.String() != "zoom fine: disconnected\n" {
		t.Errorf("code %d: %s%s", code, &c.stdout, &c.stderr)
	}
}
