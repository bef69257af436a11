// Package work is what outlives the call that began it: it is begun, it waits, and it ends.
package work

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var (
	// ErrClosed ends what waits when the coordinator is closed.
	ErrClosed = errors.New("this coordinator is closed: the process is shutting down")
	// ErrSlow ends the wait for a Redis that does not answer in time.
	ErrSlow = errors.New("redis does not answer in time")
	// ErrAgain says that nothing is decided: the grant must be looked at again, since it has moved on or
	// time has passed.
	ErrAgain = errors.New("look at the grant again")
)

// RedisTimeout bounds one operation of Redis that must not be given up lightly.
const RedisTimeout = 5 * time.Second

// Group is work that Close stops from beginning, and that Wait waits for.
type Group struct {
	// Waiting ends with Close: work that only waits gives up then. Exchanges and commits do not look at it.
	Waiting context.Context
	end     context.CancelCauseFunc

	mu     sync.Mutex // guards closed, after which no work begins
	closed bool
	all    sync.WaitGroup
}

// NewGroup returns a Group without work.
func NewGroup() *Group {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Group{Waiting: ctx, end: cancel}
}

// Add notes that work begins; Done says that it has ended. The error is ErrClosed.
func (g *Group) Add() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.all.Add(1)
	return nil
}

// Done ends what Add began.
func (g *Group) Done() { g.all.Done() }

// Begin starts work. The error is ErrClosed.
func (g *Group) Begin(f func()) error {
	if err := g.Add(); err != nil {
		return err
	}
	defer g.Done()
	g.Go(f)
	return nil
}

// Go starts work that other work needs, also after Close. Only work may call it.
func (g *Group) Go(f func()) { g.all.Go(f) }

// Close lets no more work begin, and ends what only waits.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.end(ErrClosed)
}

// Wait waits for all work. Call it after Close.
func (g *Group) Wait() { g.all.Wait() }

// Pause ends after d, with news if there is any, or with ctx.
func Pause(ctx context.Context, d time.Duration, news <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-news:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Call returns what f returns. The caller may leave by its ctx, whose cause is the error then; f goes on,
// since nothing interrupts go-redis. The error is ErrClosed if no work begins any more.
func Call[T any](ctx context.Context, g *Group, f func(context.Context) (T, error)) (T, error) {
	type answer struct {
		got T
		err error
	}
	answers := make(chan answer, 1)
	var none T
	if err := g.Begin(func() {
		got, err := f(context.WithoutCancel(ctx))
		answers <- answer{got, err}
	}); err != nil {
		return none, err
	}
	select {
	case a := <-answers:
		return a.got, a.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// leftError says that a caller has left by its ctx. It is nobody's trouble.
type leftError struct {
	grant fmt.Stringer
	cause error
	waits error // for whom it waited; may be nil
}

// Left returns the error of a caller that has left by ctx.
func Left(ctx context.Context, grant fmt.Stringer) error {
	return &leftError{grant, context.Cause(ctx), nil}
}

// LeftWaiting is Left, and says what the caller waited for.
func LeftWaiting(ctx context.Context, grant fmt.Stringer, what error) error {
	return &leftError{grant, context.Cause(ctx), what}
}

// HasLeft reports whether an error says that its caller has left.
func HasLeft(err error) bool {
	var left *leftError
	return errors.As(err, &left)
}

func (e *leftError) Error() string {
	text := fmt.Sprintf("refresh: %s: the caller left: %v", e.grant, e.cause)
	if e.waits != nil {
		text += ": it waited: " + e.waits.Error()
	}
	return text
}

// Unwrap returns the cause with which the ctx ended.
func (e *leftError) Unwrap() error { return e.cause }
