package inspect

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Watch yields the name of each grant that changes, of an app or of all apps if it is "", until ctx ends. A
// name without a tenant says that the app's own state has changed. The zero Key comes first, and after each
// lost connection: Watch listens from then on, and what changed before must be read. Mere steps, as a claim,
// are not told.
//
// A name is a hint, since anybody who may publish can give one: read the grant. An error says that Redis does
// not let it listen just now: it tries again after a second.
func (in *Inspector) Watch(ctx context.Context, app string) iter.Seq2[grant.Key, error] {
	return func(yield func(grant.Key, error) bool) {
		for ctx.Err() == nil {
			err := in.listen(ctx, app, func(k grant.Key) bool { return yield(k, nil) })
			switch {
			case errors.Is(err, errEnough), ctx.Err() != nil:
				return
			case !yield(grant.Key{}, fmt.Errorf("tokencache: watch: %w", said(err))), mono.Sleep(ctx, time.Second) != nil:
				return
			}
		}
	}
}

// A connection that is silent although it was asked is taken for dead.
const (
	pingEvery  = 3 * time.Second
	silentFor  = 10 * time.Second
	perPattern = 2 // channels, or patterns, that are listened to
)

var errSilent = errors.New("the connection that listens has gone silent")

// ear is one connection that listens.
type ear struct {
	names   store.Names
	app     string // "" for all
	tell    func(grant.Key) bool
	ps      *redis.PubSub
	missing int // subscriptions that are to be confirmed still
}

// listen tells of changes while one connection lives. It returns errEnough if nobody wants more.
func (in *Inspector) listen(ctx context.Context, app string, tell func(grant.Key) bool) error {
	e := &ear{names: in.names, app: app, tell: tell, ps: in.db.Redis.Subscribe(ctx), missing: perPattern}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer e.ps.Close()
	_, err := store.Bounded(ctx, in.timeout, func(ctx context.Context) (struct{}, error) { return struct{}{}, e.subscribe(ctx) })
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got, failed := make(chan any), make(chan error, 1)
	reading.Go(func() { failed <- e.receive(ctx, got) })
	return e.hear(ctx, got, failed)
}

// hear delivers what comes, and asks a silent connection whether it lives.
func (e *ear) hear(ctx context.Context, got <-chan any, failed <-chan error) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	heard := mono.Now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failed:
			return err
		case <-ping.C:
			if mono.Now()-heard > silentFor {
				return errSilent
			}
			_, _ = store.Bounded(ctx, pingEvery, func(ctx context.Context) (struct{}, error) { return struct{}{}, e.ps.Ping(ctx) })
		case m := <-got:
			heard = mono.Now()
			if err := e.deliver(m); err != nil {
				return err
			}
		}
	}
}

func (e *ear) subscribe(ctx context.Context) error {
	if e.app == "" {
		return e.ps.PSubscribe(ctx, e.names.Changes()+"*", e.names.AllApps())
	}
	names := e.names.App(e.app)
	return e.ps.Subscribe(ctx, names.Changes(), names.State())
}

// receive hands on what comes until the connection ends, or ctx.
func (e *ear) receive(ctx context.Context, to chan<- any) error {
	for {
		m, err := e.ps.Receive(ctx)
		if err != nil {
			return err
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

var errAnew = errors.New("the connection was lost")

// deliver tells what a message is about.
func (e *ear) deliver(m any) error {
	switch m := m.(type) {
	case *redis.Subscription:
		switch e.missing--; {
		case e.missing < 0:
			return errAnew // go-redis has connected again by itself
		case e.missing == 0 && !e.tell(grant.Key{}):
			return errEnough
		}
	case *redis.Message:
		if k, ok := e.about(m.Channel, m.Payload); ok && !e.tell(k) {
			return errEnough
		}
	}
	return nil
}

// about returns what a message is about: below the line that proves its sender it names the grant's own channel.
func (e *ear) about(channel, payload string) (grant.Key, bool) {
	if app, ok := e.names.AppAt(channel); ok {
		return grant.Key{App: app}, grant.Key{App: app, Tenant: "-"}.Validate() == nil
	}
	_, body, _ := strings.Cut(payload, "\n")
	name, _, _ := strings.Cut(body, "\n")
	k, ok := e.names.GrantOf(name)
	return k, ok && k.Validate() == nil && e.names.App(k.App).Changes() == channel
}
