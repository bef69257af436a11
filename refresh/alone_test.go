package refresh_test

import (
	"context"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// stackOf notes the goroutine in which a command is sent.
type stackOf struct {
	command string
	stack   atomic.Pointer[string]
}

func (s *stackOf) DialHook(next redis.DialHook) redis.DialHook { return next }
func (s *stackOf) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (s *stackOf) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == s.command {
			text := string(debug.Stack())
			s.stack.Store(&text)
		}
		return next(ctx, cmd)
	}
}

// A caller that stays until the end reads a token that memory has no room for itself; for one that
// can leave another goroutine does, since nothing interrupts a command.
func TestACallerThatCannotLeaveReadsTheTokenItself(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	w := f.roomy(1)
	for _, tenant := range []string{"acme", "zenith", "umbrella"} {
		f.connect(w, tenant, false)
	}
	f.token(w, "acme") // memory is full
	for w.cache.Grant(key("acme")).Peek() == nil {
		f.token(w, "acme")
	}
	seen := &stackOf{command: "getrange"}
	w.rdb.(*redis.Client).AddHook(seen)
	for tenant, leaves := range map[string]bool{"zenith": false, "umbrella": true} {
		ctx := context.Background()
		if leaves {
			ctx = f.ctx()
		}
		seen.stack.Store(nil)
		if _, err := w.Token(ctx, tenant); err != nil {
			t.Fatal(err)
		}
		stack := seen.stack.Load()
		if stack == nil {
			t.Fatal("the pair was not read alone: nothing is proven")
		}
		if itself := strings.Contains(*stack, "TestWhoCannotLeave"); itself == leaves {
			t.Errorf("a caller that can leave: %v, reads itself: %v", leaves, itself)
		}
	}
}
