package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// hangingUp ends the connection under the next so many scripts.
type hangingUp struct{ left atomic.Int64 }

func (h *hangingUp) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if (cmd.Name() == "evalsha" || cmd.Name() == "eval") && h.left.Add(-1) >= 0 {
			cmd.SetErr(io.EOF)
			return io.EOF
		}
		return next(ctx, cmd)
	}
}

func (h *hangingUp) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *hangingUp) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A network that breaks a connection is no proxy that knows no scripts.
func TestAConnectionThatEndsOnceMakesNoRedisUnfit(t *testing.T) {
	t.Parallel()
	k := grant.Key{App: "zoom", Tenant: "acme"}
	for _, ends := range []int64{1, 2} {
		c := freshCache(t)
		hook := &hangingUp{}
		hook.left.Store(ends)
		c.rdb.AddHook(hook)
		if err := c.Grant(k).Fit(t.Context(), false); err != nil {
			t.Errorf("after %d connections that ended: %v", ends, err)
		}
	}
	c := freshCache(t)
	hook := &hangingUp{}
	hook.left.Store(1 << 30)
	c.rdb.AddHook(hook)
	if err := c.Grant(k).Fit(t.Context(), false); !errors.Is(err, grant.ErrUnfit) {
		t.Errorf("a server that ends them all: %v", err)
	}
}

func TestAClusterClientOfASingleRedisIsUnfit(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{redistest.Start(t).Addr()}})
	t.Cleanup(func() { _ = rdb.Close() })
	c := newCache(t, rdb, redistest.Prefix(t))
	if err := c.Grant(acme).Fit(t.Context(), true); !errors.Is(err, grant.ErrUnfit) || !strings.Contains(err.Error(), store.TodoSingle) {
		t.Error(err)
	}
}
