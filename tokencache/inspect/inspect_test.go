package inspect_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	goleak.VerifyTestMain(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// canary starts every token: where it shows, one has leaked.
const canary = "canary7d1f"

func zoom(tenant string) grant.Key { return grant.Key{App: "zoom", Tenant: tenant} }

func pair(n int) func(now int64) grant.Pair {
	return func(now int64) grant.Pair {
		return grant.Pair{
			AccessToken: grant.Hide(fmt.Sprint(canary, "at", n)), RefreshToken: grant.Hide(fmt.Sprint(canary, "rt", n)), TokenType: "Bearer",
			IssuedAt: now, ExpiresAt: now + 3_600_000, RefreshAt: now + 3_000_000,
		}
	}
}

// fleet is what writes the grants that an Inspector reads.
type fleet struct {
	*testing.T
	rdb   redis.UniversalClient
	cache *tokencache.Cache
}

func newFleet(t *testing.T, rdb redis.UniversalClient, prefix string) fleet {
	t.Helper()
	cache, err := tokencache.New(rdb, tokencache.Config{Prefix: prefix, AEAD: tokencache.Plaintext})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, app := range []string{"zoom", "hub spot"} {
			if err := cache.App(app).Forget(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return fleet{t, rdb, cache}
}

func (f fleet) connect(k grant.Key, n int) *engine.Snapshot {
	f.Helper()
	s, err := f.cache.Grant(k).As("connector").Connect(f.Context(), pair(n))
	if err != nil {
		f.Fatal(err)
	}
	return s
}

func (f fleet) claim(s *engine.Snapshot, by string) *engine.Snapshot {
	f.Helper()
	o, s, err := f.cache.Grant(s.Key).As(by).Claim(f.Context(), s, engine.NewID(), time.Minute, grant.AfterDeadline)
	if err != nil || o != grant.OutcomeOK {
		f.Fatalf("claim: %s, %v", o, err)
	}
	return s
}

// list is the rows of a List by their keys; an error fails the test.
func list(t *testing.T, in *inspect.Inspector, app string) map[string]inspect.Row {
	t.Helper()
	rows := map[string]inspect.Row{}
	for row, err := range in.List(t.Context(), app) {
		if err != nil {
			t.Fatal(err)
		}
		rows[row.Key.String()] = row
	}
	return rows
}

func newInspector(t *testing.T, rdb redis.UniversalClient, prefix string) *inspect.Inspector {
	t.Helper()
	in, err := inspect.New(rdb, inspect.Config{Prefix: prefix, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// reader is the line of docs/operations.md for a user who may read what an Inspector reads, and no token.
func reader(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if rights, ok := strings.CutPrefix(strings.TrimSpace(line), "user tlreader "); ok {
			return strings.Fields(strings.Replace(rights, ">SECRET", ">reader", 1))
		}
	}
	t.Fatal("docs/operations.md has no line of user tlreader")
	return nil
}

// allow makes that user.
func allow(t *testing.T, rdb *redis.Client) {
	t.Helper()
	if err := rdb.ACLSetUser(t.Context(), "tlreader", reader(t)...).Err(); err != nil {
		t.Fatal(err)
	}
}

// On each kind of Redis, as a user who cannot read a token.
func TestAReaderWithoutRightsToTokensSeesTheGrants(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (writer, reader redis.UniversalClient){
		"one server": func(t *testing.T) (redis.UniversalClient, redis.UniversalClient) {
			s := redistest.Own(t)
			allow(t, s.Client(t))
			return s.Client(t), s.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "tlreader", "reader" })
		},
		"Sentinel": func(t *testing.T) (redis.UniversalClient, redis.UniversalClient) {
			f := redistest.StartFailover(t)
			writer := f.Client(t)
			allow(t, writer)
			rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: redistest.MasterName, SentinelAddrs: []string{f.Sentinel()}, Username: "tlreader", Password: "reader"})
			t.Cleanup(func() { _ = rdb.Close() })
			return writer, rdb
		},
		"Cluster": func(t *testing.T) (redis.UniversalClient, redis.UniversalClient) {
			c := redistest.StartCluster(t)
			for _, node := range c.Nodes {
				allow(t, node.Client(t))
			}
			rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), Username: "tlreader", Password: "reader"})
			t.Cleanup(func() { _ = rdb.Close() })
			return c.Client(t), rdb
		},
	} {
		t.Run(name, func(t *testing.T) {
			writer, rdb := start(t)
			f, in := newFleet(t, writer, ""), newInspector(t, rdb, "")
			for i := range 100 {
				f.connect(zoom(fmt.Sprintf("t%03d", i)), i)
			}
			if got, err := rdb.GetRange(t.Context(), "tl:{zoom:t000}:secret", 0, 9).Result(); !redis.HasErrorPrefix(err, "NOPERM") {
				t.Errorf("the reader can read a sealed pair: %q, %v", got, err)
			}
			f.connect(grant.Key{App: "hub spot", Tenant: "ä/b:c"}, 200)
			claimed := f.claim(f.connect(zoom("busy"), 300), "w1")
			if err := writer.Set(t.Context(), f.cache.Grant(claimed.Key).LockKey(), "w1/"+strings.Repeat("N", 26), time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := f.cache.App("zoom").As("w1").Throttle(t.Context(), engine.NewID(), "throttled//429", "a", time.Minute); err != nil {
				t.Fatal(err)
			}
			if err := f.cache.Grant(zoom("t001")).Schedule(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			reads(t, in, f)
		})
	}
}

// reads looks at all that an Inspector tells of that story.
func reads(t *testing.T, in *inspect.Inspector, f fleet) {
	t.Helper()
	all, some := list(t, in, ""), list(t, in, "hub spot")
	if len(all) != 102 || len(some) != 1 || all["zoom:t042"].Record.State != grant.Active {
		t.Errorf("%d grants, and %d of one app", len(all), len(some))
	}
	for _, row := range some {
		if row.Key != (grant.Key{App: "hub spot", Tenant: "ä/b:c"}) || row.Status().Generation != 1 {
			t.Errorf("%+v", row)
		}
	}
	busy, err := in.Grant(t.Context(), zoom("busy"))
	for _, row := range []inspect.Row{busy, all["zoom:busy"]} {
		if err != nil || row.Lease.By != "w1" || row.Lease.Left <= 0 || row.Record.Claim.By != "w1" {
			t.Errorf("the lease of a claimed grant: %+v, %v", row, err)
		}
	}
	want, err := f.cache.Grant(zoom("busy")).Status(t.Context())
	got, failed := in.Status(t.Context(), zoom("busy"))
	if want.Now = got.Now; err != nil || failed != nil || got != want {
		t.Errorf("status %+v, %v, a worker says %+v, %v", got, failed, want, err)
	}
	tenants := map[string]bool{}
	for tenant, err := range in.Tenants(t.Context(), "zoom") {
		if tenants[tenant] = true; err != nil {
			t.Error(err)
		}
	}
	if len(tenants) != 101 || !tenants["t042"] || !tenants["busy"] {
		t.Errorf("%d tenants: %v", len(tenants), tenants)
	}
	if n, err := in.Renewers(t.Context(), "hub spot"); n != 0 || err != nil { // for more see package refresh
		t.Errorf("%d processes renew it, %v", n, err)
	}
	entries, err := in.Journal(t.Context(), zoom("busy"))
	if err != nil || len(entries) != 2 || entries[0].Kind != "connect" || entries[1].Kind != "claim" || entries[1].By != "w1" || entries[1].Generation != 1 || entries[1].At == 0 {
		t.Errorf("journal %+v, %v", entries, err)
	}
	if s, err := in.App(t.Context(), "zoom"); err != nil || s.Limited == "" || s.Error != "throttled//429" {
		t.Errorf("app %+v, %v", s, err)
	}
	for app, err := range in.Apps(t.Context()) {
		if app != "zoom" || err != nil {
			t.Errorf("app %q, %v", app, err)
		}
	}
	if d, err := in.Due(t.Context(), "zoom"); err != nil || d.Scheduled < 1 || d.Overdue != 1 || !d.Next.Equal(time.UnixMilli(1)) {
		t.Errorf("due %+v, %v", d, err)
	}
	ps := f.rdb.Subscribe(t.Context(), f.cache.Grant(zoom("busy")).EventsChannel())
	defer ps.Close()
	if _, err := ps.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := in.Listeners(t.Context(), zoom("busy")); err != nil || n != 1 {
		t.Errorf("%d listeners, %v", n, err)
	}
	told := fmt.Sprintf("%+v %#v %+v %+v %+v", all, all, got, entries, busy)
	if strings.Contains(told, canary) {
		t.Error("a token shows")
	}
}

func TestADamagedRecordIsARowThatSaysSo(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Start(t).Client(t), redistest.Prefix(t)
	f, in := newFleet(t, rdb, prefix), newInspector(t, rdb, prefix)
	key := func(tenant string) string { return prefix + ":{zoom:" + tenant + "}:grant" }
	for i, tenant := range []string{"good", "number", "state", "line", "newer"} {
		f.connect(zoom(tenant), i)
	}
	for _, err := range []error{
		rdb.HSet(t.Context(), key("number"), "expires_at", "soon").Err(),
		rdb.HSet(t.Context(), key("state"), "state", "happy").Err(),
		rdb.HSet(t.Context(), key("line"), "reason", "a\x1b[2Jb").Err(),
		rdb.HSet(t.Context(), key("newer"), "v", "3").Err(),
		rdb.Set(t.Context(), key("type"), "text", 0).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rows := list(t, in, "zoom")
	for tenant, want := range map[string]error{
		"good": nil, "number": grant.ErrDamaged, "state": grant.ErrDamaged, "line": grant.ErrDamaged, "newer": grant.ErrNewer, "type": grant.ErrDamaged,
	} {
		row, ok := rows["zoom:"+tenant]
		if _, err := in.Status(t.Context(), zoom(tenant)); !ok || !errors.Is(row.Err, want) || !errors.Is(err, want) {
			t.Errorf("%s: listed %t: %v; status %v; want %v", tenant, ok, row.Err, err, want)
		}
		if row.Err != nil && strings.Contains(row.Err.Error(), "\x1b") {
			t.Errorf("%s: a control character in %q", tenant, row.Err)
		}
	}
	if len(rows) != 6 {
		t.Errorf("rows %v", slices.Sorted(maps.Keys(rows)))
	}
	if _, err := in.Grant(t.Context(), zoom("nobody")); !errors.Is(err, grant.ErrNone) {
		t.Errorf("a grant that is not there: %v", err)
	}
	if _, err := in.App(t.Context(), "nothing"); !errors.Is(err, grant.ErrNone) {
		t.Errorf("an app that is not there: %v", err)
	}
}

func TestASilentNodeIsOneErrorAndTheOthersAreListed(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	f := newFleet(t, c.Client(t), "")
	for i := range 60 {
		f.connect(zoom(fmt.Sprint("t", i)), i)
	}
	in, err := inspect.New(c.Client(t), inspect.Config{Timeout: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(list(t, in, "zoom")); n != 60 {
		t.Fatalf("%d grants", n)
	}
	for _, node := range c.Nodes { // else the others answer no more once they have noticed
		if err := node.Client(t).ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.Nodes[1].Pause(t)
	defer c.Nodes[1].Resume(t)
	rows, failures := 0, []string{}
	for _, err := range in.List(t.Context(), "zoom") {
		if err != nil {
			failures = append(failures, err.Error())
		} else {
			rows++
		}
	}
	if rows == 0 || rows == 60 || len(failures) != 1 || !strings.Contains(failures[0], c.Nodes[1].Addr()) {
		t.Errorf("%d rows, failures %q; %s is silent", rows, failures, c.Nodes[1].Addr())
	}
}

func TestFollowHasWhatWasAndWhatComes(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Start(t).Client(t), redistest.Prefix(t)
	f, in := newFleet(t, rdb, prefix), newInspector(t, rdb, prefix)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s := f.connect(zoom("acme"), 1)
	var kinds []string
	for e, err := range in.Follow(ctx, zoom("acme"), "") {
		if err != nil {
			t.Fatal(err)
		}
		switch kinds = append(kinds, e.Kind); e.Kind {
		case "connect":
			f.claim(s, "w1")
		case "claim":
			if err := f.cache.Grant(zoom("acme")).Disconnect(ctx); err != nil {
				t.Fatal(err)
			}
		case "disconnect":
			cancel()
		}
	}
	if strings.Join(kinds, " ") != "connect claim disconnect" {
		t.Errorf("%q", kinds)
	}
}

func TestListEndsWhereItsReaderHasEnough(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Start(t).Client(t), redistest.Prefix(t)
	f, in := newFleet(t, rdb, prefix), newInspector(t, rdb, prefix)
	for i := range 10 {
		f.connect(zoom(fmt.Sprint("t", i)), i)
	}
	n := 0
	for range in.List(t.Context(), "") {
		if n++; n == 3 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	failed := 0
	for _, err := range in.List(ctx, "") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		failed++
	}
	if n != 3 || failed == 0 {
		t.Errorf("%d rows, %d failures after ctx ended", n, failed)
	}
}
