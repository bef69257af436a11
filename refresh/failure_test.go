package refresh_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

func refuse(code string, status int) refreshtest.Step {
	return refreshtest.Step{
		Status: status, Body: `{"error":"` + code + `"}`,
		Header: http.Header{"Content-Type": {"application/json"}},
	}
}

func TestRevokedGrantIsTwoExchangesAndOneTypedErrorForEverybody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	workers := []*worker{f.worker(), f.worker(), f.worker()}
	f.connect(workers[0], "acme", true)
	f.server.Revoke("acme")
	var callers sync.WaitGroup
	for _, w := range workers {
		for range 50 {
			callers.Go(func() {
				_, err := w.Token(f.ctx(), "acme")
				kind(t, err, refresh.ErrReauthorize, "invalid_grant")
			})
		}
	}
	callers.Wait()
	for _, w := range workers {
		_, err := w.Token(f.ctx(), "acme")
		kind(t, err, refresh.ErrReauthorize, "invalid_grant")
	}
	if n := f.server.Ledger().Exchanges(); n != 2 { // one more before it is believed
		t.Errorf("%d exchanges, want 2", n)
	}
	// Consent heals it for all.
	tok := f.connect(workers[0], "acme", false)
	for _, w := range workers {
		f.knows(w, "acme", 2)
		if got := f.token(w, "acme"); got.AccessToken != tok.AccessToken {
			t.Error("not the token of the new consent")
		}
	}
}

func TestTransientFailureIsHonouredByTheWholeFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	a, b := f.worker(), f.worker()
	f.connect(a, "acme", true)
	step := refuse("slow_down", 429)
	step.Header.Set("Retry-After", "5") // all four ask in that
	f.server.Script(step)
	for _, w := range []*worker{a, b, a, b} {
		_, err := w.Token(f.ctx(), "acme")
		e := kind(t, err, refresh.ErrUnavailable, "slow_down")
		if e.RetryAfter <= 0 || e.RetryAfter > 6350*time.Millisecond {
			t.Errorf("RetryAfter %s, want 5s and up to a quarter more", e.RetryAfter)
		}
	}
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d exchanges before retry_at, want 1", n)
	}
	awaitToken(t, f, b, "acme")
	f.lawful(a, "acme")
}

// awaitToken calls again as the errors ask for.
func awaitToken(t *testing.T, f *fleet, w *worker, tenant string) {
	t.Helper()
	ctx := f.ctx()
	for {
		_, err := w.Token(ctx, tenant)
		var e *refresh.Error
		switch {
		case err == nil:
			return
		case !errors.As(err, &e) || !errors.Is(err, refresh.ErrUnavailable):
			t.Fatalf("Token(%s): %v", tenant, err)
		}
		select {
		case <-time.After(e.RetryAfter + time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("Token(%s) never recovered: %v", tenant, err)
		}
	}
}

func TestWrongClientSecretIsTheOperatorsAndMarksNoTenant(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", true)
	f.server.Script(refuse("invalid_client", 401))
	_, err := w.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrClientConfig, "invalid_client")
	if st, _ := w.Status(f.ctx(), "acme"); st.State != tokencache.Active || st.ClaimBy != "" {
		t.Errorf("state %s, claim by %q", st.State, st.ClaimBy)
	}
	// Another process learns it from the record, of the same kind.
	f.mark(w, "acme", "retry_at", f.redisNow(w)+time.Minute.Milliseconds()) // this machine may be slow
	_, err = f.worker().Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrClientConfig, "invalid_client")
}

// short makes deadlines pass within a test.
func short(cfg *refresh.Config) {
	cfg.ExchangeTimeout, cfg.ClaimTimeout, cfg.CommitPatience = time.Second, 1500*time.Millisecond, time.Second
}

