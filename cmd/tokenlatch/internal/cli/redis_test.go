package cli_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

func TestEachAddressOpensItsKindOfClient(t *testing.T) {
	for _, tt := range []struct {
		args, want string // space-separated; type, servers, user, database
	}{
		{"--redis h:1", "one h:1 - 0"},
		{"--redis redis://u@h:1/3", "one h:1 u 3"},
		{"--redis rediss://u@h", "one h:6379 u 0"},
		{"--redis unix://u@/run/redis.sock?db=2", "one /run/redis.sock u 2"},
		{"--redis redis-cluster://h1,h2:7", "cluster h1:6379,h2:7 - 0"},
		{"--redis rediss-cluster://u@h1:5/", "cluster h1:5 u 0"},
		{"--redis redis-sentinel://h1,h2:7/2?master=m", "sentinel FailoverClient - 2"},
		{"--redis redis-sentinel://u@h1/?master=m", "sentinel FailoverClient u 0"},
	} {
		args := strings.Fields(tt.args)
		user := strings.Contains(tt.args, "u@")
		if user {
			args = append(args, "--redis-password-file", passwordFile(t, "hun,ter2@/"))
		}
		addr, err := addressOf(t, args...)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		rdb, err := cli.Open(addr, time.Second)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		want := strings.Fields(tt.want)
		var servers, name, password string
		db := 0
		switch c := rdb.(type) {
		case *redis.ClusterClient:
			servers, name, password = strings.Join(c.Options().Addrs, ","), c.Options().Username, c.Options().Password
		case *redis.Client:
			servers, name, password, db = c.Options().Addr, c.Options().Username, c.Options().Password, c.Options().DB
		}
		if name == "" {
			name = "-"
		}
		if servers != want[1] || name != want[2] || string(rune('0'+db)) != want[3] || user && password != "hun,ter2@/" {
			t.Errorf("%s: %T of %s as %s %q, database %d", tt.args, rdb, servers, name, password, db)
		}
		for _, shown := range append(cli.CommandLine(addr), cli.Place(addr)) {
			if strings.Contains(shown, "ter2") {
				t.Errorf("%s: %q shows the password", tt.args, shown)
			}
		}
		_ = rdb.Close()
	}
}

func TestRedisCLIIsCalledAsTheAddressSays(t *testing.T) {
	for addr, want := range map[string]string{
		"h:1":                               "redis-cli -h h -p 1",
		"redis://u:p@h:1/3":                 "redis-cli -h h -p 1 -n 3",
		"rediss://h":                        "redis-cli -h h -p 6379 --tls",
		"unix:///run/redis.sock":            "redis-cli -s /run/redis.sock",
		"redis-cluster://h1,h2":             "redis-cli -c -h h1 -p 6379",
		"redis-sentinel://h1,h2/0?master=m": "redis-cli -h MASTER",
		"redis://[::1]:7":                   "redis-cli -h ::1 -p 7",
	} {
		if got := strings.Join(cli.CommandLine(addr), " "); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
