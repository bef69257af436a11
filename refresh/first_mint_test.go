package refresh_test

import (
	"context"
	"errors"
	"strings"
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
