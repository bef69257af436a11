package refresh_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// explained asks one worker why a grant is as it is, and holds the answer against code, who acts, and the
// first sentence of the story. No part of it may show a token.
func (f *fleet) explained(w *worker, tenant, code, who, tells string) explain.Explanation {
	f.t.Helper()
	e, err := w.Explain(f.ctx(), tenant)
	if err != nil {
		f.t.Fatalf("Explain: %v", err)
	}
	text, _ := json.MarshalIndent(e, "", "  ")
	if e.Code != code || e.Who != who || !slices.ContainsFunc(e.Story, func(s explain.Sentence) bool { return strings.Contains(s.Text, tells) }) {
		f.t.Errorf("want %s, %s acts, the story tells %q; it is\n%s", code, who, tells, text)
	}
	for _, secret := range f.server.Issued() {
		if strings.Contains(string(text), secret) {
			f.t.Errorf("it shows a token:\n%s", text)
		}
	}
	if internal := regexp.MustCompile(`(?i)\b(redis|token|claim|lease|TL\d+|invalid_\w+|worker|w\d)\b`).FindString(e.ForTenant); internal != "" || e.ForTenant == "" {
		f.t.Errorf("the customer reads %q", e.ForTenant)
	}
	return e
}

// named is a worker whose name is known.
func (f *fleet) named(name string, alter ...func(*refresh.Config)) *worker {
	f.t.Helper()
	return f.worker(append([]func(*refresh.Config){func(c *refresh.Config) { c.Name, c.Locker = name, nil }}, alter...)...)
}

func TestExplainAGrantThatIsWell(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{TokenPrefix: "canary-"})
	w := f.named("w1")
	f.explained(w, "acme", "TL306", explain.Tenant, "there is no record of this tenant")
	f.connect(w, "acme", true)
	f.explained(w, "acme", "TL102", explain.Nobody, "the tenant consented; w1 stored generation 1")
	f.token(w, "acme")
	e := f.explained(w, "acme", "TL101", explain.Nobody, "w1 stored generation 2, after ")
	if time.Since(e.Since) > time.Minute || e.Level != explain.OK {
		t.Errorf("since %s, %s", e.Since, e.Level)
	}
	if err := w.Disconnect(f.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	f.explained(w, "acme", "TL305", explain.Tenant, "w1 disconnected the tenant")
	if _, err := w.Explain(f.ctx(), ""); !errors.Is(err, tokencache.ErrName) {
		t.Errorf("of no name: %v", err)
	}
}

// A holder presents the refresh token and is killed: its Redis connections and its lease are gone, and it stores nothing.
func TestExplainAHolderThatWasKilledInMidExchange(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	brief := func(c *refresh.Config) {
		c.ExchangeTimeout, c.ClaimTimeout, c.CommitPatience = 2*time.Second, 3*time.Second, 2*time.Second
	}
	dies, proxy := f.cuttable(brief, func(c *refresh.Config) { c.Name, c.Locker = "w1", nil })
	w3 := f.named("w3", brief)
	f.connect(w3, "acme", true)
	gate := f.server.Hold(refreshtest.AfterCommit)
	var caller sync.WaitGroup
	caller.Go(func() { _, _ = dies.Token(f.ctx(), "acme") })
	gate.Await(t)
	e := f.explained(w3, "acme", "TL103", explain.Nobody, "w1 began to present generation 1: a caller waited for a token")
	if !strings.Contains(e.Title, "BEING REFRESHED by w1") {
		t.Error(e.Title)
	}
	proxy.Refuse()
	proxy.Cut()
	f.redis.Client(t).Del(f.ctx(), f.prefix+":{zoom:acme}:lock")
	e = f.explained(w3, "acme", "TL202", explain.Nobody, "w1 began to present generation 1")
	if d := time.Until(e.RetryAt); d <= 0 || d > 6*time.Second {
		t.Errorf("it resolves in %s", d)
	}
	if story := fmt.Sprint(e.Story); !strings.Contains(story, "nobody holds the lease: w1 is probably dead") || !strings.Contains(story, "revokes a grant") {
		t.Errorf("the story is %s", story)
	}
	time.Sleep(time.Until(e.RetryAt))
	_, err := w3.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrReauthorize, "lost_response")
	e = f.explained(w3, "acme", "TL302", explain.Tenant, "w1 began to present generation 1: a caller waited for a token")
	if story := fmt.Sprint(e.Story); !strings.Contains(story, "w3 began to present generation 1, taking over") || !strings.Contains(story, "lost_response") {
		t.Errorf("the story is %s", story)
	}
	gate.Release()
	caller.Wait()
	proxy.Accept()
}

