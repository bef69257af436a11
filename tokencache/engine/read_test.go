package engine

import (
	"context"
	"net"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// between runs something between two commands of the next pipeline, as other clients' commands can.
type between struct {
	first int // commands that come before it
	run   func()
}

func (b *between) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (b *between) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (b *between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		run := b.run
		if b.run = nil; run == nil {
			return next(ctx, cmds)
		}
		if err := next(ctx, cmds[:b.first]); err != nil {
			return err
		}
		if run(); b.first == len(cmds) {
			return nil
		}
		return next(ctx, cmds[b.first:])
	}
}

// A record and a pair of two moments are not taken for one.
func TestAGrantThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*testing.T, *Cache) *Snapshot{
		"commit":     func(t *testing.T, c *Cache) *Snapshot { return commit(t, c, claim(t, c, read(t, c, acme), "w"), 2) },
		"connect":    func(t *testing.T, c *Cache) *Snapshot { return connect(t, c, acme, 2) },
		"disconnect": func(t *testing.T, c *Cache) *Snapshot { disconnect(t, c, acme); return read(t, c, acme) },
		"reconnect": func(t *testing.T, c *Cache) *Snapshot {
			disconnect(t, c, acme)
			return connect(t, c, acme, 2)
		},
	}
	for name, change := range changes {
		for first := 1; first <= 2; first++ {
			t.Run(name, func(t *testing.T) {
				server, prefix := redistest.Start(t), redistest.Prefix(t)
				other := newCache(t, server.Client(t), prefix)
				connect(t, other, acme, 1)
				rdb := server.Client(t)
				c := newCache(t, rdb, prefix)
				read(t, c, acme) // finds its connection, and the key that proves
				var want *Snapshot
				rdb.AddHook(&between{first: first, run: func() { want = change(t, other) }})
				got := read(t, c, acme)
				if got.Err != nil {
					t.Fatal(got.Err)
				}
				if first == 1 && name != "disconnect" && (got.Generation != want.Generation || got.Epoch != want.Epoch) {
					t.Errorf("read generation %d, want %d", got.Generation, want.Generation)
				}
				if got.State == grant.Active && got.Pair.AccessToken.Reveal() == "" {
					t.Error("an active grant without its pair")
				}
				if got.State == grant.Active && grant.Fingerprint(got.Pair.RefreshToken.Reveal()) != got.RefreshFP {
					t.Error("the pair is not the record's")
				}
			})
		}
	}
}

// On a Cluster a key can move while a client believes that it is where it was.
func TestAGrantIsReadWhereItHasMovedTo(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	c := newCache(t, cluster.Client(t), "tl")
	connect(t, c, acme, 1)
	read(t, c, acme)
	cluster.Move(t, c.Grant(acme).keys().Grant())
	if s := read(t, c, acme); s.Generation != 1 || s.Err != nil {
		t.Error(s.Generation, s.Err)
	}
}

// Without a map of its slots a Cluster is asked nothing.
func TestAClusterThatCannotBeDialledIsAnError(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{"127.0.0.1:1"},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
		},
	})
	defer rdb.Close()
	c := newCache(t, rdb, redistest.Prefix(t))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Grant(acme).Read(ctx); err == nil {
		t.Error("no error")
	}
}
