package redistest

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// through returns a client that goes through the proxy, and gives up at the first error.
func through(t *testing.T, s *Server, p *Proxy) *redis.Client {
	t.Helper()
	return s.ClientWith(t, func(o *redis.Options) {
		o.Addr, o.MaxRetries, o.DialerRetries, o.ReadTimeout = p.Addr(), -1, 1, patience
	})
}

// raw returns a bare connection through the proxy, to see what TCP shows.
func raw(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func say(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	_, err := io.WriteString(conn, line+"\r\n")
	must(t, err)
}

func hear(conn net.Conn, within time.Duration) (string, error) {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

func TestProxyEatsExactlyOneReply(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	rdb := through(t, s, p)
	eaten := p.EatReply("INCR")
	if n, err := rdb.Incr(ctx, "n").Result(); err == nil {
		t.Fatalf("the reply came: %d", n)
	}
	eaten.Await(t)
	if n := s.Client(t).Get(ctx, "n").Val(); n != "1" {
		t.Fatalf("the server counted %q: the request did not run once", n)
	}
	if n, err := rdb.Incr(ctx, "n").Result(); n != 2 {
		t.Fatalf("the next reply: %d, %v", n, err)
	}
}

func TestRetryAfterAnEatenReplyRunsTheCommandAgain(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	eaten := p.EatReply("incr")
	rdb := s.ClientWith(t, func(o *redis.Options) { o.Addr = p.Addr() })
	if n, err := rdb.Incr(ctx, "n").Result(); n != 2 {
		t.Fatalf("go-redis answered %d, %v; want 2, the repetition", n, err)
	}
	eaten.Await(t)
}

func TestEatReplyFindsArgumentsOfScripts(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	rdb := through(t, s, p)
	script := redis.NewScript(`return redis.call('SET', KEYS[1], ARGV[1])`)
	must(t, script.Run(ctx, rdb, []string{"k"}, "first").Err())
	eaten := p.EatReply("second")
	must(t, script.Run(ctx, rdb, []string{"k"}, "other").Err())
	if err := script.Run(ctx, rdb, []string{"k"}, "SECOND").Err(); err == nil {
		t.Fatal("the reply came")
	}
	eaten.Await(t)
	if v := s.Client(t).Get(ctx, "k").Val(); v != "SECOND" {
		t.Fatalf("stored %q", v)
	}
}

func TestEatenReplyInAPipelineLeavesEarlierOnesAndLosesTheRest(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	rdb := through(t, s, p)
	eaten := p.EatReply("two")
	pipe := rdb.Pipeline()
	one, two, three := pipe.Incr(ctx, "one"), pipe.Incr(ctx, "two"), pipe.Incr(ctx, "three")
	if _, err := pipe.Exec(ctx); err == nil {
		t.Fatal("the whole pipeline was answered")
	}
	eaten.Await(t)
	// go-redis gives each of them the error, but keeps the value that arrived.
	if one.Val() != 1 || two.Val() != 0 || three.Val() != 0 {
		t.Fatalf("answers: %v, %v, %v", one, two, three)
	}
	if got := s.Client(t).MGet(ctx, "one", "two", "three").Val(); got[0] != "1" || got[1] != "1" || got[2] != "1" {
		t.Fatalf("executed: %v", got)
	}
}

func TestEachOrderEatsOneReply(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	rdb := through(t, s, p)
	first, second := p.EatReply("incr"), p.EatReply("incr")
	for range 2 {
		if err := rdb.Incr(ctx, "n").Err(); err == nil {
			t.Fatal("the reply came")
		}
	}
	first.Await(t)
	second.Await(t)
	if n, err := rdb.Incr(ctx, "n").Result(); n != 3 {
		t.Fatalf("the third reply: %d, %v", n, err)
	}
}

func TestSubscribeNeverMatchesAnOrder(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	rdb := through(t, s, p)
	eaten := p.EatReply("news")
	sub := rdb.Subscribe(ctx, "news")
	defer sub.Close()
	_, err := sub.Receive(ctx)
	must(t, err)
	if err := rdb.Publish(ctx, "news", "hello").Err(); err == nil {
		t.Fatal("the reply to PUBLISH came")
	}
	eaten.Await(t)
	if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != "hello" {
		t.Fatalf("message: %v, %v", m, err)
	}
}

func TestProxyPassesRepliesOfEveryShape(t *testing.T) {
	s := Own(t)
	for name, protocol := range map[string]int{"RESP2": 2, "RESP3": 3} {
		t.Run(name, func(t *testing.T) {
			p := NewProxy(t, s.Addr())
			rdb := s.ClientWith(t, func(o *redis.Options) { o.Addr, o.Protocol = p.Addr(), protocol })
			big := strings.Repeat("x\r\n$5\r\n", 50_000)
			must(t, rdb.Set(ctx, "big", big, 0).Err())
			must(t, rdb.HSet(ctx, "hash", "a", "1").Err())
			must(t, rdb.ZAdd(ctx, "zset", redis.Z{Score: 1.5, Member: "m"}).Err())
			if got := rdb.Get(ctx, "big").Val(); got != big {
				t.Errorf("a big value came back with %d bytes", len(got))
			}
			if got := rdb.HGetAll(ctx, "hash").Val(); got["a"] != "1" {
				t.Errorf("hash: %v", got)
			}
			if got := rdb.ZRangeWithScores(ctx, "zset", 0, -1).Val(); len(got) != 1 || got[0].Score != 1.5 {
				t.Errorf("zset: %v", got)
			}
			if err := rdb.Get(ctx, "none").Err(); !errors.Is(err, redis.Nil) {
				t.Errorf("nothing: %v", err)
			}
			if err := rdb.Incr(ctx, "hash").Err(); err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
				t.Errorf("an error: %v", err)
			}
		})
	}
}

func TestFrozenConnectionsAreSilentUntilThaw(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	old := raw(t, p)
	say(t, old, "PING")
	if got, err := hear(old, patience); got != "+PONG\r\n" {
		t.Fatalf("PING before: %q, %v", got, err)
	}
	p.Freeze()
	fresh := raw(t, p)
	for _, conn := range []net.Conn{old, fresh} {
		say(t, conn, "PING")
		if got, err := hear(conn, 50*time.Millisecond); !timedOut(err) {
			t.Fatalf("PING while frozen: %q, %v", got, err)
		}
	}
	p.Thaw()
	for _, conn := range []net.Conn{old, fresh} {
		if got, err := hear(conn, patience); got != "+PONG\r\n" {
			t.Fatalf("PING after: %q, %v", got, err)
		}
	}
}

func TestFreezeHoldsBackPublishedMessages(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	conn := raw(t, p)
	say(t, conn, "SUBSCRIBE news")
	_, err := hear(conn, patience)
	must(t, err)
	p.Freeze()
	must(t, s.Client(t).Publish(ctx, "news", "hello").Err())
	if got, err := hear(conn, 50*time.Millisecond); !timedOut(err) {
		t.Fatalf("message while frozen: %q, %v", got, err)
	}
	p.Thaw()
	if got, err := hear(conn, patience); !strings.Contains(got, "hello") {
		t.Fatalf("message after: %q, %v", got, err)
	}
}

func TestFreezeHidesTheDeathOfTheServer(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	conn := raw(t, p)
	say(t, conn, "PING")
	_, err := hear(conn, patience)
	must(t, err)
	p.Freeze()
	s.Kill(t)
	if _, err := hear(conn, 50*time.Millisecond); !timedOut(err) {
		t.Fatalf("the frozen connection shows %v", err)
	}
	p.Thaw()
	if _, err := hear(conn, patience); err == nil || timedOut(err) {
		t.Fatalf("the thawed connection shows %v", err)
	}
}

func TestCutClosesFrozenConnectionsToo(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	conn := raw(t, p)
	say(t, conn, "PING")
	_, err := hear(conn, patience)
	must(t, err)
	p.Freeze()
	p.Cut()
	if _, err := hear(conn, patience); err == nil || timedOut(err) {
		t.Fatalf("the cut connection shows %v", err)
	}
	p.Thaw()
	must(t, through(t, s, p).Ping(ctx).Err())
}

func TestRefusalStopsNewConnectionsOnly(t *testing.T) {
	s := Own(t)
	p := NewProxy(t, s.Addr())
	old := raw(t, p)
	say(t, old, "PING")
	_, err := hear(old, patience)
	must(t, err)
	p.Refuse()
	if _, err := hear(raw(t, p), patience); err == nil || timedOut(err) {
		t.Fatalf("a new connection shows %v", err)
	}
	say(t, old, "PING")
	_, err = hear(old, patience)
	must(t, err)
	p.Accept()
	must(t, through(t, s, p).Ping(ctx).Err())
}

func TestProxyWithoutServerClosesConnections(t *testing.T) {
	p := NewProxy(t, freeAddr(t))
	if _, err := hear(raw(t, p), patience); err == nil || timedOut(err) {
		t.Fatalf("the connection shows %v", err)
	}
}

func TestProxyClosesWhileFrozen(t *testing.T) {
	s := Own(t)
	t.Run("inner", func(t *testing.T) {
		p := NewProxy(t, s.Addr())
		p.Freeze()
		say(t, raw(t, p), "PING")
	}) // returns, and goleak finds nothing
}
