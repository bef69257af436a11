package observe

import (
	"context"
	"time"
)

// Unobserved is an Observer that does nothing. Embed it, so that yours compiles when methods are added.
type Unobserved struct{}

// Exchange returns its ctx.
func (Unobserved) Exchange(ctx context.Context, _ Exchange) (context.Context, func(ExchangeEnd)) {
	return ctx, func(ExchangeEnd) {}
}

// Waited does nothing.
func (Unobserved) Waited(context.Context, Wait) {}

// Counted does nothing.
func (Unobserved) Counted(string, Count, string) {}

// Redis does nothing.
func (Unobserved) Redis(string, time.Duration) {}

// Pushed does nothing.
func (Unobserved) Pushed(time.Duration) {}

// Watch does nothing.
func (Unobserved) Watch(func() Reading) func() { return nothing }

// Observers tells several, in this order: the ctx that one returns for an exchange is the next one's. Give one
// result to all coordinators of a process, since Observers are told apart by ==.
func Observers(all ...Observer) Observer { return &several{all} }

type several struct{ all []Observer }

func (o *several) Exchange(ctx context.Context, x Exchange) (context.Context, func(ExchangeEnd)) {
	ends := make([]func(ExchangeEnd), len(o.all))
	for i, one := range o.all {
		ctx, ends[i] = one.Exchange(ctx, x)
	}
	return ctx, func(e ExchangeEnd) {
		for _, end := range ends {
			end(e)
		}
	}
}

func (o *several) Waited(ctx context.Context, w Wait) {
	for _, one := range o.all {
		one.Waited(ctx, w)
	}
}

func (o *several) Counted(app string, what Count, label string) {
	for _, one := range o.all {
		one.Counted(app, what, label)
	}
}

func (o *several) Redis(op string, took time.Duration) {
	for _, one := range o.all {
		one.Redis(op, took)
	}
}

func (o *several) Pushed(delay time.Duration) {
	for _, one := range o.all {
		one.Pushed(delay)
	}
}

func (o *several) Watch(read func() Reading) func() {
	ends := make([]func(), len(o.all))
	for i, one := range o.all {
		ends[i] = one.Watch(read)
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}
