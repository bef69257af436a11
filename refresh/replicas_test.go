package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// replicated is a fleet that presents nothing before one replica has acknowledged the claim.
func replicated(t testing.TB) (*fleet, *redistest.Failover) {
	t.Helper()
	f := newFleet(t, refreshtest.Config{})
	f.config.Replicas = 1
	return f, redistest.StartFailover(t)
}

// unacknowledged asserts an error that says who must act.
func unacknowledged(t testing.TB, err error) {
	t.Helper()
	if e := kind(t, err, refresh.ErrUnavailable, "not_replicated"); e.RetryAfter <= 0 || !strings.Contains(e.Error(), "see to them") {
		t.Errorf("after %v: %v", e.RetryAfter, e)
	}
}

// consents is connect, again while a busy machine's replica takes longer than is waited for it.
func (f *fleet) consents(w *worker, tenant string, expired bool) {
	f.t.Helper()
	tok := f.server.Grant(tenant)
	if expired {
		f.server.ExpireAccessTokens(tenant)
		tok.Expiry = time.Now().Add(-time.Second)
	}
	f.eventually("the consent to be replicated", func() bool {
		err := w.Connect(f.ctx(), tenant, tok)
		if err != nil {
			unacknowledged(f.t, err)
		}
		return err == nil
	})
}

func TestNothingIsPresentedBeforeTheReplicasHaveItsClaim(t *testing.T) {
	t.Parallel()
	f, fo := replicated(t)
	w, other := f.workerOn(fo.Client(t)), f.workerOn(fo.Client(t))
	f.consents(w, "acme", true)
	fo.Replica.Pause(t)
	_, err := w.Token(f.ctx(), "acme")
	unacknowledged(t, err)
	if e := new(refresh.Error); !errors.As(err, &e) || !strings.Contains(e.Error(), "0 of 1") {
		t.Errorf("%v does not say how many have, and how many were wanted", err)
	}
	_, err = other.Token(f.ctx(), "acme") // what the first has published, or its own attempt
	unacknowledged(t, err)
	f.field(fo.Master.Client(t), "claim_id", func(id string) bool { return id == "" })
	if n := f.server.Ledger().Exchanges(); n != 0 {
		t.Fatalf("%d exchanges", n)
	}
	if st, err := w.Status(f.ctx(), "acme"); err != nil || st.Fails != 0 || st.RetryAt.IsZero() || st.Error != "unsent/not_replicated/0" {
		t.Errorf("%d failures in a row of the provider, which was not asked; the next try at %v; %s, %v", st.Fails, st.RetryAt, st.Error, err)
	}
	fo.Replica.Resume(t)
	awaitToken(t, f, other, "acme")
	f.exchanged(w, 1)
}

// A claim that only the dead master had protects nothing. The control shows what it costs not to wait.
func TestAFailoverLosesNoClaimThatCounts(t *testing.T) {
	t.Parallel()
	for n, what := range []string{"nobody waits", "one replica"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f, fo := replicated(t)
			f.config.Replicas = n
			w := f.workerOn(fo.Client(t))
			f.consents(w, "acme", true)
			fo.Part(t)
			_, err := w.Token(f.ctx(), "acme")
			if n > 0 {
				unacknowledged(t, err)
			} else if err != nil {
				t.Fatal(err)
			}
			if err := w.Close(f.ctx()); err != nil {
				t.Fatal(err)
			}
			fo.Fail(t)
			cold := f.workerOn(fo.Client(t))
			if n == 0 {
				_, err := cold.Token(f.ctx(), "acme")
				if len(f.server.Ledger().Violations(f.profile)) == 0 {
					t.Errorf("the control shows nothing: %v", err)
				}
				return
			}
			_, err = cold.Token(f.ctx(), "acme")
			kind(t, err, refresh.ErrUnavailable, "")
			if got := f.server.Ledger().Exchanges(); got != 0 {
				t.Fatalf("%d exchanges while the new master is alone", got)
			}
			fo.Rejoin(t)
			awaitToken(t, f, cold, "acme")
			f.exchanged(cold, 1)
		})
	}
}

