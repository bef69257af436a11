package refresh_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// by is an Exchanger of one's own, made of another one.
func by(exchange func(context.Context, provider.Grant, provider.Exchanger) (provider.Pair, error)) func(*refresh.Config) {
	return func(cfg *refresh.Config) {
		cfg.Provider.Exchanger = ownExchanger{cfg.Provider.Exchanger, exchange}
	}
}

type ownExchanger struct {
	inner    provider.Exchanger
	exchange func(context.Context, provider.Grant, provider.Exchanger) (provider.Pair, error)
}

func (e ownExchanger) Exchange(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	return e.exchange(ctx, g, e.inner)
}

// The provider answers long after the exchange's timeout, and after the claim's first deadline.
func TestAnAnswerAfterTheTimeoutIsTakenWherePresentingAgainDoesHarm(t *testing.T) {
	t.Parallel()
	for _, replay := range []provider.Replay{provider.ReplayRevokesFamily, provider.ReplayDead} {
		t.Run(replay.String(), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: replay}})
			a, b := f.worker(short), f.worker(short)
			f.connect(a, "acme", true)
			gate := f.server.Hold(refreshtest.AfterCommit)
			got := make(chan error, 1)
			start := time.Now()
			go func() { _, err := a.Token(f.ctx(), "acme"); got <- err }()
			gate.Await(t)
			first, err := b.Status(f.ctx(), "acme")
			if err != nil {
				t.Fatal(err)
			}
			e := kind(t, <-got, refresh.ErrUnavailable, "slow_exchange")
			if took := time.Since(start); took < time.Second || e.RetryAfter <= 0 {
				t.Errorf("after %v: %v", took, e)
			}
			// Another process, and this one again: told so, and nobody presents.
			f.eventually("the claim to be put off", func() bool {
				now, err := b.Status(f.ctx(), "acme")
				return err == nil && now.ClaimUntil.After(first.ClaimUntil.Add(time.Second))
			})
			for _, w := range []*worker{b, a} {
				_, err := w.Token(f.ctx(), "acme")
				if e := kind(t, err, refresh.ErrUnavailable, "slow_exchange"); e.RetryAfter <= 0 || e.RetryAfter > 5*time.Second {
					t.Errorf("come back in %v", e.RetryAfter)
				}
			}
			time.Sleep(time.Until(first.ClaimUntil) + time.Second)
			gate.Release()
			f.knows(a, "acme", 2)
			f.knows(b, "acme", 2)
			f.token(a, "acme")
			f.token(b, "acme")
			if n := f.server.Ledger().Exchanges(); n != 1 {
				t.Errorf("%d presentations, want 1:\n%s", n, f.server.Ledger())
			}
			f.lawful(b, "acme")
		})
	}
}

// By the record the holder is past its deadline, as after a step of Redis' clock. It lives, and says so.
func TestAHolderThatLivesIsAskedBeforeItIsTakenOver(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	long := func(cfg *refresh.Config) { cfg.ExchangeTimeout, cfg.ClaimTimeout = 25*time.Second, 30*time.Second }
	a, b := f.worker(long), f.worker(long)
	f.connect(a, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	var callers sync.WaitGroup
	callers.Go(func() { f.token(a, "acme") })
	gate.Await(t)
	rdb := f.redis.Client(t)
	rdb.HSet(f.ctx(), f.prefix+":{zoom:acme}:grant", "claim_until", time.Now().Add(-time.Second).UnixMilli())
	rdb.Del(f.ctx(), a.cache.Grant(key("acme")).LockKey())
	callers.Go(func() { f.token(b, "acme") })
	f.eventually("the claim to be put off", func() bool {
		st, err := b.Status(f.ctx(), "acme")
		return err == nil && st.ClaimUntil.After(time.Now()) && st.ClaimAt.Before(time.Now())
	})
	time.Sleep(time.Second) // B has asked, and looks again
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d presentations", n)
	}
	gate.Release()
	callers.Wait()
	f.lawful(b, "acme")
}

