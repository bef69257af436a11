package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/doctor"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// examined is what doctor finds, by check.
func examined(t *testing.T, s *redistest.Server, args ...string) map[string]doctor.Finding {
	t.Helper()
	code, stdout, stderr := told(t, s, append([]string{"doctor", "--json"}, args...)...)
	if code != cli.ExitOK || stderr != "" {
		t.Fatalf("code %d: %s", code, stderr)
	}
	parsed(t, stdout, "doctor")
	var all []doctor.Finding
	if err := json.Unmarshal([]byte(stdout), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]doctor.Finding{}
	for _, f := range all {
		found[f.ID] = f
	}
	if len(found) != len(doctor.Checks()) {
		t.Errorf("%d findings of %d checks", len(found), len(doctor.Checks()))
	}
	return found
}

// finds asserts what a check has found, and what its text says.
func finds(t *testing.T, found map[string]doctor.Finding, id string, result doctor.Result, says string) {
	t.Helper()
	f := found[id]
	if f.Result != result || !regexp.MustCompile(says).MatchString(f.Text) {
		t.Errorf("%s: %s, %q, want %s, %q", id, f.Result, f.Text, result, says)
	}
	if bad := result == doctor.Warning || result == doctor.Failure; bad != (f.Remedy != "") {
		t.Errorf("%s: %s, remedy %q", id, result, f.Remedy)
	}
}

// What is all well on a server that is set up as docs/deploying.md wants it.
func TestDoctorFindsNothingOnARedisAsItShouldBe(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t, redistest.AOF(), redistest.Set("maxmemory", "100mb"))
	found := examined(t, server)
	for id, f := range found {
		if f.Result == doctor.Failure || f.Result == doctor.Warning && id != "durability.replicas" {
			t.Errorf("%s: %s: %s", id, f.Result, f.Text)
		}
	}
	finds(t, found, "durability.aof", doctor.OK, "")
	finds(t, found, "durability.fsync", doctor.OK, "everysec")
	finds(t, found, "durability.memory", doctor.OK, "of 100.0 MB")
	finds(t, found, "durability.replicas", doctor.Warning, "no replica")
	if n, err := server.Client(t).DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Errorf("%d keys are left behind, %v", n, err)
	}
}

func TestDoctorKnowsSentinelAndCluster(t *testing.T) {
	t.Parallel()
	f, c := redistest.StartFailover(t), redistest.StartClusterWithReplicas(t)
	tell(t, f.Client(t))
	tell(t, c.Client(t))

	found := examined(t, nil, "--redis", "redis-sentinel://"+f.Sentinel()+"/?master="+redistest.MasterName)
	finds(t, found, "topology.role", doctor.OK, "a master, sentinel")
	finds(t, found, "topology.sentinels", doctor.Warning, "1 Sentinel watches")
	finds(t, found, "topology.cluster", doctor.Skipped, "")
	finds(t, found, "durability.replicas", doctor.OK, "1 replica is in step")
	finds(t, found, "permissions.commands", doctor.OK, "")
	finds(t, found, "push.arrives", doctor.OK, "")
	finds(t, found, "data.damaged", doctor.Failure, "zoom broken")

	found = examined(t, nil, "--redis", "redis-cluster://"+strings.Join(c.Addrs(), ","))
	finds(t, found, "topology.role", doctor.OK, "a master, cluster")
	finds(t, found, "topology.cluster", doctor.OK, "3 masters serve all slots")
	finds(t, found, "durability.replicas", doctor.OK, "each of 3 nodes")
	finds(t, found, "permissions.commands", doctor.OK, "")
	finds(t, found, "permissions.keys", doctor.OK, "hubspot, zoom|zoom")
	finds(t, found, "push.arrives", doctor.OK, "")
	finds(t, found, "data.damaged", doctor.Failure, "zoom broken")
	finds(t, found, "data.pairs", doctor.OK, "")

	// The address of one node, and of a replica.
	found = examined(t, nil, "--redis", c.Addrs()[0], "--skip", "permissions,push,data,fleet,apps")
	finds(t, found, "topology.role", doctor.Failure, "a node of a Cluster|a replica")
	found = examined(t, f.Replica, "--skip", "data,fleet,apps")
	finds(t, found, "topology.role", doctor.Failure, "a replica of "+f.Master.Addr())
	finds(t, found, "permissions.writes", doctor.Failure, "READONLY|read only")
}