// committed is a worker whose exchange is answered just now, with a claim that is replicated.
func committed(t *testing.T) (f *fleet, fo *redistest.Failover, w *worker, answer func() string) {
	t.Helper()
	f, fo = replicated(t)
	w = f.workerOn(fo.Client(t))
	f.consents(w, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	type result struct {
		tok *oauth2.Token
		err error
	}
	got := make(chan result, 1)
	go func() {
		tok, err := w.Token(f.ctx(), "acme")
		for errors.Is(err, refresh.ErrUnavailable) { // a busy machine's replica
			time.Sleep(100 * time.Millisecond)
			tok, err = w.Token(f.ctx(), "acme")
		}
		got <- result{tok, err}
	}()
	gate.Await(t)
	return f, fo, w, func() string {
		t.Helper()
		gate.Release()
		r := <-got
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.tok.AccessToken
	}
}

func TestAPairIsServedAndTriedUntilAReplicaHasIt(t *testing.T) {
	t.Parallel()
	f, fo, w, answer := committed(t)
	fo.Replica.Pause(t)
	token := answer()
	if tok := f.token(w, "acme"); tok.AccessToken != token {
		t.Error("another token is served meanwhile")
	}
	soon, cancel := context.WithTimeout(f.ctx(), 300*time.Millisecond)
	defer cancel()
	if err := w.Close(soon); err == nil {
		t.Error("a worker ends in peace whose pair is on the master alone")
	}
	fo.Replica.Resume(t)
	if err := w.Close(f.ctx()); err != nil {
		t.Error(err)
	}
	fo.Part(t) // what the replica has not got now it will never get
	fo.Fail(t)
	cold := f.workerOn(fo.Client(t))
	if tok := f.token(cold, "acme"); tok.AccessToken != token {
		t.Error("the new master has another pair")
	}
	f.exchanged(cold, 1)
}

func TestAPairThatOnlyTheDeadMasterHadIsCommittedAgain(t *testing.T) {
	t.Parallel()
	f, fo, w, answer := committed(t)
	fo.Part(t)
	token := answer()
	f.field(fo.Master.Client(t), "gen", func(gen string) bool { return gen == "2" })
	fo.Fail(t)
	f.field(fo.Replica.Client(t), "gen", func(gen string) bool { return gen == "2" })
	fo.Rejoin(t)
	cold := f.workerOn(fo.Client(t))
	awaitToken(t, f, cold, "acme")
	if tok := f.token(cold, "acme"); tok.AccessToken != token {
		t.Error("the new master has another pair")
	}
	if err := w.Close(f.ctx()); err != nil {
		t.Error(err)
	}
	f.exchanged(cold, 1)
}

// A consent, or its end, that a failover loses would be lost for good: nobody says it again.
func TestAConsentCountsOnceAReplicaHasIt(t *testing.T) {
	t.Parallel()
	f, fo := replicated(t)
	f.config.ExchangeTimeout = 2 * time.Second // a quarter of it is waited
	w, other := f.workerOn(fo.Client(t)), f.workerOn(fo.Client(t))
	minter := f.workerOn(fo.Client(t), f.minter(1), func(cfg *refresh.Config) { cfg.App = "s2s" })
	tok, moved := f.server.Grant("acme"), f.server.Grant("moved")
	f.consents(w, "gone", false)
	calls := map[string]func(w *worker) error{
		"Connect": func(w *worker) error { return w.Connect(f.ctx(), "acme", tok) },
		"Import": func(w *worker) error {
			_, err := w.Import(f.ctx(), "moved", moved)
			return err
		},
		"Disconnect":             func(w *worker) error { return w.Disconnect(f.ctx(), "gone") },
		"Connect without a pair": func(*worker) error { return minter.Connect(f.ctx(), "acme", nil) },
	}
	fo.Replica.Pause(t)
	for name, call := range calls {
		for i, w := range []*worker{w, other, w} {
			err := call(w)
			if err == nil {
				t.Errorf("%s, attempt %d: nil while no replica has it", name, i+1)
				continue
			}
			unacknowledged(t, err)
		}
	}
	fo.Replica.Resume(t)
	for name, call := range calls {
		f.eventually(name+" to succeed", func() bool { return call(other) == nil })
	}
	fo.Part(t)
	fo.Fail(t)
	cold := f.workerOn(fo.Client(t))
	for _, tenant := range []string{"acme", "moved"} {
		f.token(cold, tenant)
	}
	_, err := cold.Token(f.ctx(), "gone")
	kind(t, err, refresh.ErrNotConnected, "disconnected")
}

// deadlines is an Exchanger that notes how long it may take at most.
type deadlines struct {
	next provider.Exchanger
	left atomic.Int64
	at   atomic.Int64
	when func() int64 // Redis' clock
}

func (d *deadlines) Exchange(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	now := d.when()
	end, ok := ctx.Deadline()
	if ok {
		d.at.Store(now)
		d.left.Store(time.Until(end).Milliseconds())
	}
	return d.next.Exchange(ctx, g)
}

// What a claim waits for its replicas is taken from its exchange.
func TestAnExchangeEndsBeforeItsClaimHoweverLongTheReplicasTook(t *testing.T) {
	t.Parallel()
	f, fo := replicated(t)
	master := fo.Master.Client(t)
	d := &deadlines{when: func() int64 { return master.Time(context.Background()).Val().UnixMilli() }}
	w := f.workerOn(fo.Client(t), func(cfg *refresh.Config) {
		cfg.ExchangeTimeout, cfg.ClaimTimeout = 4*time.Second, 4100*time.Millisecond
		d.next, cfg.Provider.Exchanger = cfg.Provider.Exchanger, d
	})
	f.consents(w, "acme", true)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	const wait = 300 * time.Millisecond
	for ctx, done := f.ctx(), false; !done; { // a busy machine may take longer than the replicas may
		fo.Replica.Pause(t)
		got := make(chan error, 1)
		go func() {
			_, err := w.Token(ctx, "acme")
			got <- err
		}()
		f.field(master, "claim_id", func(id string) bool { return id != "" })
		time.Sleep(wait)
		fo.Replica.Resume(t)
		select {
		case err := <-got:
			unacknowledged(t, err)
			time.Sleep(time.Second)
		case <-f.caught(gate):
			done = true
			until, err := master.HGet(f.ctx(), f.prefix+":{zoom:acme}:grant", "claim_until").Int64()
			if err != nil {
				t.Fatal(err)
			}
			at, _ := master.HGet(f.ctx(), f.prefix+":{zoom:acme}:grant", "claim_at").Int64()
			if d.at.Load()-at < wait.Milliseconds() {
				t.Errorf("the exchange began %d ms after the claim", d.at.Load()-at)
			}
			if end := d.at.Load() + d.left.Load(); end >= until {
				t.Errorf("the exchange may go on until %d ms after its claim", end-until)
			}
			gate.Release()
			if err := <-got; err != nil {
				t.Error(err)
			}
		}
	}
	f.exchanged(w, 1)
}

// caught is closed when the gate has stopped an exchange.
func (f *fleet) caught(gate *refreshtest.Gate) <-chan struct{} {
	caught, ctx := make(chan struct{}), f.ctx()
	go func() {
		if _, err := gate.AwaitContext(ctx); err == nil {
			close(caught)
		}
	}()
	return caught
}

// tenantOn is a tenant whose grant is at a node of the cluster.
func (f *fleet) tenantOn(cluster *redistest.Cluster, node int) string {
	f.t.Helper()
	for i := range 1000 {
		if name := fmt.Sprint("tenant-", i); cluster.Owner(f.t, f.prefix+":{zoom:"+name+"}:grant") == node {
			return name
		}
	}
	f.t.Fatal("no tenant's grant is there")
	return ""
}

// clusterClient learns of a node that has taken another's place within a second.
func clusterClient(t *testing.T, cluster *redistest.Cluster) *redis.ClusterClient {
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ClusterStateReloadInterval: time.Second})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// On a Cluster each node has replicas of its own.
func TestTheReplicasOfAGrantsOwnNodeCount(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.config.Replicas = 1
	cluster := redistest.StartCluster(t)
	cluster.AddReplicas(t)
	w := f.workerOn(clusterClient(t, cluster))
	here, there := f.tenantOn(cluster, 0), f.tenantOn(cluster, 1)
	f.consents(w, here, true)
	f.consents(w, there, true)
	redistest.Part(t, cluster.Nodes[0], cluster.Replicas[0])
	_, err := w.Token(f.ctx(), here)
	unacknowledged(t, err)
	awaitToken(t, f, w, there)
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Fatalf("%d exchanges, want that of %s", n, there)
	}
	if err := w.Close(f.ctx()); err != nil {
		t.Fatal(err)
	}
	cluster.TakeOver(t, 0)
	cold := f.workerOn(clusterClient(t, cluster))
	_, err = cold.Token(f.ctx(), here)
	kind(t, err, refresh.ErrUnavailable, "")
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Fatalf("%d exchanges", n)
	}
	cluster.Nodes[0].Restart(t) // becomes the replica of what has taken its place
	awaitToken(t, f, cold, here)
	f.lawful(cold, here)
	f.lawful(cold, there)
	if n := f.server.Ledger().Exchanges(); n != 2 {
		t.Errorf("%d exchanges", n)
	}
}