func TestExplainWhatTheProviderAnswered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step       refreshtest.Step
		kind       error
		code       string
		who, title string
	}{
		"500":             {refreshtest.Step{Status: 500, Body: `{"error":"server_error"}`, Header: http.Header{"X-Request-Id": {"7d1f-62b0"}}}, refresh.ErrUnavailable, "TL201", explain.Nobody, "server_error (HTTP 500)"},
		"dropped":         {refreshtest.Step{Fault: refreshtest.Drop}, refresh.ErrUnavailable, "TL201", explain.Nobody, "no usable answer came"},
		"429":             {refreshtest.Step{Status: 429, Header: http.Header{"Retry-After": {"7"}}}, refresh.ErrUnavailable, "TL201", explain.Nobody, "too many requests (HTTP 429)"},
		"an unknown code": {refuse("odd_code", 400), refresh.ErrUnavailable, "TL405", explain.Operator, "odd_code (HTTP 400)"},
		"a tenant's 401":  {refuse("unauthorized_client", 400), refresh.ErrClientConfig, "TL401", explain.Operator, "unauthorized_client (HTTP 400)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			w := f.named("w1")
			f.connect(w, "other", true)
			f.token(w, "other") // the client is accepted, and answers can be read
			f.connect(w, "acme", true)
			c.step.Tenant, c.step.Times = "acme", -1
			f.server.Script(c.step)
			_, err := w.Token(f.ctx(), "acme")
			kind(t, err, c.kind, "")
			f.mark(w, "acme", "retry_at", f.redisNow(w)+time.Minute.Milliseconds()) // half a second is soon over on a busy machine
			e := f.explained(f.named("w2"), "acme", c.code, c.who, "w1 began to present generation 1: a caller waited for a token")
			if !strings.Contains(e.Title, c.title) || time.Until(e.RetryAt) <= 0 {
				t.Errorf("%q, again at %s", e.Title, e.RetryAt)
			}
			if name == "500" && !strings.Contains(fmt.Sprint(e.Story), "request id 7d1f-62b0") {
				t.Errorf("the story is %v", e.Story)
			}
		})
	}
}

func TestExplainARefusal(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.named("w1")
	f.connect(w, "acme", true)
	f.server.Revoke("acme")
	_, err := w.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrReauthorize, "invalid_grant")
	e := f.explained(w, "acme", "TL301", explain.Tenant, "w1 began to present generation 1")
	if story := fmt.Sprint(e.Story); !strings.Contains(story, "refused generation 1, presented by w1: invalid_grant (HTTP 400)") || !strings.Contains(story, "concluded that the tenant must consent again") {
		t.Errorf("the story is %s", story)
	}
	f.connect(w, "acme", false)
	f.explained(w, "acme", "TL101", explain.Nobody, "the tenant consented")
}

func TestExplainAPauseOfTheApp(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.named("w1")
	for _, tenant := range []string{"acme", "other"} {
		f.connect(w, tenant, true)
		f.server.Script(refreshtest.Step{Tenant: tenant, Status: 429, Header: http.Header{"Retry-After": {"60"}}})
		_, err := w.Token(f.ctx(), tenant)
		kind(t, err, refresh.ErrUnavailable, "")
	}
	f.connect(w, "third", true)
	e := f.explained(w, "third", "TL205", explain.Nobody, "several tenants were told to wait: too many requests (HTTP 429)")
	if d := time.Until(e.RetryAt); d < 30*time.Second || d > 5*time.Minute {
		t.Errorf("tried again in %s", d)
	}
}

func TestExplainAWrongClientSecret(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.named("w1", func(c *refresh.Config) {
		oauth := f.server.OAuth2Config()
		oauth.ClientSecret = "canary-wrong"
		p, err := provider.OAuth2(oauth, provider.Profile{})
		if err != nil {
			t.Fatal(err)
		}
		c.Provider = p
	})
	f.connect(w, "acme", true)
	_, err := w.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrClientConfig, "invalid_client")
	e := f.explained(f.named("w2"), "acme", "TL401", explain.Operator, "the client was refused with invalid_client (HTTP 401)")
	if text, _ := json.Marshal(e); strings.Contains(string(text), "canary-wrong") || !strings.Contains(e.Title, "the circuit is open since") {
		t.Errorf("%s", text)
	}
}

func TestExplainARedisThatForgot(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	w := f.named("w1")
	f.connect(w, "acme", false)
	f.hot(w, "acme")
	f.connect(f.named("w9"), "forgotten", false)
	f.redis.Client(t).FlushAll(f.ctx())
	f.eventually("the loss to be noticed", func() bool {
		a, err := w.cache.App("zoom").AppState(f.ctx())
		return err == nil && a.LostAt != 0
	})
	f.eventually("the grant to be given back", func() bool {
		return f.redis.Client(t).Exists(f.ctx(), f.prefix+":{zoom:acme}:grant").Val() == 1
	})
	e, err := w.Explain(f.ctx(), "acme")
	if err != nil || e.Code != "TL601" && e.Code != "TL206" || !strings.Contains(e.Story[0].Text, "gave back generation 1, which Redis had lost") {
		t.Errorf("%+v, %v", e, err)
	}
	cold := f.named("w2")
	f.explained(cold, "nobody", "TL606", explain.Operator, "Redis came back without this app's data")
	if err := w.AcceptLoss(f.ctx()); err != nil {
		t.Fatal(err)
	}
	f.eventually("the loss to be accepted", func() bool {
		a, err := cold.cache.App("zoom").AppState(f.ctx())
		return err == nil && a.LostAt == 0
	})
	f.explained(cold, "nobody", "TL306", explain.Tenant, "there is no record of this tenant")
}