func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		cfg    refreshtest.Config
		at     refreshtest.Point
		lost   bool
		repeat int
	}{
		{"BeforeTheProvidersCommitIsRecovered", refreshtest.Config{}, refreshtest.BeforeCommit, false, 0},
		{"AfterItIsLostWhereReplayRevokes", refreshtest.Config{}, refreshtest.AfterCommit, true, 1},
		{"AfterItIsLostWhereReplayIsDead", refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayDead}}, refreshtest.AfterCommit, true, 1},
		{"AfterItIsReplayedInTheGraceWindow", refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayGrace, Grace: time.Hour}}, refreshtest.AfterCommit, false, 0},
		{"AfterItBringsTheSamePair", refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplaySamePair}}, refreshtest.AfterCommit, false, 0},
		{"AfterItIsHarmless", refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayHarmless}}, refreshtest.AfterCommit, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, c.cfg)
			w := f.worker(short)
			f.connect(w, "acme", true)
			f.server.Script(refreshtest.Step{At: c.at, Fault: refreshtest.Drop})
			_, err := w.Token(f.ctx(), "acme")
			e := kind(t, err, refresh.ErrUnavailable, "")
			time.Sleep(e.RetryAfter) // what the error asks for
			tok, err := w.Token(f.ctx(), "acme")
			switch {
			case c.lost:
				kind(t, err, refresh.ErrReauthorize, "lost_response")
			case err != nil:
				t.Fatal(err)
			default:
				if !f.server.AccessAlive(tok.AccessToken) {
					t.Error("a dead token")
				}
				f.living(w, "acme")
			}
			if n := len(f.server.Ledger().Violations(c.cfg.Profile)); n != c.repeat {
				t.Errorf("%d presentations of a spent token, want %d", n, c.repeat)
			}
		})
	}
}

// paused is an exchanger that can be stopped after the answer came, as if its process was.
type paused struct {
	provider.Exchanger
	answered chan struct{}
	goOn     chan struct{}
}

func (p paused) Exchange(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	pair, err := p.Exchanger.Exchange(ctx, g)
	close(p.answered)
	<-p.goOn
	return pair, err
}

// pausedWorker is a worker that stops once, after its first answer.
func (f *fleet) pausedWorker() (*worker, paused) {
	p := paused{answered: make(chan struct{}), goOn: make(chan struct{})}
	w := f.worker(short, func(cfg *refresh.Config) {
		p.Exchanger = cfg.Provider.Exchanger
		cfg.Provider.Exchanger = p
	})
	return w, p
}

func TestLateSuccessorIsAcceptedEvenAfterReauthorize(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayDead}})
	p := paused{answered: make(chan struct{}), goOn: make(chan struct{})}
	slow, proxy := f.cuttable(short, func(cfg *refresh.Config) {
		p.Exchanger = cfg.Provider.Exchanger
		cfg.Provider.Exchanger = p
	})
	fast := f.worker(short)
	f.connect(fast, "acme", true)
	var first sync.WaitGroup
	first.Go(func() {
		_, err := slow.Token(f.ctx(), "acme")
		kind(t, err, refresh.ErrUnavailable, "slow_exchange")
	})
	<-p.answered
	// Only the exchanger stands still: cut its process off from Redis, as if that was paused.
	proxy.Refuse()
	proxy.Cut()
	f.redis.Client(t).Del(f.ctx(), slow.cache.Grant(tokencache.Key{App: "zoom", Tenant: "acme"}).LockKey())
	_, err := fast.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrReauthorize, "lost_response")
	first.Wait()
	proxy.Accept()
	close(p.goOn)
	f.knows(fast, "acme", 2)
	if tok := f.token(fast, "acme"); !f.server.AccessAlive(tok.AccessToken) {
		t.Error("not the late successor's token")
	}
	f.living(fast, "acme")
}

func TestRefusedSiblingIsKeptAndSavesTheGrant(t *testing.T) {
	t.Parallel()
	profile := provider.Profile{Replay: provider.ReplayGrace, Grace: time.Hour, KillsAccessToken: provider.No}
	f := newFleet(t, refreshtest.Config{Profile: profile})
	slow, p := f.pausedWorker()
	fast := f.worker(short)
	f.connect(fast, "acme", true)
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := f.tokenAfterAll(slow, "acme"); err != nil {
			t.Errorf("the late holder's caller: %v", err)
		}
	})
	<-p.answered
	f.redis.Client(t).Del(f.ctx(), slow.cache.Grant(tokencache.Key{App: "zoom", Tenant: "acme"}).LockKey())
	winner := f.token(fast, "acme")
	close(p.goOn)
	first.Wait()
	if got := f.token(slow, "acme"); got.AccessToken != winner.AccessToken {
		t.Error("the late holder did not adopt the winner's pair")
	}
	// The winner's chain dies; the sibling that lost is genuine and still unspent.
	f.server.Script(refuse("invalid_grant", 400), refuse("invalid_grant", 400))
	if err := fast.Refresh(f.ctx(), "acme"); err != nil {
		t.Fatalf("the spare did not save the grant: %v", err)
	}
	f.knows(slow, "acme", 4) // the spare as 3, what it brought as 4
	tok := f.token(slow, "acme")
	if tok.AccessToken == winner.AccessToken || !f.server.AccessAlive(tok.AccessToken) {
		t.Error("not the spare's token")
	}
	if v := f.server.Ledger().Violations(profile); len(v) > 0 {
		t.Errorf("violations:\n%s", v)
	}
}