// A holder that has put its deadline off once may live when that has passed, too.
func TestAHolderIsAskedBeforeEachTakeOver(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, holder := f.worker(), f.worker()
	for try := range 3 { // the holder has 300 ms to answer, of which a busy machine may take all
		if f.answers(w, holder, fmt.Sprint("acme", try)) {
			return
		}
	}
	t.Error("the holder has put its deadline off too late, each time")
}

// answers lets a process wait for the holder of a claim that answers three times that it lives, and then no more. It
// reports whether the answers came in time.
func (f *fleet) answers(w, holder *worker, tenant string) bool {
	f.t.Helper()
	f.connect(w, tenant, true)
	g := holder.cache.Grant(key(tenant))
	pin := g.Pin()
	defer pin.Unpin()
	if err := pin.Confirm(f.ctx()); err != nil {
		f.t.Fatal(err)
	}
	s, err := g.Read(f.ctx())
	if err != nil {
		f.t.Fatal(err)
	}
	_, s, err = g.As("holder").Claim(f.ctx(), s, "held", time.Second, grant.AfterDeadline)
	if err != nil {
		f.t.Fatal(err)
	}
	asked := make(chan time.Time, 8)
	done := pin.AtIt(func() { asked <- time.Now() })
	defer done()
	got := make(chan error, 1)
	go func() {
		_, err := w.Token(f.ctx(), tenant)
		got <- err
	}()
	for range 3 {
		var at time.Time
		select {
		case at = <-asked:
		case err := <-got:
			f.t.Fatalf("taken over unasked: %v, %d exchanges", err, len(f.server.Ledger()))
		}
		o, _, err := g.As("holder").Extend(f.ctx(), s, time.Second, "", 0)
		if o != grant.OutcomeOK && time.Since(at) > 150*time.Millisecond {
			<-got
			return false
		}
		if o != grant.OutcomeOK || err != nil {
			f.t.Fatal(o, err)
		}
	}
	done() // it has died
	if err := <-got; err != nil {
		f.t.Error(err)
	}
	f.lawful(w, tenant)
	return true
}

func TestASlowAnswerIsNotWaitedForWherePresentingAgainIsHarmless(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayHarmless}})
	a, b := f.worker(short), f.worker(short)
	f.connect(a, "acme", true)
	gate := f.server.Hold(refreshtest.BeforeCommit)
	got := make(chan error, 1)
	go func() { _, err := a.Token(f.ctx(), "acme"); got <- err }()
	gate.Await(t)
	err := <-got
	if e := kind(t, err, refresh.ErrUnavailable, ""); e.Code == "slow_exchange" {
		t.Errorf("it is listened to: %v", err)
	}
	awaitToken(t, f, b, "acme")
	gate.Release()
	f.server.AwaitIdle(t)
}

// The holder has the pair and is cut off from Redis, for longer than its claim's own time.
func TestAHolderThatIsCutOffHasItsPatienceBeforeOthersPresent(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	patient := func(cfg *refresh.Config) { short(cfg); cfg.CommitPatience = 20 * time.Second }
	a, proxy := f.cuttable(patient)
	b := f.worker(patient)
	f.connect(a, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	got := make(chan error, 1)
	go func() { _, err := f.tokenAfterAll(a, "acme"); got <- err }()
	gate.Await(t)
	proxy.Refuse()
	proxy.Cut()
	cut := time.Now()
	gate.Release()
	if err := <-got; err != nil {
		t.Errorf("it has the pair: %v", err)
	}
	f.redis.Client(t).Del(f.ctx(), a.cache.Grant(key("acme")).LockKey()) // its lease has run out
	other := make(chan error, 1)
	go func() { _, err := b.Token(f.ctx(), "acme"); other <- err }()
	time.Sleep(4 * time.Second) // far past ExchangeTimeout and ClaimTimeout
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Fatalf("presented %v after the holder was cut off:\n%s", time.Since(cut), f.server.Ledger())
	}
	proxy.Accept()
	if err := <-other; err != nil {
		t.Error(err)
	}
	f.lawful(b, "acme")
}

