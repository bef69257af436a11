package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/settings"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// The commands that act and those that move grants work on each kind of Redis, by the rights of docs/operations.md:
// those of a worker, and for reseal one more.
func TestTheRightsOfAWorkerAreEnoughForTheCommands(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^user tlworker (.*)$`).FindSubmatch(page)
	if line == nil || !strings.Contains(string(page), "`+lset`") {
		t.Fatal("docs/operations.md names no user, or no right for reseal")
	}
	rules := append(strings.Fields(string(line[1])), "+lset")
	one, f, c := redistest.Own(t), redistest.StartFailover(t), redistest.StartCluster(t)
	for name, on := range map[string]struct {
		rdb     redis.UniversalClient
		servers []*redistest.Server
		addr    string
	}{
		"one server": {one.Client(t), []*redistest.Server{one}, "redis://tlworker:SECRET@" + one.Addr()},
		"Sentinel":   {f.Client(t), []*redistest.Server{f.Master, f.Replica}, "redis-sentinel://tlworker:SECRET@" + f.Sentinel() + "/?master=" + redistest.MasterName},
		"a Cluster":  {c.Client(t), c.Nodes, "redis-cluster://tlworker:SECRET@" + strings.Join(c.Addrs()[:2], ",")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range on.servers {
				allow(t, s.Client(t), rules)
			}
			dir := t.TempDir()
			r := &rotation{newWorldOn(t, dir, on.rdb, provider.Profile{AuthStyle: oauth2.AuthStyleInHeader}), t, nil, dir}
			t.Setenv(settings.Variable, r.config)
			t.Setenv(cli.RedisVariable, on.addr)
			r.connect("a", "b", "c", "d", "e", "f", "g", "h")
			if err := on.rdb.RPush(t.Context(), "tl:{zoom:a}:unread", "id\n"+on.rdb.Get(t.Context(), "tl:{zoom:a}:secret").Val()).Err(); err != nil {
				t.Fatal(err)
			}
			r.does(cli.ExitOK, "keys", "rotate", "--out", dir+"/new.json")
			r.use("new.json")
			primary := fmt.Sprint(r.status()[rolePrimary].ID)
			if stdout, _ := r.does(cli.ExitOK, "keys", "reseal", "--confirm", primary); !strings.HasPrefix(stdout, "9 sealed anew") {
				t.Error(stdout)
			}
			if now := r.status(); now[rolePrimary].Pairs != 8 || now[rolePrimary].Unread != 1 || now[roleOpens].Pairs != 0 {
				t.Errorf("%+v", now)
			}
			for _, args := range []string{"export --sealed", "export zoom --sealed --format csv", "export --sealed --json", "export"} {
				code, stdout, stderr := shown(t, nil, strings.Fields(args)...)
				if n := strings.Count(stdout, "zoom"); code != cli.ExitOK || n != 8 || !strings.Contains(args, "json") && !strings.Contains(stderr, "8 written") {
					t.Errorf("%s: code %d, %d grants: %s", args, code, n, stderr)
				}
			}
			for _, args := range []string{"refresh zoom a", "disconnect zoom b --confirm b", "wait zoom a --for active", "explain zoom a", "apps", "ls"} {
				if code, _, stderr := told(t, nil, strings.Fields(args)...); code != cli.ExitOK {
					t.Errorf("%s: code %d: %s", args, code, stderr)
				}
			}
			for _, s := range on.servers {
				for _, denied := range deniedBy(t, s.Client(t)) {
					t.Errorf("denied: %s", denied)
				}
			}
			if code, _, stderr := told(t, nil, "doctor"); code != cli.ExitOK { // it asks what it may not, too
				t.Errorf("doctor: code %d: %s", code, stderr)
			}
		})
	}
}

// A right that is missing is said, and where the rights stand: also where other commands of the same round trip were
// answered.
func TestAMissingRightIsSaid(t *testing.T) {
	server := redistest.Own(t)
	r := &rotation{newWorldOn(t, t.TempDir(), server.Client(t), provider.Profile{AuthStyle: oauth2.AuthStyleInHeader}), t, nil, ""}
	t.Setenv(settings.Variable, r.config)
	r.connect("a", "b", "c", "d")
	admin := server.Client(t)
	for _, key := range []string{"a", "b", "c"} { // the first of a page may be missing, or of another type
		if err := admin.Del(t.Context(), "tl:{zoom:"+key+"}:secret").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.HSet(t.Context(), "tl:{zoom:b}:secret", "x", "y").Err(); err != nil {
		t.Fatal(err)
	}
	allow(t, admin, strings.Fields("on >SECRET resetkeys resetchannels -@all %R~tl:*:grant %R~tl:*:lock %R~tl:{zoom:a}:* %R~tl:{zoom:b}:* %R~tl:{zoom:c}:* +get +getrange +lrange +scan +hgetall +pttl +time +hello +ping"))
	t.Setenv(cli.RedisVariable, "redis://tlworker:SECRET@"+server.Addr())
	for _, args := range []string{"export --sealed", "export", "keys status", "keys reseal --confirm 1"} {
		code, stdout, stderr := told(t, nil, strings.Fields(args)...)
		if code != cli.ExitFailed || stdout != "" || !strings.Contains(stderr, "lacks a right") || !strings.Contains(stderr, "hint: ") || !strings.Contains(stderr, "tokenlatch help operations rights") {
			t.Errorf("%s: code %d\n%s%s", args, code, stdout, stderr)
		}
	}
}

// Of all that a worker may, reseal needs one right more.
func TestResealSaysWhichRightIsMissing(t *testing.T) {
	server := redistest.Own(t)
	r := &rotation{newWorldOn(t, t.TempDir(), server.Client(t), provider.Profile{AuthStyle: oauth2.AuthStyleInHeader}), t, nil, ""}
	t.Setenv(settings.Variable, r.config)
	r.connect("a")
	admin := server.Client(t)
	if err := admin.RPush(t.Context(), "tl:{zoom:a}:unread", "id\n"+admin.Get(t.Context(), "tl:{zoom:a}:secret").Val()).Err(); err != nil {
		t.Fatal(err)
	}
	allow(t, admin, strings.Fields("on >SECRET ~* &* +@all -lset"))
	t.Setenv(cli.RedisVariable, "redis://tlworker:SECRET@"+server.Addr())
	dir := t.TempDir()
	r.does(cli.ExitOK, "keys", "rotate", "--out", dir+"/new.json")
	text, err := os.ReadFile(dir + "/new.json")
	if err != nil {
		t.Fatal(err)
	}
	r.write("new.json", string(text))
	r.use("new.json")
	if _, stderr := r.does(cli.ExitFailed, "keys", "reseal", "--confirm", fmt.Sprint(r.status()[rolePrimary].ID)); !strings.Contains(stderr, "hint: reseal needs +lset") {
		t.Error(stderr)
	}
}

func allow(t *testing.T, admin *redis.Client, rules []string) {
	t.Helper()
	if err := admin.ACLSetUser(t.Context(), "tlworker", rules...).Err(); err != nil {
		t.Fatal(err)
	}
}

// deniedBy is what a server has denied, but for what only tells people more.
func deniedBy(t *testing.T, admin *redis.Client) (objects []string) {
	t.Helper()
	log, err := admin.ACLLog(t.Context(), 100).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range log {
		if !strings.HasPrefix(e.Object, "client|") && !strings.HasPrefix(e.Object, "pubsub|") {
			objects = append(objects, e.Object+" of "+e.Username)
		}
	}
	return objects
}
