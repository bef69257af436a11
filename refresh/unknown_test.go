package refresh_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// unknown asks n times for a token of each tenant, none of which has a grant, and returns what that
// cost Redis.
func (f *fleet) unknown(w *worker, n int, tenants ...string) int {
	f.t.Helper()
	return redistest.Total(redistest.Commands(f.t, f.redis.Client(f.t), func() {
		var all sync.WaitGroup
		for _, tenant := range tenants {
			all.Go(func() {
				for i := range n {
					var err error
					switch i % 3 {
					case 0:
						_, err = w.Token(f.ctx(), tenant)
					case 1:
						_, err = w.TryToken(f.ctx(), tenant)
					case 2:
						err = w.Refresh(f.ctx(), tenant)
					}
					if !errors.Is(err, refresh.ErrNotConnected) {
						f.t.Errorf("%s: %v", tenant, err)
					}
				}
			})
		}
		all.Wait()
	}))
}

func TestCallsAboutAnUnknownTenantCostNextToNothing(t *testing.T) {
	t.Parallel()
	for name, others := range map[string]int{"alone": 0, "where others were asked for it too": 2} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, refreshtest.Config{})
			f.redis = redistest.Own(t)
			w := f.worker()
			for range others {
				f.unknown(f.worker(), 3, "nobody")
			}
			if n := f.unknown(w, 500, "nobody"); n > 25 {
				t.Errorf("500 calls cost %d commands", n)
			}
			least := 500
			for try := 0; least > 0 && try < 5; try++ { // a look at Redis, which comes every few seconds, may fall into one
				least = min(least, f.unknown(w, 500, "nobody"))
			}
			if least > 0 {
				t.Errorf("500 more cost %d at least", least)
			}
		})
	}
}

func TestManyUnknownTenantsAreBoundedAndLeaveNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	w := f.worker()
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprint("nobody-", i))
	}
	if n := f.unknown(w, 10, names...); n > 12*500 {
		t.Errorf("5000 calls cost %d commands", n)
	}
	if n := f.unknown(w, 10, names...); n > 500 {
		t.Errorf("5000 more cost %d", n)
	}
	if err := w.Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if w.cache.Grant(key(name)).KnownAbsent() {
			t.Fatalf("%s is remembered", name)
		}
	}
	rdb := f.redis.Client(t)
	f.eventually("the subscriptions to end", func() bool {
		return len(rdb.PubSubChannels(f.ctx(), f.prefix+"*").Val()) == 0
	})
	if keys := rdb.Keys(f.ctx(), f.prefix+":{*").Val(); len(keys) > 0 {
		t.Errorf("%d keys are left", len(keys))
	}
}

func TestAConsentIsSeenAtOnceByAProcessThatHasAskedBefore(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	asked, other := f.worker(), f.worker()
	f.unknown(asked, 9, "acme")
	tok := f.connect(other, "acme", false)
	watch := redistest.StartStopwatch(t)
	f.eventually("the consent to be seen", func() bool {
		got, err := asked.Token(f.ctx(), "acme")
		return err == nil && got.AccessToken == tok.AccessToken
	})
	if d, over := watch.Over(10 * time.Second); over { // "not connected" is believed for a minute
		t.Errorf("that took %v", d)
	}
}

// A tenant whose first mint is refused has no grant that could say so.
func TestARefusedFirstMintIsNotTriedAgainByEachCall(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.ZoomServerToServer()})
	w := f.worker(f.minter(1))
	if err := w.Connect(f.ctx(), "good", nil); err != nil {
		t.Fatal(err)
	}
	f.server.Revoke("good")
	f.server.Script(refreshtest.Step{Status: 400, Body: `{"error":"invalid_request"}`, Tenant: "bad", Times: -1})
	before := len(f.server.Ledger())
	var calls sync.WaitGroup
	for range 200 {
		calls.Go(func() {
			err := w.Connect(f.ctx(), "bad", nil)
			var e *refresh.Error
			if !errors.As(err, &e) || e.RetryAfter <= 0 || e.Tenant != "bad" {
				t.Errorf("%v", err)
			}
		})
	}
	calls.Wait()
	if n := len(f.server.Ledger()) - before; n < 1 || n > 4 { // within the first backoffs
		t.Errorf("%d requests", n)
	}
	f.server.ClearScript()
	f.eventually("the mint to be tried again", func() bool { return w.Connect(f.ctx(), "bad", nil) == nil })
	if err := w.Disconnect(f.ctx(), "bad"); err != nil {
		t.Fatal(err)
	}
	if err := w.Connect(f.ctx(), "bad", nil); err != nil { // a success has cleared it
		t.Error(err)
	}
}

// Two consents, whose callbacks come in the other order: the provider has ended the one that comes last.
func TestCallbacksInTheOtherOrderCostNoConsent(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	older := f.server.Grant("acme")
	newer := f.server.Grant("acme")
	for _, tok := range []*oauth2.Token{newer, older} {
		if err := w.Connect(f.ctx(), "acme", tok); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	got := f.token(w, "acme")
	if !f.server.AccessAlive(got.AccessToken) {
		t.Error("the token is dead")
	}
	f.living(w, "acme")
}

// What is stored is done: a caller that was told otherwise would ask its customer again.
func TestConnectByAUserThatMayNotPublishIsNoError(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	admin := f.redis.Client(t)
	if err := admin.ACLSetUser(f.ctx(), "mute", "on", ">secret", "~*", "+@all", "resetchannels").Err(); err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	w := f.mute(log)
	tok := f.server.Grant("acme")
	for range 2 {
		if err := w.Connect(f.ctx(), "acme", tok); err != nil {
			t.Error(err)
		}
	}
	f.living(f.worker(), "acme")
	f.eventually("the log to say what to allow", func() bool { return log.has(`"level":"error"`, "allow +publish and the channels") })
	if err := w.Disconnect(f.ctx(), "acme"); err != nil {
		t.Error(err)
	}
}

// mute is a worker by a Redis user that may use all keys, and no channel.
func (f *fleet) mute(log *lines) *worker {
	f.t.Helper()
	rdb := f.redis.ClientWith(f.t, func(o *redis.Options) { o.Username, o.Password = "mute", "secret" })
	cache, err := tokencache.New(rdb, tokencache.Config{Prefix: f.prefix, AEAD: tokencache.Plaintext, Log: zerolog.New(log)})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.workerOn(rdb, func(cfg *refresh.Config) { cfg.Cache = cache })
}

// lines is a log.
type lines struct {
	mu  sync.Mutex // guards all
	all []string
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(line))
	return len(line), nil
}

// forget drops what was written until now.
func (l *lines) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
}

// has reports whether a line has all these parts.
func (l *lines) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		n := 0
		for _, part := range parts {
			if strings.Contains(line, part) {
				n++
			}
		}
		if n == len(parts) {
			return true
		}
	}
	return false
}