// The provider repeats its answer only until the pair is used, and the holder, cut off, uses it.
func TestASamePairThatIsUsedBeforeItIsStoredIsNoDeath(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplaySamePair}})
	patient := func(cfg *refresh.Config) { short(cfg); cfg.CommitPatience = 20 * time.Second }
	a, proxy := f.cuttable(patient)
	var seen lines
	b := f.worker(patient, logged(&seen))
	f.connect(a, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	got := make(chan string, 1)
	go func() {
		tok, err := f.tokenAfterAll(a, "acme")
		if err != nil {
			t.Error(err)
			tok = &oauth2.Token{}
		}
		got <- tok.AccessToken
	}()
	gate.Await(t)
	proxy.Refuse()
	proxy.Cut()
	gate.Release()
	req, err := http.NewRequestWithContext(f.ctx(), "GET", f.server.APIURL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+<-got)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the API says %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	f.redis.Client(t).Del(f.ctx(), a.cache.Grant(key("acme")).LockKey())
	other := make(chan error, 1)
	go func() { _, err := b.Token(f.ctx(), "acme"); other <- err }()
	f.eventually("the refusal", func() bool { return seen.has("exchange failed", "reauthorize") })
	time.Sleep(3 * time.Second) // past the first holder's ClaimTimeout
	if st, err := b.Status(f.ctx(), "acme"); err != nil || st.State != tokencache.Active {
		t.Errorf("declared %s (%v) while the holder has the pair", st.State, err)
	}
	proxy.Accept()
	if err := <-other; err != nil {
		t.Error(err)
	}
	f.living(b, "acme")
	http.DefaultClient.CloseIdleConnections()
}

// A process that starts while Redis answers slowly takes no claim over before the access token has ended.
func TestAProcessThatStartsOnASlowNetworkTakesNothingOverEarly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{AccessTokenLife: 10 * time.Second})
	w := f.worker()
	f.connect(w, "acme", false)
	g := w.cache.Grant(key("acme"))
	s, err := g.Read(f.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if o, _, err := g.As("dead").Claim(f.ctx(), s, "dead", time.Millisecond, grant.AfterDeadline); o != grant.OutcomeOK || err != nil {
		t.Fatal(o, err)
	}
	proxy := redistest.NewProxy(t, f.redis.Addr())
	far := f.workerOn(f.redis.ClientWith(t, func(o *redis.Options) { o.Addr, o.ReadTimeout = proxy.Addr(), time.Minute }))
	proxy.Freeze()
	thaw := time.AfterFunc(6*time.Second, proxy.Thaw)
	defer thaw.Stop()
	for end := time.Now().Add(patience); len(f.server.Ledger()) == 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := far.Token(f.ctx(), "acme"); err != nil {
			kind(t, err, refresh.ErrUnavailable, "")
		}
	}
	if l := f.server.Ledger(); len(l) != 1 || l[0].Arrived.UnixMilli() < s.ExpiresAt {
		t.Errorf("the access token ends at %v, and these came:\n%s", time.UnixMilli(s.ExpiresAt), l)
	}
}

func TestAnExchangerThatHangsHoldsTheGrantNoLongerThanItsClaim(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayHarmless}})
	f.lease = 6 * time.Second
	block, hangs := make(chan struct{}), make(chan struct{}, 9)
	a := f.worker(short, by(func(context.Context, provider.Grant, provider.Exchanger) (provider.Pair, error) {
		hangs <- struct{}{}
		<-block
		return provider.Pair{}, errors.New("late")
	}))
	b := f.worker(short)
	f.connect(a, "acme", true)
	got := make(chan error, 1)
	go func() { _, err := a.Token(f.ctx(), "acme"); got <- err }()
	<-hangs
	watch := redistest.StartStopwatch(t)
	awaitToken(t, f, b, "acme")
	if took, over := watch.Over(12 * time.Second); over { // the claim is 1.5 s, and the lease not extended
		t.Errorf("a healthy worker waited %v", took)
	}
	close(block)
	<-got
	f.lawful(b, "acme")
}

