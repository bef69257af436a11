package main

import (
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// The same with Sentinel and on a Cluster.
func TestEachKindOfRedisIsListed(t *testing.T) {
	f, c := redistest.StartFailover(t), redistest.StartCluster(t)
	tell(t, f.Client(t))
	tell(t, c.Client(t))
	for _, addr := range []string{
		"redis-sentinel://" + f.Sentinel() + "/?master=" + redistest.MasterName,
		"redis-cluster://" + strings.Join(c.Addrs()[:2], ","),
	} {
		for _, args := range []string{"ls zoom", "apps", "inspect zoom dead", "journal zoom dead", "explain zoom dead", "explain zoom"} {
			code, stdout, stderr := told(t, nil, append(strings.Fields(args), "--redis", addr)...)
			if code != cli.ExitOK || stdout == "" {
				t.Errorf("%s on %s: code %d: %s", args, addr, code, stderr)
			}
			if rows := strings.Count(stdout, "\n"); args == "ls zoom" && rows != 12 {
				t.Errorf("%s on %s: %d lines\n%s", args, addr, rows, stdout)
			}
		}
	}
}

// What was read is shown, and the exit code tells that there is more.
func TestASilentNodeOfAClusterIsSaidAndTheRestIsShown(t *testing.T) {
	c := redistest.StartCluster(t)
	tell(t, c.Client(t))
	c.Nodes[1].Pause(t)
	defer c.Nodes[1].Resume(t)
	addr := "redis-cluster://" + strings.Join(c.Addrs(), ",")
	code, stdout, stderr := told(t, nil, "ls", "--json", "--timeout", "4s", "--redis", addr)
	if code != cli.ExitFailed || !strings.Contains(stderr, c.Nodes[1].Addr()) || !strings.Contains(stderr, "hint: ") {
		t.Errorf("code %d: %s", code, stderr)
	}
	if rows, ok := parsed(t, stdout, "ls").([]any); !ok || len(rows) == 0 || len(rows) == 12 {
		t.Errorf("%d rows in %s", len(rows), stdout)
	}
}