// aclLine is the line for workers in docs/operations.md.
func aclLine(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^user tlworker on >SECRET (.*)$`).FindSubmatch(page)
	if line == nil {
		t.Fatal("docs/operations.md has no line for workers")
	}
	return strings.Fields(string(line[1]))
}

// The user of workers, without some of its rights: doctor says which line gives them back, and that line does.
func TestDoctorPrintsTheACLLineThatIsMissing(t *testing.T) {
	server := redistest.Own(t)
	admin := server.Client(t)
	acl := func(rules ...string) {
		t.Helper()
		if err := admin.ACLSetUser(t.Context(), "tlworker", rules...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(cli.RedisVariable, "redis://tlworker:secret@"+server.Addr())
	as := func() map[string]doctor.Finding {
		return examined(t, nil, "--app", "zoom", "--skip", "data,fleet,apps")
	}
	acl(append([]string{"on", ">secret"}, aclLine(t)...)...)
	found := as()
	finds(t, found, "permissions.writes", doctor.OK, "")
	finds(t, found, "permissions.commands", doctor.OK, "")
	finds(t, found, "permissions.keys", doctor.OK, "zoom")
	finds(t, found, "push.arrives", doctor.OK, "")
	finds(t, found, "durability.fsync", doctor.Skipped, "")

	acl("-hset", "-pttl")
	found = as()
	finds(t, found, "permissions.commands", doctor.Failure, "hset")
	if got := found["permissions.commands"].Command; got != "ACL SETUSER tlworker +pttl +hset" && got != "ACL SETUSER tlworker +hset +pttl" {
		t.Errorf("%q", got) // acl whoami is not among a worker's rights: the address has the name
	}
	acl("+hset", "+pttl", "-wait")
	finds(t, as(), "permissions.commands", doctor.Warning, "for a part only: wait")

	// All keys but those of the due sets and the channel of the app.
	acl(append([]string{"reset", "on", ">secret"}, aclLine(t)...)...)
	rules := append([]string{"resetkeys", "resetchannels"}, aclLine(t)[2:]...)
	acl(without(rules, "~tl:due:zoom:*", "&tl:app:zoom")...)
	found = as()
	finds(t, found, "permissions.commands", doctor.OK, "")
	finds(t, found, "permissions.keys", doctor.Failure, "")
	if got := found["permissions.keys"].Command; got != "ACL SETUSER tlworker &tl:app:zoom ~tl:due:zoom:*" {
		t.Errorf("%q", got)
	}
	acl(strings.Fields(found["permissions.keys"].Command)[3:]...)
	finds(t, as(), "permissions.keys", doctor.OK, "")

	// Another app's workers, and no channel.
	finds(t, examined(t, nil, "--app", "hubspot", "--skip", "data,fleet,apps"), "permissions.keys", doctor.Failure, `~tl:{hubspot:\*}:\*`)
	acl("resetchannels")
	found = as()
	finds(t, found, "push.arrives", doctor.Failure, "not allowed")
	if f := found["push.arrives"]; !strings.Contains(f.Command, "&tl:heartbeat:*") {
		t.Errorf("%+v", f)
	}
	for _, f := range found {
		if text := fmt.Sprint(f); strings.Contains(text, "secret") {
			t.Errorf("it shows the password: %s", text)
		}
	}
}

func without(rules []string, some ...string) (rest []string) {
	for _, rule := range rules {
		drop := false
		for _, one := range some {
			drop = drop || rule == one
		}
		if !drop {
			rest = append(rest, rule)
		}
	}
	return rest
}

// Each command of the documented line is tried, but for those that make a connection or a subscription.
func TestDoctorTriesEachCommandOfTheDocumentedLine(t *testing.T) {
	t.Parallel()
	made := "hello auth subscribe unsubscribe command asking " // by the client itself, and by push.arrives
	tried := map[string]bool{}
	for _, name := range doctor.Tried() {
		tried[name] = true
	}
	seen := 0
	for _, rule := range aclLine(t) {
		name, is := strings.CutPrefix(rule, "+")
		if !is || strings.Contains(name, "|") || strings.Contains(made, name+" ") {
			continue
		}
		seen++
		if !tried[name] {
			t.Errorf("%s is not tried", name)
		}
		delete(tried, name)
	}
	if len(tried) > 0 || seen < 30 {
		t.Errorf("%d rules; tried, and not in the line: %v", seen, tried)
	}
}

// A full Redis, and one without the replicas that it wants, are read and refuse writes.
func TestDoctorSaysWhyRedisTakesNoWrites(t *testing.T) {
	t.Parallel()
	full := redistest.Own(t, redistest.Set("maxmemory", "1"))
	found := examined(t, full)
	finds(t, found, "permissions.writes", doctor.Failure, "OOM")
	finds(t, found, "durability.memory", doctor.Failure, "of maxmemory")
	alone := redistest.Own(t, redistest.Set("min-replicas-to-write", "1"))
	finds(t, examined(t, alone), "permissions.writes", doctor.Failure, "NOREPLICAS")
	evicts := redistest.Own(t, redistest.Set("maxmemory", "100mb"), redistest.Set("maxmemory-policy", "allkeys-lru"))
	finds(t, examined(t, evicts), "durability.eviction", doctor.Failure, "allkeys-lru")
}

// Workers are heard of, and what became of the grants is seen.
func TestDoctorLooksOverGrantsAndFleet(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	tell(t, rdb)
	ctx := t.Context()
	past := fmt.Sprint(time.Now().Add(-time.Hour).UnixMilli())
	teller{t, ctx, rdb, nil}.hset("silent", "claim_until", past, "expires_at", past, "refresh_at", past, "used_at", past)
	if err := rdb.Del(ctx, "tl:{zoom:fine}:secret").Err(); err != nil {
		t.Fatal(err)
	}
	for _, listener := range []string{"one", "doctor:of a colleague"} {
		ps := rdb.Subscribe(ctx, "tl:heartbeat:"+listener)
		defer ps.Close()
		if _, err := ps.Receive(ctx); err != nil {
			t.Fatal(err)
		}
	}
	tries := rdb.PSubscribe(ctx, "tl:heartbeat:*")
	defer tries.Close()
	if _, err := tries.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	found := examined(t, server)
	// Nobody else publishes here: these are the tries of push.arrives, in channels that count as no process.
	if m, err := tries.ReceiveTimeout(ctx, 10*time.Second); err != nil {
		t.Fatalf("doctor tries no push: %v", err)
	} else if m, is := m.(*redis.Message); !is || !strings.HasPrefix(m.Channel, "tl:heartbeat:doctor:") {
		t.Errorf("doctor tries a push with %v: it would count itself", m)
	}
	finds(t, found, "data.pairs", doctor.Failure, "1 of 12 grants are active without a pair: zoom fine")
	finds(t, found, "data.claims", doctor.Warning, "zoom silent")
	finds(t, found, "fleet.silent", doctor.Warning, "web-3/4712 .*zoom silent")
	finds(t, found, "fleet.processes", doctor.OK, "1 process listens")
	finds(t, found, "fleet.late", doctor.OK, "11 renewals") // hubspot has grants alone, and no state of its own
	finds(t, found, "fleet.renewals", doctor.Warning, `no process calls Run: hubspot \(1 scheduled\), zoom \(10 scheduled\)`)
	for _, app := range []string{"hubspot", "zoom"} {
		run := rdb.Subscribe(ctx, "tl:heartbeat:run:"+app)
		defer run.Close()
		if _, err := run.Receive(ctx); err != nil {
			t.Fatal(err)
		}
	}
	found = examined(t, server)
	finds(t, found, "fleet.renewals", doctor.OK, "2 processes call Run")
	finds(t, found, "fleet.processes", doctor.OK, "1 process listens")
	if err := rdb.ZAdd(ctx, "tl:due:zoom:00", redis.Z{Score: 1, Member: "fine"}).Err(); err != nil {
		t.Fatal(err)
	}
	finds(t, examined(t, server), "fleet.late", doctor.Warning, `zoom \(1\)`)
	if err := rdb.HSet(ctx, "tl:app:zoom", "circuit", "open", "opened_at", past).Err(); err != nil {
		t.Fatal(err)
	}
	finds(t, examined(t, server), "apps.circuit", doctor.Failure, `^the circuit is open: zoom since (\d\d-\d\d )?\d\d:\d\d(:\d\d)? UTC \(\d+m ago\)$`)
	for _, err := range []error{
		rdb.HDel(ctx, "tl:app:zoom", "circuit").Err(),
		rdb.HSet(ctx, "tl:app:zoom", "circuit@login.eu.example.com", "open", "opened_at@login.eu.example.com", past, "changed_at@login.eu.example.com", past).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	finds(t, examined(t, server), "apps.circuit", doctor.Failure, `^the circuit is open: zoom at login.eu.example.com since (\d\d-\d\d )?\d\d:\d\d(:\d\d)? UTC \(\d+m ago\)$`)
}

// The table of docs/operations.md says what the checks say.
func TestTheTableOfChecksIsWhole(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, c := range doctor.Checks() {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", c.ID, c.What, c.Remedy, c.Wrong)
	}
	if !strings.Contains(string(page), "| check | what should be | else | may be wrong when |\n| --- | --- | --- | --- |\n"+want.String()+"\n") {
		t.Errorf("docs/operations.md does not have this table:\n%s", &want)
	}
	seen := map[string]bool{}
	for _, c := range doctor.Checks() {
		if seen[c.ID] || c.What == "" || c.Remedy == "" || c.Wrong == "" || !regexp.MustCompile(`^[a-z]+\.[a-z]+$`).MatchString(c.ID) {
			t.Errorf("%+v", c)
		}
		seen[c.ID] = true
	}
}

// No provider can be asked: doctor itself speaks no HTTP, and knows neither coordinator nor token endpoint.
func TestDoctorCannotPost(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, "./internal/doctor").Output()
	if err != nil || !strings.Contains(string(out), "/tokencache/inspect") {
		t.Fatalf("go list: %s, %v", out, err)
	}
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		if strings.HasPrefix(path, "net") || strings.Contains(path, "/tokenlatch/refresh") || strings.HasSuffix(path, "/seal") {
			t.Errorf("doctor imports %s", path)
		}
	}
}
