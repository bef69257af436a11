package refresh_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// The rights are those of docs/operations.md, word for word.
func TestTheRightsThatThePagesNameAreEnough(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^user tlworker (.*)$`).FindSubmatch(page)
	if line == nil {
		t.Fatal("docs/operations.md names no user")
	}
	rules := strings.Fields(string(line[1]))
	for _, on := range []string{"one server", "a Cluster"} {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.prefix = "tl"
			f.profile.Budget = provider.Budget{Requests: 100, Per: time.Second, Concurrency: 4}
			var servers []*redistest.Server
			as := func() redis.UniversalClient {
				return f.redis.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "tlworker", "SECRET" })
			}
			if on == "a Cluster" {
				cluster := redistest.StartCluster(t)
				servers = cluster.Nodes
				as = func() redis.UniversalClient {
					rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), Username: "tlworker", Password: "SECRET"})
					t.Cleanup(func() { _ = rdb.Close() })
					return rdb
				}
			} else {
				f.redis = redistest.Own(t)
				servers = []*redistest.Server{f.redis}
			}
			var admins []*redis.Client
			for _, s := range servers {
				admins = append(admins, s.Client(t))
				own := rules
				if s.Client(t).Do(f.ctx(), "acl", "dryrun", "default", "client", "setinfo", "lib-name", "x").Err() != nil {
					own = nil // before 7.2
					for _, r := range rules {
						if r != "+client|setinfo" {
							own = append(own, r)
						}
					}
				}
				if err := admins[len(admins)-1].ACLSetUser(f.ctx(), "tlworker", own...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			w, other := f.workerOn(as()), f.workerOn(as())
			f.run(other)
			for _, tenant := range []string{"acme", "globex", "initech"} {
				f.connect(w, tenant, true)
				f.token(w, tenant)
				f.token(other, tenant)
			}
			tok := f.token(w, "acme")
			if err := w.Reject(f.ctx(), "acme", tok.AccessToken); err != nil {
				t.Fatal(err)
			}
			f.server.Script(refreshtest.Step{Status: 429}, refreshtest.Step{Status: 429})
			_ = w.Refresh(f.ctx(), "globex")
			_ = w.Refresh(f.ctx(), "initech")
			if _, err := w.Import(f.ctx(), "imported", f.server.Grant("imported")); err != nil {
				t.Error(err)
			}
			if _, err := w.Status(f.ctx(), "acme"); err != nil {
				t.Error(err)
			}
			if err := w.cache.Grant(key("acme")).Compact(f.ctx()); err != nil {
				t.Error(err)
			}
			if _, err := w.cache.App("zoom").Repair(f.ctx(), 0); err != nil {
				t.Error(err)
			}
			if _, err := w.cache.App("zoom").CountGrants(f.ctx()); err != nil {
				t.Error(err)
			}
			if err := w.cache.App("zoom").Touch(f.ctx(), time.Millisecond); err != nil {
				t.Error(err)
			}
			if err := w.Disconnect(f.ctx(), "initech"); err != nil {
				t.Fatal(err)
			}
			f.lawful(w, "acme")
			time.Sleep(4 * time.Second) // what goes on by itself every few seconds
			for _, admin := range admins {
				denied, err := admin.Do(f.ctx(), "acl", "log").Slice()
				if err != nil {
					t.Error(err)
				}
				for _, entry := range denied {
					fields := map[string]any{}
					switch e := entry.(type) {
					case []any:
						for i := 0; i+1 < len(e); i += 2 {
							fields[e[i].(string)] = e[i+1]
						}
					case map[any]any:
						for k, v := range e {
							fields[k.(string)] = v
						}
					}
					if object, _ := fields["object"].(string); !strings.HasPrefix(object, "client|") {
						t.Errorf("denied: %v", fields)
					}
				}
			}
		})
	}
}