func TestThePairOfAnExchangerThatWasGivenUpIsStoredWhenItComes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	patient := func(cfg *refresh.Config) { short(cfg); cfg.CommitPatience = 20 * time.Second }
	block := make(chan struct{})
	a := f.worker(patient, by(func(_ context.Context, g provider.Grant, e provider.Exchanger) (provider.Pair, error) {
		p, err := e.Exchange(context.Background(), g) // it does not even tell that it sends
		<-block
		return p, err
	}))
	f.connect(a, "acme", true)
	_, err := a.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrUnavailable, "exchanger_hangs")
	if n := f.redis.Client(t).Exists(f.ctx(), a.cache.Grant(key("acme")).LockKey()).Val(); n != 0 {
		f.eventually("the lease to be given back", func() bool {
			return f.redis.Client(t).Exists(f.ctx(), a.cache.Grant(key("acme")).LockKey()).Val() == 0
		})
	}
	close(block)
	f.knows(a, "acme", 2)
	f.token(f.worker(short), "acme")
	f.lawful(a, "acme")
}

// Its claim is over, and others may present; it knows better, since the pair may still come.
func TestAProcessWhoseExchangeHangsDoesNotPresentThatTokenAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	block := make(chan struct{})
	a := f.worker(short, by(func(_ context.Context, g provider.Grant, e provider.Exchanger) (provider.Pair, error) {
		p, err := e.Exchange(context.Background(), g)
		<-block
		return p, err
	}))
	f.connect(a, "acme", true)
	_, err := a.Token(f.ctx(), "acme")
	e := kind(t, err, refresh.ErrUnavailable, "exchanger_hangs")
	time.Sleep(e.RetryAfter + time.Second)
	_, err = a.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrUnavailable, "slow_exchange")
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d presentations:\n%s", n, f.server.Ledger())
	}
	close(block)
	f.knows(a, "acme", 2)
	f.lawful(a, "acme")
}

func TestAnExchangerThatPanicsIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayHarmless}})
	var log lines
	var first sync.Once
	w := f.worker(short, logged(&log), by(func(ctx context.Context, g provider.Grant, e provider.Exchanger) (p provider.Pair, err error) {
		first.Do(func() { panic("with " + g.RefreshToken) })
		return e.Exchange(ctx, g)
	}))
	tok := f.connect(w, "acme", true)
	_, err := w.Token(f.ctx(), "acme")
	e := kind(t, err, refresh.ErrUnavailable, "panic")
	if !log.has(`"level":"error"`, "the Exchanger panicked", "slow_test.go") {
		t.Error("no line of the log says where")
	}
	if log.has(tok.RefreshToken) || strings.Contains(err.Error(), tok.RefreshToken) {
		t.Error("the token that it panicked with is told")
	}
	time.Sleep(e.RetryAfter)
	f.token(w, "acme")
	f.lawful(w, "acme")
}

func TestExtrasThatAreNoJSONCostNoPair(t *testing.T) {
	t.Parallel()
	cycle := map[string]any{}
	cycle["again"] = cycle
	f := newFleet(t, refreshtest.Config{})
	w := f.worker(short, by(func(ctx context.Context, g provider.Grant, e provider.Exchanger) (provider.Pair, error) {
		p, err := e.Exchange(ctx, g)
		p.Extra = map[string]any{
			"quota": math.Inf(1), "chan": make(chan int), "func": func() {}, "cycle": cycle, "panics": panics{},
			"instance_url": "https://acme.example", "big": strings.Repeat("x", 5<<20), "struct": struct{ Refresh_Token, A string }{"secret", "a"},
		}
		return p, err
	}))
	f.connect(w, "acme", true)
	tok := f.token(w, "acme")
	if tok.Extra("instance_url") != "https://acme.example" {
		t.Errorf("what can be stored is not there: %v", tok.Extra("instance_url"))
	}
	cold := f.token(f.worker(short), "acme")
	if cold.Extra("instance_url") != "https://acme.example" || cold.Extra("quota") != nil || fmt.Sprint(cold.Extra("struct")) != "map[A:a]" {
		t.Errorf("stored: %v %v", cold.Extra("quota"), cold.Extra("struct"))
	}
	f.lawful(w, "acme")
}

