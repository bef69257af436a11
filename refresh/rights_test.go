package refresh_test

import (
	"crypto/tls"
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

// A worker's user, as docs/operations.md has it.
const workerUser, workerPassword = "tlworker", "SECRET"

// topology is servers that belong together, and how a worker's user connects to them. secure is nil for a
// connection in plain.
type topology func(t *testing.T, secure *tls.Config, opts ...redistest.Option) (servers []*redistest.Server, connect func() redis.UniversalClient)

var topologies = map[string]topology{
	"one server": func(t *testing.T, secure *tls.Config, opts ...redistest.Option) ([]*redistest.Server, func() redis.UniversalClient) {
		s := redistest.Own(t, opts...)
		return []*redistest.Server{s}, func() redis.UniversalClient {
			return s.ClientWith(t, func(o *redis.Options) {
				o.Username, o.Password = workerUser, workerPassword
				if secure != nil {
					o.Addr, o.TLSConfig = s.TLSAddr(), secure
				}
			})
		}
	},
	"Sentinel": func(t *testing.T, secure *tls.Config, opts ...redistest.Option) ([]*redistest.Server, func() redis.UniversalClient) {
		s := redistest.StartFailover(t, opts...)
		return []*redistest.Server{s.Master, s.Replica}, func() redis.UniversalClient {
			rdb := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: redistest.MasterName, SentinelAddrs: []string{s.Sentinel()}, Username: workerUser, Password: workerPassword, TLSConfig: secure,
			})
			t.Cleanup(func() { _ = rdb.Close() })
			return rdb
		}
	},
	"a Cluster": func(t *testing.T, secure *tls.Config, opts ...redistest.Option) ([]*redistest.Server, func() redis.UniversalClient) {
		if secure != nil {
			opts = append(opts, redistest.Set("tls-cluster", "yes"))
		}
		c := redistest.StartCluster(t, opts...)
		addrs := c.Addrs()
		for i, node := range c.Nodes {
			if secure != nil {
				addrs[i] = node.TLSAddr()
			}
		}
		return c.Nodes, func() redis.UniversalClient {
			rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, Username: workerUser, Password: workerPassword, TLSConfig: secure})
			t.Cleanup(func() { _ = rdb.Close() })
			return rdb
		}
	},
}

// The rights are those of docs/operations.md, word for word.
func TestTheRightsThatThePagesNameAreEnough(t *testing.T) {
	t.Parallel()
	rules := workerRules(t)
	for on, start := range topologies {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			servers, connect := start(t, nil)
			worksAs(t, rules, servers, connect)
		})
		t.Run(on+", over TLS with a certificate of the client", func(t *testing.T) {
			t.Parallel()
			certs := redistest.MakeCerts(t)
			servers, connect := start(t, certs.Client(), redistest.WithTLS(t, certs))
			worksAs(t, rules, servers, connect)
		})
	}
}

func workerRules(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^user ` + workerUser + ` (.*)$`).FindSubmatch(page)
	if line == nil {
		t.Fatal("docs/operations.md names no user")
	}
	return strings.Fields(string(line[1]))
}

// worksAs makes the worker's user, and all calls as that user; nothing may be denied.
func worksAs(t *testing.T, rules []string, servers []*redistest.Server, connect func() redis.UniversalClient) {
	t.Helper()
	f := newFleet(t, refreshtest.Config{})
	f.prefix, f.redis = "tl", servers[0]
	f.profile.Budget = provider.Budget{Requests: 100, Per: time.Second, Concurrency: 4}
	for _, s := range servers {
		f.addUser(s, rules)
	}
	w, other := f.workerOn(connect()), f.workerOn(connect())
	f.run(other)
	f.allCalls(w, other)
	time.Sleep(4 * time.Second) // what goes on by itself every few seconds
	for _, s := range servers {
		f.nothingDenied(s)
	}
}

func (f *fleet) addUser(s *redistest.Server, rules []string) {
	f.t.Helper()
	if err := s.Client(f.t).ACLSetUser(f.ctx(), workerUser, rules...).Err(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) allCalls(w, other *worker) {
	f.t.Helper()
	for _, tenant := range []string{"acme", "globex", "initech"} {
		f.connect(w, tenant, true)
		f.token(w, tenant)
		f.token(other, tenant)
	}
	tok := f.token(w, "acme")
	if err := w.Reject(f.ctx(), "acme", tok.AccessToken); err != nil {
		f.t.Fatal(err)
	}
	f.server.Script(refreshtest.Step{Status: 429}, refreshtest.Step{Status: 429})
	_ = w.Refresh(f.ctx(), "globex")
	_ = w.Refresh(f.ctx(), "initech")
	zoom := w.cache.App("zoom")
	for what, call := range map[string]func() error{
		"Import":      func() error { _, err := w.Import(f.ctx(), "imported", f.server.Grant("imported")); return err },
		"Status":      func() error { _, err := w.Status(f.ctx(), "acme"); return err },
		"Explain":     func() error { _, err := w.Explain(f.ctx(), "acme"); return err },
		"Compact":     func() error { return w.cache.Grant(key("acme")).Compact(f.ctx()) },
		"Repair":      func() error { _, err := zoom.Repair(f.ctx(), 0); return err },
		"CountGrants": func() error { _, err := zoom.CountGrants(f.ctx()); return err },
		"Touch":       func() error { return zoom.Touch(f.ctx(), time.Millisecond) },
		"Disconnect":  func() error { return w.Disconnect(f.ctx(), "initech") },
	} {
		if err := call(); err != nil {
			f.t.Errorf("%s: %v", what, err)
		}
	}
	f.lawful(w, "acme")
}

// nothingDenied looks at what a server has denied, but for what go-redis says of itself.
func (f *fleet) nothingDenied(s *redistest.Server) {
	f.t.Helper()
	denied, err := s.Client(f.t).Do(f.ctx(), "acl", "log").Slice()
	if err != nil {
		f.t.Error(err)
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
			f.t.Errorf("denied: %v", fields)
		}
	}
}
