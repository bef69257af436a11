package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// estate is a fleet whose tenants have hosts of their own: that of a tenant called "sick0-acme" is called sick0.
// That of all others is the fleet's server.
type estate struct {
	*fleet
	hosts map[string]*refreshtest.Server
	asked atomic.Int64 // how often the configuration of a tenant was asked for
}

func newEstate(t *testing.T, n int) *estate {
	e := &estate{fleet: newFleet(t, refreshtest.Config{}), hosts: map[string]*refreshtest.Server{}}
	for i := range n {
		e.hosts[fmt.Sprint("sick", i)] = refreshtest.Start(t, refreshtest.Config{})
	}
	return e
}

func (e *estate) at(tenant string) *refreshtest.Server {
	name, _, _ := strings.Cut(tenant, "-")
	if s := e.hosts[name]; s != nil {
		return s
	}
	return e.server
}

// name is how a host is called on the wire.
func (e *estate) name(host string) string {
	u, err := url.Parse(e.at(host).OAuth2Config().Endpoint.TokenURL)
	if err != nil {
		e.t.Fatal(err)
	}
	return u.Host
}

// say makes every host but the fleet's server say a step to everybody.
func (e *estate) say(step refreshtest.Step) {
	step.Times = -1
	for _, s := range e.hosts {
		s.Script(step)
	}
}

func (e *estate) worker(alter ...func(*refresh.Config)) *worker {
	e.t.Helper()
	return e.fleet.worker(append(alter, func(cfg *refresh.Config) {
		p, err := provider.PerTenant(func(g provider.Grant) (*oauth2.Config, error) {
			e.asked.Add(1)
			return e.at(g.Tenant).OAuth2Config(), nil
		}, e.profile)
		if err != nil {
			e.t.Fatal(err)
		}
		cfg.Provider = p
	})...)
}

// expired connects that many tenants of a host, whose access tokens have expired.
func (e *estate) expired(w *worker, host string, n int) (tenants []string) {
	e.t.Helper()
	for i := range n {
		tenant := fmt.Sprint(host, "-", i)
		tok := e.at(tenant).Grant(tenant)
		e.at(tenant).ExpireAccessTokens(tenant)
		tok.Expiry = time.Now().Add(-time.Second)
		if err := w.Connect(e.ctx(), tenant, tok); err != nil {
			e.t.Fatal(err)
		}
		tenants = append(tenants, tenant)
	}
	return tenants
}

func TestTheAnswerOfOneHostStopsNoTenantOfAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step    refreshtest.Step
		kind    error
		stopped func(context.Context, *worker) bool
	}{
		"refused": {
			refreshtest.Step{Status: 401, Body: `{"error":"invalid_client"}`}, refresh.ErrClientConfig,
			func(ctx context.Context, w *worker) bool {
				s, err := w.cache.App("zoom").AppState(ctx)
				return err == nil && s.Open
			},
		},
		"throttled": {
			refreshtest.Step{Status: 429, Header: http.Header{"Retry-After": {"30"}}}, refresh.ErrUnavailable,
			func(ctx context.Context, w *worker) bool {
				s, err := w.cache.App("zoom").AppState(ctx)
				return err == nil && s.ThrottledUntil > s.Now()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, 3)
			e.say(c.step)
			w := e.worker()
			e.accepted(w)
			for _, tenant := range e.expired(w, "sick0", 6) {
				if _, err := w.Token(e.ctx(), tenant); !errors.Is(err, c.kind) {
					t.Errorf("%s: %v", tenant, err)
				}
			}
			if c.stopped(e.ctx(), w) {
				t.Error("one host has stopped the app")
			}
			e.token(w, e.expired(w, "healthy", 1)[0])
			e.state(w, "that acceptance", func(s *engine.AppState) bool { return s.Refused == "" && s.Limited == "" })
			for _, host := range []string{"sick1", "sick2"} {
				if c.stopped(e.ctx(), w) {
					t.Error("one host has stopped the app, after another one")
				}
				if _, err := w.Token(e.ctx(), e.expired(w, host, 1)[0]); err == nil {
					t.Errorf("a tenant of %s has a token", host)
				}
			}
			if !c.stopped(e.ctx(), w) {
				t.Error("two hosts have not stopped the app")
			}
		})
	}
}

