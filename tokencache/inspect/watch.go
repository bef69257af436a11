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
	perPattern = 2 // channels, or patterns, of a subscription
)

var errSilent = errors.New("the connection that listens has gone silent")

// listen tells of changes while one connection lives. It returns errEnough if nobody wants more.
func (in *Inspector) listen(ctx context.Context, app string, tell func(grant.Key) bool) error {
	ps := in.db.Redis.Subscribe(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer ps.Close()
	_, err := store.Bounded(ctx, in.timeout, func(ctx context.Context) (struct{}, error) { return struct{}{}, in.subscribe(ctx, ps, app) })
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got := make(chan any)
	failed := make(chan error, 1)
	reading.Go(func() { failed <- receive(ctx, ps, got) })
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	heard, missing := mono.Now(), perPattern
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
			_, _ = store.Bounded(ctx, pingEvery, func(ctx context.Context) (struct{}, error) { return struct{}{}, ps.Ping(ctx) })
		case m := <-got:
			heard = mono.Now()
			if more, err := in.deliver(m, &missing, tell); err != nil || !more {
				return err
			}
		}
	}
}

func (in *Inspector) subscribe(ctx context.Context, ps *redis.PubSub, app string) error {
	if app == "" {
		return ps.PSubscribe(ctx, in.names.Changes()+"*", in.names.AllApps())
	}
	names := in.names.App(app)
	return ps.Subscribe(ctx, names.Changes(), names.State())
}

// receive hands on what comes until the connection ends, or ctx.
func receive(ctx context.Context, ps *redis.PubSub, to chan<- any) error {
	for {
		m, err := ps.Receive(ctx)
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

// deliver tells what a message is about. missing counts the subscriptions that are to be confirmed still.
func (in *Inspector) deliver(m any, missing *int, tell func(grant.Key) bool) (more bool, err error) {
	switch m := m.(type) {
	case *redis.Subscription:
		switch *missing--; {
		case *missing < 0:
			return false, errAnew // go-redis has connected again by itself
		case *missing == 0 && !tell(grant.Key{}):
			return false, errEnough
		}
	case *redis.Message:
		if k, ok := in.about(m.Channel, m.Payload); ok && !tell(k) {
			return false, errEnough
		}
	}
	return true, nil
}

// about is what a message is about: below the line that proves its sender it names the grant's own channel.
func (in *Inspector) about(channel, payload string) (grant.Key, bool) {
	if app, ok := in.names.AppAt(channel); ok {
		k := grant.Key{App: app}
		return k, grant.Key{App: app, Tenant: "-"}.Validate() == nil
	}
	_, body, _ := strings.Cut(payload, "\n")
	name, _, _ := strings.Cut(body, "\n")
	k, ok := in.names.GrantOf(name)
	return k, ok && k.Validate() == nil && in.names.App(k.App).Changes() == channel
}
