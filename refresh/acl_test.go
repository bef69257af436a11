package refresh_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// Whatever the product does, with a budget, a pause and a refused client, it touches no key and no
// channel that does not begin with its prefix.
func TestAUserOfThePrefixAloneIsEnough(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis, f.prefix = redistest.Own(t), "tl"
	f.profile.Budget = provider.Budget{Requests: 100, Per: time.Second, Concurrency: 4}
	admin := f.redis.Client(t)
	err := admin.Do(f.ctx(), "acl", "setuser", "worker", "on", ">secret", "resetkeys", "resetchannels",
		"~tl:*", "&tl:*", "+@all", "-@admin", "-@dangerous", "+info", "+restore").Err()
	if err != nil {
		t.Fatal(err)
	}
	as := func() redis.UniversalClient {
		return f.redis.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "worker", "secret" })
	}
	w, other := f.workerOn(as()), f.workerOn(as())
	f.run(other)
	for _, tenant := range []string{"acme", "globex", "initech"} {
		f.connect(w, tenant, true)
		f.token(w, tenant)
		f.token(other, tenant)
	}
	f.eventually("the budget to leave a key", func() bool { // for a second
		return w.Refresh(f.ctx(), "acme") == nil && admin.Exists(f.ctx(), "tl:rate:zoom").Val() == 1
	})
	tok := f.token(w, "acme")
	if err := w.Reject(f.ctx(), "acme", tok.AccessToken); err != nil {
		t.Fatal(err)
	}
	f.server.Script(refreshtest.Step{Status: 429}, refreshtest.Step{Status: 429})
	_ = w.Refresh(f.ctx(), "globex")
	_ = w.Refresh(f.ctx(), "initech")
	if err := w.Disconnect(f.ctx(), "initech"); err != nil {
		t.Fatal(err)
	}
	f.lawful(w, "acme")
	denied, err := admin.Do(f.ctx(), "acl", "log").Slice()
	if err != nil || len(denied) > 0 {
		t.Errorf("denied: %v, %v", denied, err)
	}
	keys, err := admin.Keys(context.Background(), "*").Result()
	if err != nil || len(keys) < 10 {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "tl:") {
			t.Errorf("the key %s is not under the prefix", key)
		}
	}
}
