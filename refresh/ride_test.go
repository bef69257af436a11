package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// due stores a genuine pair that is due and lives for so long.
func (f *fleet) due(w *worker, tenant string, life time.Duration) *engine.Snapshot {
	f.t.Helper()
	tok := f.server.Grant(tenant)
	s, err := w.cache.Grant(key(tenant)).As("test").Connect(f.ctx(), func(now int64) grant.Pair {
		return grant.Pair{
			AccessToken: grant.Hide(tok.AccessToken), RefreshToken: grant.Hide(tok.RefreshToken),
			IssuedAt: now, RefreshAt: now, ExpiresAt: now + life.Milliseconds(),
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// Whoever asks for a token that is due does not wait for its renewal, also not before
// this process is subscribed, nor where memory has no room.
func TestDueTokenIsServedWhileItsRenewalIsUnderWay(t *testing.T) {
	t.Parallel()
	for _, room := range []int{0, 1} {
		t.Run(fmt.Sprint("room for ", room), func(t *testing.T) {
			f := newFleet(t, refreshtest.Config{})
			w := f.roomy(room)
			f.connect(w, "other", false)
			f.token(w, "other")
			slow := int64(1)
			for try := 0; slow > 0 && try < 3; try++ { // a machine that stands still for a second makes all callers slow
				tenant := fmt.Sprint("acme", try)
				f.due(w, tenant, time.Minute)
				gate := f.server.Hold(refreshtest.BeforeCommit, tenant)
				slow = f.slowCallers(w, tenant) // with the gate shut
				gate.Await(t)
				gate.Release()
			}
			if slow > 0 {
				t.Errorf("%d callers waited for a renewal", slow)
			}
		})
	}
}

// slowCallers lets 200 callers ask for a token, and returns how many have waited as long as for a silent Redis, which
// is a second.
func (f *fleet) slowCallers(w *worker, tenant string) int64 {
	var callers sync.WaitGroup
	var slow atomic.Int64
	for range 200 {
		callers.Go(func() {
			start := time.Now()
			f.token(w, tenant)
			if time.Since(start) > 900*time.Millisecond {
				slow.Add(1)
			}
		})
		time.Sleep(50 * time.Microsecond)
	}
	callers.Wait()
	return slow.Load()
}

// A renewal that waits for a dead holder's claim is no place to wait for whoever wants a newer token at
// once: an access token that was refused is replaced when the claim has ended, or it is said that this
// takes until then.
func TestReportThatJoinsARenewalDoesNotWaitForTheTokensEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, dead := f.worker(), f.worker()
	s := f.due(dead, "acme", time.Minute)
	o, _, err := dead.cache.Grant(s.Key).As("dead").Claim(f.ctx(), s, engine.NewID(), time.Second, grant.AfterDeadline)
	if err != nil || o != grant.OutcomeOK {
		t.Fatal(o, err)
	}
	tok := f.token(w, "acme") // starts a renewal
	if err := w.Reject(f.ctx(), "acme", tok.AccessToken); err != nil {
		kind(t, err, refresh.ErrUnavailable, "unresolved_claim")
	}
	f.token(w, "acme") // and is served all the same
}

// latePTTL delays the answer to PTTL, as a lost packet does.
type latePTTL struct{}

func (latePTTL) DialHook(next redis.DialHook) redis.DialHook { return next }
func (latePTTL) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (latePTTL) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "pttl" {
			time.Sleep(50 * time.Millisecond)
		}
		return err
	}
}

func TestLateWordOfALeaseDoesNotOutliveIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.lease = 20 * time.Second
	first, rdb := f.worker(), f.redis.Client(t)
	rdb.AddHook(latePTTL{})
	second := f.worker(func(cfg *refresh.Config) { cfg.Locker = lock.New(lock.Config{TTL: f.lease}, rdb) })
	f.connect(first, "acme", false)
	for second.cache.Grant(key("acme")).Peek() == nil {
		f.token(second, "acme")
	}
	if err := first.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	f.knows(second, "acme", 2)
	watch := redistest.StartStopwatch(t)
	if err := second.Refresh(f.ctx(), "acme"); err != nil { // finds the spent lease
		t.Fatal(err)
	}
	if took, over := watch.Over(f.lease / 2); over {
		t.Errorf("waited %s for a lease that was given back", took)
	}
}

func TestTryTokenAsksTheFleetBeforeItSaysNotConnected(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	warm := f.worker()
	f.connect(warm, "acme", false)
	f.hot(warm, "acme")
	f.afterALoss("not connected is said, though another worker remembers the tenant", func(cold *worker) bool {
		_, err := cold.TryToken(f.ctx(), "acme")
		return !errors.Is(err, refresh.ErrNotConnected)
	})
	cold := f.worker()
	f.state(cold, "the loss", func(s *engine.AppState) bool { return s.LostAt != 0 })
	_, err := cold.TryToken(f.ctx(), "nobody")
	kind(t, err, refresh.ErrUnavailable, "redis_lost_data")
}

func TestUnknownTenantsDoNotPushHotOnesOut(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.roomy(20)
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprint("tenant-", i)
		f.connect(w, names[i], false)
		for w.cache.Grant(key(names[i])).Peek() == nil {
			f.token(w, names[i])
		}
	}
	var strangers sync.WaitGroup
	for i := range 200 {
		strangers.Go(func() { _, _ = w.Token(f.ctx(), fmt.Sprint("nobody-", i)) })
	}
	strangers.Wait()
	for _, name := range names {
		if w.cache.Grant(key(name)).Recall() == nil {
			t.Errorf("%s was pushed out", name)
		}
	}
}

// unmoved is a provider that answers the same access token until its end.
type unmoved struct{}

func (unmoved) Exchange(_ context.Context, g provider.Grant) (provider.Pair, error) {
	return provider.Pair{AccessToken: g.AccessToken, ExpiresIn: time.Hour}, nil
}

func TestRejectSaysThatTheProviderAnswersTheRefusedTokenAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker(func(cfg *refresh.Config) { cfg.Provider.Exchanger = unmoved{} })
	tok := f.connect(w, "acme", false)
	for range 3 {
		kind(t, w.Reject(f.ctx(), "acme", tok.AccessToken), refresh.ErrUnavailable, "suspect")
	}
	if st, err := w.Status(f.ctx(), "acme"); err != nil || st.Generation != 3 {
		t.Errorf("generation %d, want 3: two exchanges; %v", st.Generation, err)
	}
}

func TestRefusalWhoseBodyDoesNotEndIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	var calls atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 1 {
			return
		}
		rw.WriteHeader(http.StatusUnauthorized)
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	}))
	defer api.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	client := http.Client{Transport: w.Transport("acme", base), Timeout: 30 * time.Second}
	resp, err := client.Get(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("HTTP %d", resp.StatusCode)
	}
}