// host is what a worker knows of a host; nil for nothing.
func (e *estate) host(w *worker, name string) *engine.AppState {
	e.t.Helper()
	s, err := w.cache.App("zoom").AppState(e.ctx())
	if err != nil {
		e.t.Fatal(err)
	}
	return s.Host(e.name(name))
}

// One host of several refuses the client: after its second tenant, its others are spared, and nobody else is touched.
func TestAHostThatRefusesTheClientStopsItsTenantsAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step    refreshtest.Step
		tenants int // that are refused before the circuit opens
	}{
		"invalid_client": {refreshtest.Step{Status: 401, Body: `{"error":"invalid_client"}`}, 2},
		"a bare 401":     {refreshtest.Step{Status: 401}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, 1)
			e.say(c.step)
			w, other := e.worker(), e.worker()
			e.accepted(w)
			e.token(other, "accepted") // so that it hears of the app
			ill, well := e.expired(w, "sick0", 60), e.expired(w, "healthy", 20)
			for i, tenant := range ill[:c.tenants] {
				if h := e.host(w, "sick0"); h != nil && h.Open {
					t.Fatalf("open after %d tenants", i)
				}
				_, err := w.Token(e.ctx(), tenant)
				kind(t, err, refresh.ErrClientConfig, "")
				if i == 0 { // an acceptance by another host in between says nothing of this one
					e.token(w, well[0])
				}
			}
			e.state(other, "the host's circuit", func(s *engine.AppState) bool { return s.OpenAt(e.name("sick0")) })
			for tenant, err := range e.all(other, ill) {
				if got := kind(t, err, refresh.ErrClientConfig, ""); got.RetryAfter <= 0 || got.RetryAfter > 2*time.Minute {
					t.Errorf("%s: %v does not say when to try again", tenant, err)
				}
			}
			if n := len(e.at("sick0").Ledger()); n > c.tenants+12 {
				t.Errorf("%d exchanges of 60 grants of a host that refuses the client", n)
			}
			presented := map[string]bool{} // the others' last failure is the circuit's, and not their own
			for _, p := range e.at("sick0").Ledger() {
				presented[p.Tenant] = true
			}
			_, err := w.Token(e.ctx(), ill[slices.IndexFunc(ill, func(tenant string) bool { return !presented[tenant] })])
			if !strings.Contains(err.Error(), e.name("sick0")) {
				t.Errorf("%v does not name the host", err)
			}
			for tenant, err := range e.all(other, well) {
				if err != nil {
					t.Errorf("%s of another host: %v", tenant, err)
				}
			}
			if s := e.state(w, "any state", func(*engine.AppState) bool { return true }); s.Open || !s.OpenAt(e.name("sick0")) {
				t.Errorf("%+v", s)
			}
			e.healthy(other, refresh.HealthDegraded, true, "host_circuit_open")
			if text := other.Health(e.ctx()).Reasons[0].Text; !strings.Contains(text, e.name("sick0")) {
				t.Errorf("health: %s", text)
			}
			for tenant, want := range map[string]string{ill[40]: "TL401", well[1]: "TL101"} {
				got, err := other.Explain(e.ctx(), tenant)
				if err != nil || got.Code != want || strings.Contains(got.Title, e.name("sick0")) != (want == "TL401") {
					t.Errorf("%s is explained by %+v, %v", tenant, got, err)
				}
			}
			marked := 0
			for _, tenant := range ill {
				if st, err := w.Status(e.ctx(), tenant); err != nil || st.State != tokencache.Active || st.Reason != "" {
					t.Errorf("%s is marked: %v, %v", tenant, st, err)
				} else if st.Fails > 0 {
					marked++
				}
			}
			if marked > c.tenants+12 {
				t.Errorf("%d grants have failed", marked)
			}
			e.at("sick0").ClearScript() // it accepts the client
			e.recovers(w, ill)
			if s := e.state(w, "a closed circuit", func(s *engine.AppState) bool { return s.Hosts == nil }); s.Open || s.Error != "" {
				t.Errorf("all is well: %+v", s)
			}
		})
	}
}

