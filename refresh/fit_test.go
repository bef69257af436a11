package refresh_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// meddler is a proxy that changes what goes through it.
type meddler struct {
	ln   net.Listener
	work sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

// meddle starts a proxy to target. Each edit returns what is passed on; nil closes the connection.
func meddle(t *testing.T, target string, ask, answer func([]byte) []byte) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meddler{ln: ln}
	m.work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				conn.Close()
				continue
			}
			m.mu.Lock()
			m.conns = append(m.conns, conn, server)
			m.mu.Unlock()
			m.work.Go(func() { pump(server, conn, ask) })
			m.work.Go(func() { pump(conn, server, answer) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		m.mu.Lock()
		for _, c := range m.conns {
			c.Close()
		}
		m.mu.Unlock()
		m.work.Wait()
	})
	return ln.Addr().String()
}

func pump(to io.WriteCloser, from io.ReadCloser, edit func([]byte) []byte) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		out := edit(buffer[:n])
		if out == nil {
			return
		}
		if _, err := to.Write(out); err != nil {
			return
		}
	}
}

func asItIs(b []byte) []byte { return b }

// replaced exchanges words of the same length, so that the server does not know a command.
func replaced(pairs ...string) func([]byte) []byte {
	return func(b []byte) []byte {
		for i := 0; i < len(pairs); i += 2 {
			b = bytes.ReplaceAll(b, []byte(pairs[i]), []byte(pairs[i+1]))
		}
		return b
	}
}

// closing is a proxy that closes the connection at a command.
func closing(at ...string) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, name := range at {
			if bytes.Contains(b, []byte("\r\n"+name+"\r\n")) {
				return nil
			}
		}
		return b
	}
}

func addr(addr string) func(*redis.Options) {
	return func(o *redis.Options) { o.Addr, o.MaxRetries = addr, 1 }
}

// A Redis that cannot do what is needed is said so, in words, at the first call: and not when the first
// token expires.
func TestTheFirstCallNamesWhatAnUnfitRedisLacks(t *testing.T) {
	t.Parallel()
	user := func(rules ...string) func(*testing.T, *redistest.Server) func(*redis.Options) {
		return func(t *testing.T, s *redistest.Server) func(*redis.Options) {
			t.Helper()
			all := append([]string{"on", ">secret", "~*", "&*", "+@all"}, rules...)
			if err := s.Client(t).ACLSetUser(t.Context(), "worker", all...).Err(); err != nil {
				t.Fatal(err)
			}
			return func(o *redis.Options) { o.Username, o.Password = "worker", "secret" }
		}
	}
	through := func(ask, answer func([]byte) []byte) func(*testing.T, *redistest.Server) func(*redis.Options) {
		return func(t *testing.T, s *redistest.Server) func(*redis.Options) {
			return addr(meddle(t, s.Addr(), ask, answer))
		}
	}
	for name, c := range map[string]struct {
		options []redistest.Option
		client  func(*testing.T, *redistest.Server) func(*redis.Options)
		says    []string
	}{
		"no TIME":              {client: user("-time"), says: []string{"TIME", "right"}},
		"no scripts":           {client: user("-eval", "-evalsha"), says: []string{"NOPERM", "right"}},
		"no PTTL, for waiters": {client: user("-pttl"), says: []string{"pttl", "right"}},
		"no HSET":              {client: user("-hset"), says: []string{"hset", "right"}},
		"no MULTI":             {client: user("-multi"), says: []string{"multi", "right"}},
		"a wrong password": {client: func(t *testing.T, s *redistest.Server) func(*redis.Options) {
			user()(t, s)
			return func(o *redis.Options) { o.Username, o.Password = "worker", "another" }
		}, says: []string{"user name and password"}},
		"keys elsewhere":                 {client: user("resetkeys", "~other:*"), says: []string{"key", "right"}},
		"EVALSHA renamed":                {options: []redistest.Option{redistest.Set("rename-command", "EVALSHA", "x1")}, says: []string{"EVALSHA"}},
		"PEXPIRE renamed":                {options: []redistest.Option{redistest.Set("rename-command", "PEXPIRE", "x2")}, says: []string{"pexpire"}},
		"a proxy without EVAL":           {client: through(replaced("\r\nevalsha\r\n", "\r\nevalxxx\r\n", "\r\neval\r\n", "\r\nevax\r\n"), asItIs), says: []string{"not known", "proxy"}},
		"a proxy without MULTI":          {client: through(replaced("\r\nmulti\r\n", "\r\nmultx\r\n"), asItIs), says: []string{"not known", "MULTI"}},
		"a proxy that closes at MULTI":   {client: through(closing("multi"), asItIs), says: []string{"closes the connection", "MULTI"}},
		"a proxy that closes at scripts": {client: through(closing("evalsha", "eval"), asItIs), says: []string{"closes the connection", "EVAL"}},
		"a proxy that closes at HELLO":   {client: through(closing("hello"), asItIs), says: []string{"closes the connection", "HELLO"}},
		"Redis 6.2": {client: through(
			replaced("redis.acl_check_cmd", "redis.acl_chxxk_cmd"),
			replaced("redis_version:7", "redis_version:6", "redis_version:8", "redis_version:6")), says: []string{"7.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.redis = redistest.Own(t, c.options...)
			alter := func(*redis.Options) {}
			if c.client != nil {
				alter = c.client(t, f.redis)
			}
			log := &lines{}
			with := func(cfg *refresh.Config) { cfg.Log = zerolog.New(log) }
			unfit := func(call string, err error) {
				t.Helper()
				e := kind(t, err, refresh.ErrClientConfig, "redis_unfit")
				if e.RetryAfter != 0 {
					t.Errorf("%s: try again in %v: that does not help", call, e.RetryAfter)
				}
				for _, part := range c.says {
					if !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(part)) {
						t.Errorf("%s: the error does not say %q: %v", call, part, err)
					}
				}
			}
			w, other := f.workerOn(f.redis.ClientWith(t, alter), with), f.workerOn(f.redis.ClientWith(t, alter))
			unfit("Connect", f.inTime(func() error { return w.Connect(f.ctx(), "acme", f.server.Grant("acme")) }))
			unfit("Token", f.inTime(func() error { _, err := other.Token(f.ctx(), "acme"); return err }))
			f.run(w)
			f.eventually("the log to say it", func() bool { return log.has(`"level":"error"`, "must be mended") })
			if n := len(f.server.Ledger()); n != 0 {
				t.Errorf("%d exchanges", n)
			}
		})
	}
}

