package redistest

import (
	"cmp"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience bounds every wait of this package. It is long because several
// test packages share few cores; a wait ends as soon as its probe succeeds.
const patience = 30 * time.Second

// Server is a Redis that tests talk to. It is private to the test unless
// [Start] found one in REDIS_ADDR.
//
// Kill, Restart, Pause and Resume are for the goroutine of the test.
type Server struct {
	addr string
	dir  string
	args []string
	env  []string
	proc *process // nil: a shared server, which no test may stop

	certs   *Certs // nil: no TLS
	tlsAddr string

	cluster bool // it is a node of one
	busAddr string
}

// Option changes how a private server is started.
type Option func(*Server)

// AOF makes the server keep its data over [Server.Kill] and [Server.Restart]:
// an append-only file, synced every second. A killed process loses nothing that it
// acknowledged, since Redis writes the file before it answers; the second
// is what a machine may lose.
func AOF() Option {
	return func(s *Server) { s.set("appendonly", "yes"); s.set("appendfsync", "everysec") }
}

// Set gives redis-server one more configuration directive, as in redis.conf.
func Set(directive string, values ...string) Option {
	return func(s *Server) { s.set(directive, values...) }
}

func (s *Server) set(directive string, values ...string) {
	s.args = append(append(s.args, "--"+directive), values...)
}

// Start returns the shared server in REDIS_ADDR, or else a private one. Tests that
// use it keep to keys under [Prefix].
func Start(t testing.TB) *Server {
	t.Helper()
	if addr := os.Getenv("REDIS_ADDR"); addr != "" {
		return shared(t, addr)
	}
	if _, err := binary(); err != nil {
		t.Fatalf("redistest: no Redis: %v: run `make test`, or set REDIS_ADDR=host:port or REDIS_SERVER=path, or put redis-server on PATH", err)
	}
	return Own(t)
}

func shared(t testing.TB, addr string) *Server {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience / 3); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err = probe(addr); err == nil {
			return &Server{addr: addr}
		}
	}
	t.Fatalf("redistest: the Redis in REDIS_ADDR=%s: %v", addr, err)
	return nil
}

// binary is the server that tests start: REDIS_SERVER, or else redis-server from PATH. Run with
// --sentinel it is a Sentinel, whatever its name.
func binary() (string, error) {
	return exec.LookPath(cmp.Or(os.Getenv("REDIS_SERVER"), "redis-server"))
}

// Own returns a private server, which is stopped when the test ends. The
// test is skipped where no redis-server is installed.
func Own(t testing.TB, opts ...Option) *Server {
	t.Helper()
	if _, err := binary(); err != nil {
		if os.Getenv("REDIS_SERVER") != "" {
			t.Fatalf("redistest: REDIS_SERVER: %v", err)
		}
		t.Skip("redistest: this test needs a Redis server of its own, and there is no redis-server on PATH")
	}
	s := &Server{dir: t.TempDir()}
	s.set("save", "")
	s.set("appendonly", "no")
	for _, opt := range opts {
		opt(s)
	}
	t.Cleanup(s.stop)
	s.launch(t)
	return s
}

// launch starts the server on a port nobody uses. Between our look and Redis'
// bind another process may take the port: then redis-server exits, and the
// next port is tried.
func (s *Server) launch(t testing.TB) {
	t.Helper()
	for range 20 {
		if s.addr = freeAddr(t); s.certs != nil {
			s.tlsAddr = freeAddr(t)
		}
		if s.cluster {
			s.busAddr = freeAddr(t) // default is port+10000: may be taken
		}
		if s.run(t) {
			return
		}
	}
	t.Fatalf("redistest: redis-server does not start; it says:\n%s", s.proc.output())
}

// run starts the process and reports whether it came to answer; false means
// that it exited.
func (s *Server) run(t testing.TB) bool {
	t.Helper()
	proc, err := start(s.dir, s.commandLine(), s.env)
	if err != nil {
		t.Fatalf("redistest: start redis-server: %v", err)
	}
	s.proc = proc
	// Ask who answers: on a port that was lost in a race it may be
	// another test's Redis.
	await(t, "redis-server on "+s.addr+" to answer", func() bool {
		info, err := probe(s.addr)
		return proc.exited() || err == nil && info["process_id"] == strconv.Itoa(proc.pid()) && info["loading"] == "0"
	})
	return !proc.exited()
}

func (s *Server) commandLine() []string {
	_, port := split(s.addr)
	fixed := []string{"--bind", loopback, "--port", strconv.Itoa(port), "--dir", s.dir, "--daemonize", "no"}
	if s.certs != nil {
		for i, word := range s.certs.directives(s.tlsAddr) {
			if i%2 == 0 {
				word = "--" + word
			}
			fixed = append(fixed, word)
		}
	}
	if s.cluster {
		_, bus := split(s.busAddr)
		fixed = append(fixed, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus))
	}
	return append(fixed, s.args...)
}

func (s *Server) stop() {
	if s.proc != nil { // nil: it never started
		s.proc.kill()
	}
}

// Addr is the server's host:port.
func (s *Server) Addr() string { return s.addr }

// Client returns a new client, closed when the test ends.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	return s.ClientWith(t, func(*redis.Options) {})
}

// ClientWith is [Server.Client] for tests which alter the options, for example
// Addr, to go through a [Proxy].
func (s *Server) ClientWith(t testing.TB, alter func(*redis.Options)) *redis.Client {
	t.Helper()
	opts := &redis.Options{Addr: s.addr}
	alter(opts)
	rdb := redis.NewClient(opts)
	t.Cleanup(func() { _ = rdb.Close() }) // the test may have closed it
	return rdb
}

// Kill ends the server as a crash does, by SIGKILL.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mine(t)
	s.proc.kill()
}

// Restart starts the server again, on the same port and with the same
// directory, and waits until it has loaded what it kept. A running server is
// killed first.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill(t)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if s.run(t) {
			return
		}
	}
	t.Fatalf("redistest: redis-server does not start again on %s; it says:\n%s", s.addr, s.proc.output())
}

// Pause stops the server's process, so that connections stay open and nothing
// answers, until [Server.Resume].
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	s.mine(t)
	if err := s.proc.pause(); err != nil {
		t.Fatalf("redistest: pause redis-server: %v", err)
	}
}

// Resume lets a paused server go on.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.mine(t)
	if err := s.proc.resume(); err != nil {
		t.Fatalf("redistest: resume redis-server: %v", err)
	}
}

func (s *Server) mine(t testing.TB) {
	t.Helper()
	if s.proc == nil {
		t.Fatal("redistest: the server in REDIS_ADDR is shared: take a private one with Own to stop or count")
	}
}
