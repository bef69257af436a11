package otel_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/otel"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "canary-7e21"

// process is a coordinator of its own, and the spans that it has ended.
type process struct {
	*refresh.Coordinator
	refresh.Unobserved // of itself: it knows how many wait
	spans              *tracetest.SpanRecorder
	tracer             trace.Tracer
	cache              *tokencache.Cache
	read               func() refresh.Reading
}

func (p *process) Watch(read func() refresh.Reading) func() {
	p.read = read
	return func() {}
}

// awaits blocks until so many callers wait, and the process knows who works for them.
func (p *process) awaits(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); p.read().Waiters != n || p.cache.Grant(tokencache.Key{App: "zoom", Tenant: "acme"}).Recall() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d callers wait, want %d", p.read().Waiters, n)
		}
	}
}

func start(t *testing.T, server *refreshtest.Server, redis *redistest.Server, prefix string) *process {
	t.Helper()
	cache, err := tokencache.New(redis.Client(t), tokencache.Config{Prefix: prefix, AEAD: tokencache.Plaintext})
	if err != nil {
		t.Fatal(err)
	}
	zoom, err := provider.OAuth2(server.OAuth2Config(), provider.Profile{})
	if err != nil {
		t.Fatal(err)
	}
	spans := tracetest.NewSpanRecorder()
	tracing := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
	p := &process{spans: spans, tracer: tracing.Tracer("test"), cache: cache}
	c, err := refresh.New(refresh.Config{App: "zoom", Cache: cache, Provider: zoom, Observer: refresh.Observers(p, otel.New(tracing))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p.Coordinator = c
	return p
}

// call asks for acme's token below a span of its own, which it returns.
func (p *process) call(t *testing.T) trace.SpanContext {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ctx, span := p.tracer.Start(ctx, "caller")
	defer span.End()
	if _, err := p.Token(ctx, "acme"); err != nil {
		t.Error(err)
	}
	return span.SpanContext()
}

// named are the spans of that name.
func (p *process) named(name string) (all []sdk.ReadOnlySpan) {
	for _, s := range p.spans.Ended() {
		if s.Name() == name {
			all = append(all, s)
		}
	}
	return all
}

func value(s sdk.ReadOnlySpan, key string) string {
	for _, a := range s.Attributes() {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

func expired(t *testing.T, server *refreshtest.Server, p *process) {
	t.Helper()
	tok := server.Grant("acme")
	server.ExpireAccessTokens("acme")
	tok.Expiry = time.Now().Add(-time.Second)
	if err := p.Connect(t.Context(), "acme", tok); err != nil {
		t.Fatal(err)
	}
}

func TestWaitersLinkToTheExchangeThatTheyWaitedFor(t *testing.T) {
	server, prefix := refreshtest.Start(t, refreshtest.Config{TokenPrefix: canary}), redistest.Prefix(t)
	redis := redistest.Start(t)
	leads, waits := start(t, server, redis, prefix), start(t, server, redis, prefix)
	expired(t, server, leads)
	gate := server.Hold(refreshtest.BeforeCommit)
	var first trace.SpanContext
	var callers sync.WaitGroup
	callers.Go(func() { first = leads.call(t) })
	gate.Await(t)
	callers.Go(func() { leads.call(t) })
	callers.Go(func() { waits.call(t) })
	leads.awaits(t, 2)
	waits.awaits(t, 1)
	gate.Release()
	callers.Wait()
	exchanges := leads.named("tokenlatch.exchange")
	if len(exchanges) != 1 || len(waits.named("tokenlatch.exchange")) != 0 {
		t.Fatalf("%d exchanges", len(exchanges))
	}
	x := exchanges[0]
	if x.Parent().SpanID() != first.SpanID() || x.SpanContext().TraceID() != first.TraceID() {
		t.Error("the exchange does not stand below the caller that made it necessary")
	}
	if value(x, "tokenlatch.outcome") != "refreshed" || value(x, "tokenlatch.why") != "asked" || value(x, "tokenlatch.app") != "zoom" ||
		value(x, "tokenlatch.commit_id") == "" || x.Status().Code == codes.Error {
		t.Errorf("%v %v", x.Attributes(), x.Status())
	}
	led := leads.named("tokenlatch.token")
	if len(led) != 2 || len(waits.named("tokenlatch.token")) != 1 {
		t.Fatalf("%d and %d have waited", len(led), len(waits.named("tokenlatch.token")))
	}
	for _, s := range led {
		if len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID() != x.SpanContext().SpanID() {
			t.Errorf("a waiter's links: %v", s.Links())
		}
		if !s.EndTime().After(s.StartTime()) || s.StartTime().After(x.EndTime()) {
			t.Errorf("waited from %v to %v", s.StartTime(), s.EndTime())
		}
	}
	for _, s := range waits.named("tokenlatch.token") {
		if len(s.Links()) != 0 || value(s, "tokenlatch.how") != "pushed" || value(s, "tokenlatch.commit_id") != value(x, "tokenlatch.commit_id") {
			t.Errorf("a waiter elsewhere: %v, links %v", s.Attributes(), s.Links())
		}
	}
	leads.call(t)
	if n := len(leads.named("tokenlatch.token")); n != len(led) {
		t.Error("a token that was served from memory has a span")
	}
	silent(t, server, leads, waits)
}

func TestAFailedExchangeIsAnErrorWithACodeThatIsKnown(t *testing.T) {
	server := refreshtest.Start(t, refreshtest.Config{TokenPrefix: canary})
	p := start(t, server, redistest.Start(t), redistest.Prefix(t))
	expired(t, server, p)
	server.Script(refreshtest.Step{Status: 400, Body: `{"error":"odd_thing","error_description":"` + canary + `"}`})
	if _, err := p.Token(t.Context(), "acme"); err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"tokenlatch.exchange", "tokenlatch.token"} {
		all := p.named(name)
		if len(all) != 1 || all[0].Status().Code != codes.Error || value(all[0], "tokenlatch.code") != "other" {
			t.Errorf("%s: %d spans: %v", name, len(all), all[0].Attributes())
		}
	}
	if x := p.named("tokenlatch.exchange")[0]; value(x, "tokenlatch.outcome") != "refused" || value(x, "http.response.status_code") != "400" {
		t.Errorf("%v", x.Attributes())
	}
	silent(t, server, p)
}

// silent asserts that no span holds a token, nor what the provider has said.
func silent(t *testing.T, server *refreshtest.Server, all ...*process) {
	t.Helper()
	if len(server.Issued()) == 0 {
		t.Fatal("no token was issued: nothing is proven")
	}
	for _, p := range all {
		for _, s := range p.spans.Ended() {
			text := fmt.Sprint(s.Name(), s.Attributes(), s.Status(), s.Events(), s.Links())
			if strings.Contains(text, canary) {
				t.Errorf("a span holds a token: %s", text)
			}
		}
	}
}
