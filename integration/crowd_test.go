package integration

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"
)

// waiting is said by a worker when all callers of an order stand and wait.
const waiting = "waiting"

// wait has callers ask for a token that another process is about to bring, and says when
// all of them wait for it.
func (w *worker) wait(ctx context.Context, o order) report {
	var calls sync.WaitGroup
	calls.Add(o.Callers)
	go func() {
		calls.Wait()
		w.say(answer{At: waiting})
	}()
	return many(ctx, o.Callers, func(ctx context.Context) (*oauth2.Token, error) {
		return w.Token(announced{ctx, sync.OnceFunc(calls.Done)}, o.Tenant)
	})
}

// announced is a ctx that tells when its owner begins to wait: whoever selects on Done
// asks for the channel first.
type announced struct {
	context.Context
	waits func()
}

func (a announced) Done() <-chan struct{} {
	a.waits()
	return a.Context.Done()
}

// ready has callers wait for a signal, and then ask for a token of the tenant, or for
// nothing if none is named: then they have what they wanted.
func (w *worker) ready(ctx context.Context, o order) report {
	signal := w.bare.next()
	var ready sync.WaitGroup
	ready.Add(o.Callers)
	go func() {
		ready.Wait()
		w.say(answer{At: waiting})
	}()
	return crowd(ctx, o.Callers, func() {
		ready.Done()
		<-signal
	}, func(ctx context.Context) (*oauth2.Token, error) {
		if o.Tenant == "" {
			return nil, nil
		}
		return w.Token(ctx, o.Tenant)
	})
}

// signals is the least that can be done with Redis pub/sub: one connection, one reader,
// and a channel that it closes on every message.
type signals struct {
	rdb *redis.Client // without the seam

	mu     sync.Mutex // guards closes
	closes chan struct{}
}

// listen subscribes. It lasts as long as the process.
func (s *signals) listen(ctx context.Context, addr, channel string) error {
	s.rdb, s.closes = redis.NewClient(&redis.Options{Addr: addr}), make(chan struct{})
	ps := s.rdb.Subscribe(ctx, channel)
	if _, err := ps.Receive(ctx); err != nil {
		return err
	}
	go func() {
		for {
			if _, err := ps.ReceiveMessage(context.Background()); err != nil {
				return // the parent misses the answers
			}
			s.mu.Lock()
			close(s.closes)
			s.closes = make(chan struct{})
			s.mu.Unlock()
		}
	}()
	return nil
}

// next is closed on the next message.
func (s *signals) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closes
}

// signal sends a message, and reports when.
func (s *signals) signal(ctx context.Context, o order) (report, error) {
	message := strings.Repeat("x", o.Size)
	sent := time.Now()
	err := s.rdb.Publish(ctx, o.Channel, message).Err()
	return report{Sent: map[string]time.Time{"signal": sent}}, err
}
