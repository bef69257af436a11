package provider

import (
	"context"
	"time"
)

type sendingKey struct{}

// WithSending returns a ctx for one exchange, which ends soon: its deadline is that of the request,
// not of the answer. sending is what [Sending] asks; it reports whether the request may still go out,
// and if so it may put off when ctx ends.
func WithSending(ctx context.Context, sending func() bool) context.Context {
	return context.WithValue(ctx, sendingKey{}, sending)
}

// Sending says that the refresh token is about to leave. An [Exchanger] of your own calls it as late
// as it can; a [TokenEndpoint] does. If it returns an error, send nothing: the deadline has passed,
// perhaps while this process was stopped, and another process may present the token.
//
// Where presenting again could do harm, an Exchanger that has called Sending gets more time: its ctx
// does not end at the exchange's timeout, but minutes later. Callers are answered in time all the same.
func Sending(ctx context.Context) error {
	if sending, ok := ctx.Value(sendingKey{}).(func() bool); ok {
		if !sending() {
			return errLate
		}
		return nil
	}
	// The ctx's timer may not have fired yet, in a process that was stopped.
	if until, ok := ctx.Deadline(); ok && !time.Now().Before(until) {
		return errLate
	}
	return nil
}