// inTime makes a call again in which Redis' answer to a try took longer than the second that it has, as on a busy
// machine.
func (f *fleet) inTime(call func() error) (err error) {
	f.t.Helper()
	for range 5 {
		start := time.Now()
		if err = call(); !errors.Is(err, refresh.ErrUnavailable) || time.Since(start) < time.Second {
			break
		}
	}
	return err
}

// What a Redis says for the moment is not the operator's.
func TestTroubleThatHealsByItselfIsNotTheOperators(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	replica := redistest.Own(t)
	host, port, _ := net.SplitHostPort(f.redis.Addr())
	if err := replica.Client(t).Do(f.ctx(), "replicaof", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	err := f.workerOn(replica.Client(t)).Connect(f.ctx(), "acme", f.server.Grant("acme"))
	e := kind(t, err, refresh.ErrUnavailable, "redis_readonly")
	if e.RetryAfter == 0 || !strings.Contains(err.Error(), "replica") {
		t.Errorf("%v", err)
	}

	// A server that vanishes is away, and no proxy.
	f.connect(f.worker(), "acme", true)
	w := f.worker()
	f.redis.Kill(t)
	_, err = w.Token(f.ctx(), "acme")
	kind(t, err, refresh.ErrUnavailable, "")
}

// A server that is spoken to in plain and wants TLS says no more than that it does not understand.
func TestAPortThatWantsTLSIsNamedInTheError(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{"\x15\x03\x03\x00\x02\x02\x28": "TLSConfig", "": "TLS"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 1<<10))
				_, _ = conn.Write([]byte(name))
				conn.Close()
			}
		}()
		f := newFleet(t, refreshtest.Config{})
		rdb := redis.NewClient(&redis.Options{Addr: ln.Addr().String(), MaxRetries: -1})
		defer rdb.Close()
		err = f.workerOn(rdb).Connect(f.ctx(), "acme", f.server.Grant("acme"))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: the error does not say %q: %v", name, says, err)
		}
	}
}