func TestExplainAWrongKeyset(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	maker, _ := f.sealedWith(keyset(t), "maker")
	f.connect(maker, "acme", false)
	stranger, _ := f.sealedWith(keyset(t), "stranger")
	e := f.explained(stranger, "acme", "TL402", explain.Operator, "the tenant consented; maker stored generation 1")
	if !strings.Contains(e.Title, "stranger does not have") || !strings.Contains(fmt.Sprint(e.Story), "sealed with") {
		t.Errorf("%+v", e)
	}
	f.explained(maker, "acme", "TL101", explain.Nobody, "the tenant consented")
	f.redis.Client(t).Del(f.ctx(), f.prefix+":{zoom:acme}:secret")
	f.explained(stranger, "acme", "TL602", explain.Operator, "the tenant consented; maker stored generation 1")
	f.mark(maker, "acme", "gen", "-1")
	f.explained(stranger, "acme", "TL602", explain.Operator, "it cannot be true")
}

func TestExplainAnotherProgram(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.named("w1")
	f.stranger(f.connect(w, "acme", false))
	kind(t, w.Refresh(f.ctx(), "acme"), refresh.ErrReauthorize, "invalid_grant")
	f.explained(w, "acme", "TL301", explain.Tenant, "w1 began to present generation 1: somebody forced a refresh") // nothing else is suspicious
	// The first sign: an access token that had worked was refused, too.
	tok := f.connect(w, "acme", false)
	f.stranger(tok)
	f.alter(w, "acme", "issued_at", f.redisNow(w)-(15*time.Minute).Milliseconds())
	other := f.named("w2")
	kind(t, other.Reject(f.ctx(), "acme", tok.AccessToken), refresh.ErrReauthorize, "")
	e := f.explained(w, "acme", "TL701", explain.OtherProgram, "an API refused the access token of generation 2, as w2 reported")
	if e.Level != explain.Error {
		t.Errorf("level %s", e.Level)
	}
	f.stranger(f.connect(w, "acme", false))
	kind(t, w.Refresh(f.ctx(), "acme"), refresh.ErrReauthorize, "external_rotation")
	e = f.explained(w, "acme", "TL701", explain.OtherProgram, "w1 began to present generation 3")
	if !strings.Contains(e.Title, "3 generations in a row") {
		t.Errorf("%q", e.Title)
	}
}

func TestExplainAProviderThatFailsForAll(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.named("w1")
	f.server.Script(refreshtest.Step{Status: 503, Times: -1})
	for i := range 4 {
		tenant := fmt.Sprint("acme", i)
		f.connect(w, tenant, true)
		_, err := w.Token(f.ctx(), tenant)
		kind(t, err, refresh.ErrUnavailable, "")
	}
	for _, reader := range []*worker{w, f.named("w2")} { // the fleet knows it, not only the process that has heard it
		f.explained(reader, "acme0", "TL501", explain.Provider, "its access token ended")
	}
}

func TestExplainWhatThisProcessAloneKnows(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	w := f.named("w1")
	f.connect(w, "acme", false)
	_, err := w.Client("acme").Get("http://api.example/")
	kind(t, err, refresh.ErrClientConfig, "insecure_url")
	f.explained(w, "acme", "TL403", explain.Operator, "nothing was sent: the access token is not sent to \"api.example\"")
	f.explained(f.named("w2"), "acme", "TL101", explain.Nobody, "the tenant consented")

	admin := f.redis.Client(t)
	if err := admin.Do(f.ctx(), "ACL", "SETUSER", "poor", "on", ">secret", "~*", "&*", "+@all", "-xrange").Err(); err != nil {
		t.Fatal(err)
	}
	poor := f.workerOn(f.redis.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "poor", "secret" }))
	f.explained(poor, "acme", "TL406", explain.Operator, "NOPERM")
}

func TestExplainAnUnreachableRedisIsAnError(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w, proxy := f.cuttable()
	f.connect(w, "acme", false)
	proxy.Refuse()
	proxy.Cut()
	_, err := w.Explain(f.ctx(), "acme")
	kind(t, err, refresh.ErrUnavailable, "")
	proxy.Accept()
}