// While a probe of a sick host hangs, nobody else waits for it.
func TestAProbeOfOneHostDelaysNoOther(t *testing.T) {
	t.Parallel()
	e := newEstate(t, 2)
	w := e.worker()
	e.accepted(w)
	for _, host := range []string{"sick0", "sick1"} {
		for i := range 2 {
			r := engine.Refusal{Tenant: fmt.Sprint("x", i), Error: "app_refused/invalid_client/401", Tenants: 2}
			if _, _, err := w.cache.App("zoom").At(e.name(host)).Trip(e.ctx(), engine.NewID(), r, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	gate := e.at("sick0").Hold(refreshtest.BeforeCommit)
	probed := make(chan error, 1)
	ill := e.expired(w, "sick0", 2)
	go func() {
		_, err := w.Token(e.ctx(), ill[0])
		probed <- err
	}()
	gate.Await(t)
	for tenant, err := range e.all(w, e.expired(w, "healthy", 10)) {
		if err != nil {
			t.Errorf("%s: %v", tenant, err)
		}
	}
	e.token(w, e.expired(w, "sick1", 1)[0]) // its own probe
	second := make(chan error, 1)
	go func() {
		_, err := w.Token(e.ctx(), ill[1])
		second <- err
	}()
	e.state(w, "one probe", func(s *engine.AppState) bool { return s.Host(e.name("sick0")).ProbeBy != "" })
	gate.Release()
	for _, err := range []error{<-probed, <-second} {
		if err != nil {
			t.Error(err)
		}
	}
	e.state(w, "closed circuits", func(s *engine.AppState) bool { return s.Hosts == nil })
}

func TestAHostsCircuitClosesUnattended(t *testing.T) {
	t.Parallel()
	e := newEstate(t, 1)
	w := e.worker()
	events := w.Events(t.Context())
	e.accepted(w)
	var ill []string
	for _, tenant := range []string{"sick0-a", "sick0-b", "sick0-c"} {
		if err := w.Connect(e.ctx(), tenant, e.at(tenant).Grant(tenant)); err != nil {
			t.Fatal(err)
		}
		if err := w.Refresh(e.ctx(), tenant); err != nil {
			t.Fatal(err)
		}
		ill = append(ill, tenant)
	}
	e.state(w, "several hosts", func(s *engine.AppState) bool { return s.Several })
	e.at("sick0").SetClientSecrets("another")
	for _, tenant := range ill {
		e.inUse(w, tenant)
	}
	e.run(e.worker()) // which has seen none of them
	if open := e.hears(events, refresh.EventCircuitOpen, ""); open.Host != e.name("sick0") {
		t.Errorf("%+v", open)
	}
	for range 2 { // it goes on trying
		e.at("sick0").AwaitExchange(t)
	}
	e.at("sick0").SetClientSecrets("secret")
	if closed := e.hears(events, refresh.EventCircuitClosed, ""); closed.Host != e.name("sick0") {
		t.Errorf("%+v", closed)
	}
	for _, tenant := range ill {
		e.recovered(w, tenant)
	}
}

// recovered waits until a grant has a generation of its own making and no failure.
func (e *estate) recovered(w *worker, tenant string) {
	e.t.Helper()
	e.told(w, tenant, "a new pair", func(s *engine.Snapshot) bool { return s.Generation > 2 && s.Fails == 0 })
}

func TestAHostsPauseStopsItsTenantsAlone(t *testing.T) {
	t.Parallel()
	e := newEstate(t, 1)
	w := e.worker()
	events := w.Events(t.Context())
	e.accepted(w)
	ill, well := e.expired(w, "sick0", 30), e.expired(w, "healthy", 20)
	e.at("sick0").Script(refreshtest.Step{Times: 2, Status: 429, Header: http.Header{"Retry-After": {"2"}}})
	for _, tenant := range ill[:2] {
		_, err := w.Token(e.ctx(), tenant)
		kind(t, err, refresh.ErrUnavailable, "")
	}
	if ev := e.hears(events, refresh.EventThrottled, ""); ev.Host != e.name("sick0") || ev.RetryAt.IsZero() {
		t.Errorf("%+v", ev)
	}
	for tenant, err := range e.all(w, ill) {
		if got := kind(t, err, refresh.ErrUnavailable, ""); got.RetryAfter <= 0 || got.RetryAfter > 5*time.Second {
			t.Errorf("%s: %v", tenant, err)
		}
	}
	if n := len(e.at("sick0").Ledger()); n != 2 {
		t.Errorf("%d exchanges with a host that wants a pause", n)
	}
	for tenant, err := range e.all(w, well) {
		if err != nil {
			t.Errorf("%s of another host: %v", tenant, err)
		}
	}
	e.recovers(w, ill)
	e.state(w, "the end of the pause", func(s *engine.AppState) bool { return s.Hosts == nil && s.Ramp == 0 })
}

// As long as there is no doubt about any host, nobody asks where an exchange would be made, and nothing is noted.
func TestHostsCostNothingWhenAllIsWell(t *testing.T) {
	t.Parallel()
	e := newEstate(t, 1)
	e.redis = redistest.Own(t)
	w := e.worker()
	e.accepted(w)
	tenants := append(e.expired(w, "sick0", 10), e.expired(w, "healthy", 10)...)
	one := e.fleet.worker() // of an app whose tenants have one host
	e.token(one, "accepted")
	same := e.fleet.expired(one, 20)
	cost := func(w *worker, tenants []string) map[string]int {
		return redistest.Commands(t, w.rdb, func() {
			for _, tenant := range tenants {
				e.token(w, tenant)
			}
		})
	}
	before := e.asked.Load()
	several := cost(w, tenants)
	if n := e.asked.Load() - before; n != int64(len(tenants)) {
		t.Errorf("the configuration was asked for %d times in %d exchanges", n, len(tenants))
	}
	if a, b := redistest.Total(several), redistest.Total(cost(one, same)); a > b+b/10 {
		t.Errorf("20 exchanges took %d commands, and of an app with one host %d", a, b)
	}
}

// speller is an Exchanger of the user's that spells the host in its errors differently from HostOf.
type speller struct{ said string }

func (x speller) Exchange(context.Context, provider.Grant) (provider.Pair, error) {
	return provider.Pair{}, &provider.Error{Class: provider.AppRefused, Code: "invalid_client", Status: 401, Host: x.said}
}

func (speller) HostOf(provider.Grant) string { return "login.example.com" }
func (speller) SeveralHosts() bool           { return true }

// A probe that does not count is made again and again.
func TestAProbeCountsHoweverAnExchangerSpellsItsHost(t *testing.T) {
	t.Parallel()
	for _, said := range []string{"login.example.com", "Login.Example.COM", "login.example.com:443", "login.example.com.", "LOGIN.example.com.:443"} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w := f.worker(func(cfg *refresh.Config) { cfg.Provider.Exchanger = speller{said} })
			if _, _, err := w.cache.App("zoom").As("w").Accept(f.ctx(), engine.NewID(), engine.Acceptance{Read: true}); err != nil {
				t.Fatal(err)
			}
			tenants := f.expired(w, 3)
			for _, tenant := range tenants {
				_, err := w.Token(f.ctx(), tenant) // two open it, the third probes
				kind(t, err, refresh.ErrClientConfig, "")
			}
			s := f.state(w, "a probe that was refused", func(s *engine.AppState) bool {
				h := s.Host("login.example.com")
				return h != nil && h.Open && h.ProbeBy == "" && h.Probes > 1
			})
			if h := s.Host("login.example.com"); h.Probes != 2 || len(s.Hosts) != 1 {
				t.Errorf("%d refusals in a row, hosts %v", h.Probes, s.Hosts)
			}
		})
	}
}
