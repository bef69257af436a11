package refresh_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// held holds commands that name a word until it is let go.
type held struct {
	word  string
	came  chan struct{} // has room for one: a command has come
	letGo chan struct{}
}

func (h held) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h held) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h held) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.Contains(cmd.String(), h.word) {
			select {
			case h.came <- struct{}{}:
			default:
			}
			<-h.letGo
		}
		return next(ctx, cmd)
	}
}

// A program closes its Redis client after Close: a lease that is not given back before keeps others away.
func TestCloseWaitsUntilAFirstMintHasGivenItsLeaseBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.ZoomServerToServer()})
	f.lease = 20 * time.Second // it is not extended meanwhile
	rdb := f.redis.Client(t)
	gate := f.server.Hold(refreshtest.AfterCommit)
	w := f.workerOn(rdb, f.minter(1))
	minted := make(chan error, 1)
	go func() { minted <- w.Connect(f.ctx(), "acme", nil) }()
	gate.Await(t)
	h := held{"{zoom:acme}:lock", make(chan struct{}, 1), make(chan struct{})}
	rdb.AddHook(h)
	gate.Release()
	<-h.came
	closed := make(chan error, 1)
	go func() { closed <- w.Close(f.ctx()) }()
	select {
	case err := <-closed:
		t.Errorf("Close has not waited for it: %v", err)
		closed <- err
	case <-time.After(300 * time.Millisecond):
	}
	close(h.letGo)
	if err := errors.Join(<-closed, <-minted); err != nil {
		t.Error(err)
	}
}

// counted counts the commands that name a word, and tells of each.
type counted struct {
	word string
	n    *atomic.Int64
	came chan string // told as far as it has room
}

func (c counted) note(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if text := cmd.String(); strings.Contains(text, c.word) {
			c.n.Add(1)
			select {
			case c.came <- text:
			default:
			}
		}
	}
}

func (c counted) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c counted) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.note(cmds...); return next(ctx, cmds) }
}

func (c counted) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.note(cmd); return next(ctx, cmd) }
}

// However slow the provider is: who waits for a first mint hears that its holder lives, and does not ask.
func TestAWaiterForAFirstMintDoesNotPoll(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.ZoomServerToServer()})
	f.lease = 3 * time.Second
	gate := f.server.Hold(refreshtest.AfterCommit)
	rdb := f.redis.Client(t)
	w, waits := f.worker(f.minter(1)), f.workerOn(rdb, f.minter(1))
	minted := make(chan error, 2)
	go func() { minted <- w.Connect(f.ctx(), "acme", nil) }()
	gate.Await(t)
	tried := make(chan struct{}, 1)
	rdb.AddHook(after(func(cmd redis.Cmder) {
		if cmd.Name() == "pttl" { // the lease is held, and this says for how long: its try is over
			select {
			case tried <- struct{}{}:
			default:
			}
		}
	}))
	go func() { minted <- waits.Connect(f.ctx(), "acme", nil) }()
	<-tried
	asked := counted{"{zoom:acme}:", new(atomic.Int64), nil}
	rdb.AddHook(asked)
	time.Sleep(2 * f.lease)
	if n := asked.n.Load(); n > 6 { // a look is two, and it would look six times if it did so whenever the holder speaks
		t.Errorf("%d commands about the grant in two leases", n)
	}
	gate.Release()
	if err := errors.Join(<-minted, <-minted); err != nil {
		t.Error(err)
	}
	if n := len(f.server.Ledger()); n != 1 {
		t.Errorf("%d mints", n)
	}
}