type panics struct{}

func (panics) MarshalJSON() ([]byte, error) { panic("no") }

// unsealing is an AEAD that opens, and does not seal any more once told so.
type unsealing struct {
	tokencache.AEAD
	mu  sync.Mutex // guards err
	err error
}

func (u *unsealing) Encrypt(text, ad []byte) ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil {
		return nil, u.err
	}
	return u.AEAD.Encrypt(text, ad)
}

func (u *unsealing) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
}

func TestAKeysetThatDoesNotSealPresentsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	aead := &unsealing{AEAD: tokencache.Plaintext}
	w := f.worker(short, func(cfg *refresh.Config) {
		cache, err := tokencache.New(cfg.Cache.Redis(), tokencache.Config{Prefix: f.prefix, AEAD: aead})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Cache = cache
	})
	f.connect(w, "acme", true)
	aead.fail(errors.New("the key service says no"))
	_, err := w.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrClientConfig, "sealed")
	if n := len(f.server.Ledger()); n != 0 {
		t.Errorf("%d presentations", n)
	}
	f.token(f.worker(short), "acme") // others go on
	aead.fail(nil)
	f.lawful(w, "acme")
}

// After the claim, and with the pair in hand: it waits until it can be sealed.
func TestAKeysetThatStopsSealingInBetweenCostsNoPair(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	aead := &unsealing{AEAD: tokencache.Plaintext}
	w := f.worker(short, impatient, func(cfg *refresh.Config) {
		cache, err := tokencache.New(cfg.Cache.Redis(), tokencache.Config{Prefix: f.prefix, AEAD: aead})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Cache = cache
	})
	f.connect(w, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	got := make(chan error, 1)
	go func() { _, err := f.tokenAfterAll(w, "acme"); got <- err }()
	gate.Await(t)
	aead.fail(errors.New("the key service says no"))
	gate.Release()
	if err := <-got; err != nil {
		t.Error(err)
	}
	other, done := make(chan error, 1), make(chan struct{})
	b := f.worker(short, impatient)
	go func() { defer close(done); _, err := b.Token(f.ctx(), "acme"); other <- err }()
	time.Sleep(5 * time.Second) // past the claim's first deadline: it is put off
	if n := f.server.Ledger().Exchanges(); n != 1 {
		t.Errorf("%d presentations while the holder has the pair", n)
	}
	aead.fail(nil)
	if err := <-other; err != nil {
		t.Error(err)
	}
	f.lawful(b, "acme")
}

// A success in which no pair can be found may hold the only living one.
func TestASuccessThatCannotBeReadIsKeptSealed(t *testing.T) {
	t.Parallel()
	for _, ail := range []bool{false, true} {
		t.Run(fmt.Sprint("out of memory: ", ail), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.redis = redistest.Own(t)
			rdb := f.redis.Client(t)
			var log lines
			w := f.worker(logged(&log))
			f.connect(w, "readable", true)
			f.token(w, "readable") // else the app stops
			f.connect(w, "acme", true)
			const body = `{"app":{"access_token":"canary-at","refresh_token":"canary-rt"},"user":{"access_token":"canary-2"}}`
			f.server.Script(refreshtest.Step{Tenant: "acme", At: refreshtest.AfterCommit, Status: 200, Body: body})
			gate := f.server.Hold(refreshtest.BeforeCommit, "acme")
			got := make(chan error, 1)
			go func() { _, err := w.Token(f.ctx(), "acme"); got <- err }()
			gate.Await(t)
			if ail {
				rdb.ConfigSet(f.ctx(), "maxmemory", "1")
			}
			gate.Release()
			err := <-got
			kind(t, err, refresh.ErrUnavailable, "")
			if ail {
				rdb.ConfigSet(f.ctx(), "maxmemory", "0")
			}
			kept, err2 := w.cache.Grant(key("acme")).Unread(f.ctx())
			if err2 != nil || len(kept) != 1 || kept[0].Body.Reveal() != body || kept[0].Generation != 1 || kept[0].Status != 200 {
				t.Fatalf("kept: %v, %v", kept, err2)
			}
			if ttl := rdb.TTL(f.ctx(), f.prefix+":{zoom:acme}:unread").Val(); ttl < 6*24*time.Hour || ttl > 7*24*time.Hour {
				t.Errorf("kept for %v", ttl)
			}
			var failed *provider.Error
			if !errors.As(err, &failed) || failed.TakeUnread() != nil {
				t.Error("the error that callers get holds the body")
			}
			for name, text := range map[string]string{"the error": printed(err), "what is kept": printed(kept)} {
				if strings.Contains(text, "canary") {
					t.Errorf("%s shows it: %s", name, text)
				}
			}
			if log.has("canary") || !log.has(`"level":"error"`, "kept sealed") {
				t.Error("the log shows it, or says nothing")
			}
			if err := w.Disconnect(f.ctx(), "acme"); err != nil {
				t.Fatal(err)
			}
			if kept, err := w.cache.Grant(key("acme")).Unread(f.ctx()); err != nil || len(kept) != 0 {
				t.Errorf("after Disconnect: %d, %v", len(kept), err)
			}
		})
	}
}

