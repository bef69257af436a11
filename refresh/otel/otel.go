// Package otel is OpenTelemetry spans of refreshes, as an Observer of package refresh:
//
//	tokens, err := refresh.New(refresh.Config{App: "zoom", Observer: otel.New(provider), …})
//
// There are two spans:
//
//   - tokenlatch.exchange is one request to the token endpoint. Its parent is the span of the caller who made it
//     necessary; an exchange that nobody waits for has none. Spans of the http.Client that the provider uses stand
//     below it.
//   - tokenlatch.token is one caller's wait for a refresh, below the caller's span. A token that is served without a
//     wait has none. It links to the tokenlatch.exchange that it waited for if that was made by the same process.
//
// What another process exchanged is not linked: a change in Redis carries no trace. Both spans have
// the same tokenlatch.commit_id then, by which they are found.
//
// The attributes are tokenlatch.app, .tenant, .generation, .why, .takeover, .second_opinion, .outcome, .code, .request_id,
// .commit_id and .how, and http.response.status_code. No span holds a token; codes that are not known are "other".
package otel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/tokenlatch/tokenlatch/refresh"
)

// scope is the name under which tracers know this library.
const scope = "github.com/tokenlatch/tokenlatch/refresh/otel"

// Tracer is an Observer to give to [refresh.Config]. It is safe for concurrent use.
type Tracer struct {
	refresh.Unobserved

	tracer trace.Tracer
}

var _ refresh.Observer = (*Tracer)(nil)

// New returns a Tracer whose spans go to a provider, such as otel.GetTracerProvider().
func New(p trace.TracerProvider) *Tracer { return &Tracer{tracer: p.Tracer(scope)} }

// Exchange is the span of an exchange.
func (t *Tracer) Exchange(ctx context.Context, x refresh.Exchange) (context.Context, func(refresh.ExchangeEnd)) {
	ctx, span := t.tracer.Start(ctx, "tokenlatch.exchange", trace.WithTimestamp(x.Start), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(append(about(x.App, x.Tenant),
			attribute.Int64("tokenlatch.generation", x.Generation), attribute.String("tokenlatch.why", x.Why),
			attribute.Bool("tokenlatch.takeover", x.Takeover), attribute.Bool("tokenlatch.second_opinion", x.SecondOpinion))...))
	return ctx, func(e refresh.ExchangeEnd) {
		span.SetAttributes(attribute.String("tokenlatch.outcome", string(e.Outcome)))
		set(span, "tokenlatch.code", e.Code)
		set(span, "tokenlatch.request_id", e.RequestID)
		set(span, "tokenlatch.commit_id", e.CommitID)
		if e.Status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", e.Status))
		}
		if e.Outcome.Failed() {
			span.SetStatus(codes.Error, string(e.Outcome))
		}
		span.End(trace.WithTimestamp(x.Start.Add(e.Took)))
	}
}

// Waited is the span of a wait that is over.
func (t *Tracer) Waited(ctx context.Context, w refresh.Wait) {
	options := []trace.SpanStartOption{trace.WithTimestamp(w.Start), trace.WithAttributes(append(about(w.App, w.Tenant),
		attribute.String("tokenlatch.how", string(w.How)))...)}
	if w.Exchange != nil {
		options = append(options, trace.WithLinks(trace.LinkFromContext(w.Exchange)))
	}
	_, span := t.tracer.Start(ctx, "tokenlatch.token", options...)
	set(span, "tokenlatch.code", w.Code)
	set(span, "tokenlatch.commit_id", w.CommitID)
	if w.Failed {
		span.SetStatus(codes.Error, w.Code)
	}
	span.End(trace.WithTimestamp(w.Start.Add(w.Took)))
}

func about(app, tenant string) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("tokenlatch.app", app), attribute.String("tokenlatch.tenant", tenant)}
}

// set sets what is known.
func set(span trace.Span, key, value string) {
	if value != "" {
		span.SetAttributes(attribute.String(key, value))
	}
}