func TestASlotThatMovesWhileReplicasAreWaitedForCostsNoPair(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.config.Replicas = 1
	cluster := redistest.StartCluster(t)
	cluster.AddReplicas(t)
	w := f.workerOn(cluster.Client(t))
	f.consents(w, "acme", false)
	moved, refreshed := make(chan struct{}), make(chan error, 1)
	go func() {
		for ctx := f.ctx(); ; {
			if err := w.Refresh(ctx, "acme"); err != nil && !errors.Is(err, refresh.ErrUnavailable) {
				refreshed <- err
				return
			}
			select {
			case <-moved:
				refreshed <- nil
				return
			default:
			}
		}
	}()
	for range 3 {
		cluster.Move(t, f.prefix+":{zoom:acme}:grant")
	}
	close(moved)
	if err := <-refreshed; err != nil {
		t.Error(err)
	}
	f.eventually("a refresh after that", func() bool { return w.Refresh(f.ctx(), "acme") == nil })
	f.lawful(w, "acme")
}

func TestFewerThanNoReplicasAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	p, err := provider.OAuth2(f.server.OAuth2Config(), f.profile)
	if err != nil {
		t.Fatal(err)
	}
	_, err = refresh.New(refresh.Config{App: "zoom", Cache: w.cache, Provider: p, Replicas: -1})
	if err == nil || !strings.Contains(err.Error(), "Replicas (-1) is negative") {
		t.Errorf("%v", err)
	}
}