// printed is a value in every way in which it may be written.
func printed(v any) string {
	var g bytes.Buffer
	_ = gob.NewEncoder(&g).Encode(v)
	j, _ := json.Marshal(v)
	return fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v) + string(j) + g.String()
}

// While presenting again is harmless the lease tells whether the holder lives: nobody asks it again and again.
func TestAHolderWhoseWindowIsOpenIsAskedOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayGrace, Grace: 30 * time.Second}})
	f.lease = 30 * time.Second // it is not extended meanwhile
	a, b := f.worker(), f.worker()
	f.connect(a, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	before := f.server.Ledger()
	var callers sync.WaitGroup
	callers.Go(func() { f.token(a, "acme") })
	gate.Await(t)
	held := f.record(a, "acme").Claim
	// An extension within 50 ms of the claim changes nothing.
	f.eventually("the claim to be older", func() bool { return f.redisNow(a) > held.At+100 })
	rev := f.record(a, "acme").Rev
	callers.Go(func() { f.token(b, "acme") })
	at := f.redisNow(a)
	f.eventually("two seconds to pass, in which the holder does not speak by itself", func() bool { return f.redisNow(a) > at+2000 })
	if n := f.record(a, "acme").Rev - rev; n > 2 {
		t.Errorf("the holder was asked %d times", n)
	}
	gate.Release()
	callers.Wait()
	if n := len(f.server.Ledger()) - len(before); n != 1 {
		t.Errorf("%d exchanges", n)
	}
}

// Each answer is short enough, and brings members of other names: what is sealed opens everywhere all the same.
func TestExtrasThatGrowDoNotOutgrowWhatOpens(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	n := 0
	w := f.worker(by(func(ctx context.Context, g provider.Grant, inner provider.Exchanger) (provider.Pair, error) {
		p, err := inner.Exchange(ctx, g)
		n++
		p.Extra = map[string]any{fmt.Sprint("trace-", n): strings.Repeat("x", 3<<20)}
		return p, err
	}))
	f.connect(w, "acme", true)
	for range 4 {
		if err := w.Refresh(f.ctx(), "acme"); err != nil {
			t.Fatal(err)
		}
		other := f.worker()
		f.token(other, "acme")
	}
}
