package main

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// The same with Sentinel and on a Cluster, and over TLS with a certificate of the client.
func TestEachKindOfRedisIsListed(t *testing.T) {
	t.Parallel()
	f, c := redistest.StartFailover(t), redistest.StartCluster(t)
	certs := redistest.MakeCerts(t)
	secure := redistest.WithTLS(t, certs)
	s, fs, cs := redistest.Own(t, secure), redistest.StartFailover(t, secure), redistest.StartCluster(t, secure, redistest.Set("tls-cluster", "yes"))
	for _, rdb := range []redis.UniversalClient{f.Client(t), c.Client(t), s.Client(t), fs.Master.Client(t), cs.Client(t)} {
		tell(t, rdb)
	}
	files := "ca_file=" + certs.CA + "&cert_file=" + certs.Cert + "&key_file=" + certs.Key
	for _, addr := range []string{
		"redis-sentinel://" + f.Sentinel() + "/?master=" + redistest.MasterName,
		"redis-cluster://" + strings.Join(c.Addrs()[:2], ","),
		"rediss://" + s.TLSAddr() + "/?" + files,
		"rediss-sentinel://" + fs.Sentinel() + "/?" + files + "&master=" + redistest.MasterName,
		"rediss-cluster://" + cs.Nodes[0].TLSAddr() + "," + cs.Nodes[1].TLSAddr() + "?" + files,
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
func TestASilentNodeOfAClusterIsNamedAndTheRestIsShown(t *testing.T) {
	t.Parallel()
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
