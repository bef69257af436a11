package redistest

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOwnServerIsGoneAfterItsTest(t *testing.T) {
	var addr string
	t.Run("inner", func(t *testing.T) {
		s := Own(t)
		must(t, s.Client(t).Ping(ctx).Err())
		addr = s.Addr()
	})
	if _, err := probe(addr); err == nil {
		t.Fatal("the server still answers")
	}
}

func TestOwnServersAreSeparate(t *testing.T) {
	a, b := Own(t).Client(t), Own(t).Client(t)
	must(t, a.Set(ctx, "k", "a", 0).Err())
	if err := b.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
		t.Fatalf("the other server knows the key: %v", err)
	}
}

func TestKilledServerKeepsWhatItAcknowledgedUnderAOF(t *testing.T) {
	s := Own(t, AOF())
	rdb := s.Client(t)
	must(t, rdb.Set(ctx, "k", "kept", 0).Err())
	s.Kill(t)
	if _, err := probe(s.Addr()); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Restart(t)
	if got, err := rdb.Get(ctx, "k").Result(); got != "kept" {
		t.Fatalf("GET after the restart: %q, %v", got, err)
	}
}

func TestRestartWithoutAOFForgetsEverything(t *testing.T) {
	s := Own(t)
	rdb := s.Client(t)
	must(t, rdb.Set(ctx, "k", "v", 0).Err())
	s.Restart(t)
	if n, err := rdb.DBSize(ctx).Result(); n != 0 || err != nil {
		t.Fatalf("DBSIZE after the restart: %d, %v", n, err)
	}
}

func TestPausedServerIsSilentUntilResume(t *testing.T) {
	s := Own(t)
	conn, err := net.Dial("tcp", s.Addr())
	must(t, err)
	defer conn.Close()
	pong := func() {
		t.Helper()
		if got, err := hear(conn, patience); got != "+PONG\r\n" {
			t.Fatalf("PING: %q, %v", got, err)
		}
	}
	say(t, conn, "PING")
	pong()
	s.Pause(t)
	say(t, conn, "PING")
	if got, err := hear(conn, 50*time.Millisecond); !timedOut(err) {
		t.Fatalf("PING of a paused server: %q, %v, want a timeout", got, err)
	}
	s.Resume(t)
	pong()
}

func timedOut(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

func TestStartSharesTheServerInREDIS_ADDR(t *testing.T) {
	own := Own(t)
	t.Setenv("REDIS_ADDR", own.Addr())
	s := Start(t)
	if s.Addr() != own.Addr() {
		t.Fatalf("Start took %s, not REDIS_ADDR", s.Addr())
	}
	harm := map[string]func(testing.TB){
		"Kill":     s.Kill,
		"Restart":  s.Restart,
		"Pause":    s.Pause,
		"Resume":   s.Resume,
		"Commands": func(tb testing.TB) { Commands(tb, s.Client(t), func() {}) },
	}
	for name, do := range harm {
		if !fails(t, do) {
			t.Errorf("%s is allowed on a shared server", name)
		}
	}
	must(t, own.Client(t).Ping(ctx).Err())
}

func TestStartWithoutAnyRedisFails(t *testing.T) {
	t.Setenv("REDIS_ADDR", "")
	t.Setenv("REDIS_SERVER", "")
	t.Setenv("PATH", t.TempDir())
	if !fails(t, func(tb testing.TB) { Start(tb) }) {
		t.Fatal("Start found a Redis on an empty PATH")
	}
}

func TestTheServerInREDIS_SERVERIsTheOneThatStarts(t *testing.T) {
	server, err := binary()
	must(t, err)
	elsewhere := filepath.Join(t.TempDir(), "another-name")
	must(t, os.WriteFile(elsewhere, []byte("#!/bin/sh\necho \"$0\" >>\"$0.starts\"\nexec "+server+" \"$@\"\n"), 0o700))
	t.Setenv("REDIS_SERVER", elsewhere)
	t.Setenv("REDIS_ADDR", "")
	must(t, Start(t).Client(t).Ping(ctx).Err())
	StartFailover(t)
	if starts, err := os.ReadFile(elsewhere + ".starts"); err != nil || strings.Count(string(starts), "\n") < 4 {
		t.Errorf("not one for Start, two for the failover and its Sentinel: %q, %v", starts, err)
	}
	t.Setenv("REDIS_SERVER", elsewhere+"-which-is-not-there")
	if !fails(t, func(tb testing.TB) { Own(tb) }) {
		t.Error("a server that is not there is no reason to fail")
	}
}

func TestKeysUnderAPrefixLeaveASharedServerWithTheTest(t *testing.T) {
	own := Own(t)
	rdb := own.Client(t)
	must(t, rdb.Set(ctx, "foreign", "stays", 0).Err())
	t.Setenv("REDIS_ADDR", own.Addr())
	t.Run("inner {with} odd/name", func(t *testing.T) {
		must(t, rdb.Set(ctx, Prefix(t)+":k", "v", 0).Err())
	})
	if keys := rdb.Keys(ctx, "*").Val(); len(keys) != 1 || keys[0] != "foreign" {
		t.Fatalf("keys left: %q", keys)
	}
}

func TestPrefixesNeverRepeat(t *testing.T) {
	if a, b := Prefix(t), Prefix(t); a == b || notPlain.MatchString(strings.ReplaceAll(a, "-", "")) {
		t.Fatalf("prefixes %q and %q", a, b)
	}
}

// The test runs itself in a child process, which says the address of its server
// and is then killed.
func TestNoServerOutlivesAKilledTestProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a child with its parent")
	}
	if os.Getenv("REDISTEST_CHILD") != "" {
		os.Stdout.WriteString(Own(t).Addr() + "\n")
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "REDISTEST_CHILD=1")
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	must(t, child.Process.Kill())
	_ = child.Wait() // killed
	await(t, "the orphan to go", func() bool {
		_, err := probe(strings.TrimSpace(line))
		return err != nil
	})
}

func TestWritesAfterThePartingAreLostWithTheMaster(t *testing.T) {
	f := StartFailover(t)
	rdb := f.Client(t)
	f.Replica.Pause(t) // so that it has not got it yet when the parting begins
	must(t, rdb.Set(ctx, "before", "kept", 0).Err())
	resumed := make(chan struct{})
	go func() {
		defer close(resumed)
		await(t, "the parting to wait for the replica", func() bool {
			info, err := probe(f.Master.addr)
			return err == nil && info["blocked_clients"] == "1"
		})
		f.Replica.Resume(t)
	}()
	f.Part(t)
	<-resumed
	must(t, rdb.Set(ctx, "after", "lost", 0).Err())
	f.Fail(t)
	await(t, "the client to find the new master", func() bool { return rdb.Ping(ctx).Err() == nil })
	got, err := rdb.MGet(ctx, "before", "after").Result()
	if err != nil || got[0] != "kept" || got[1] != nil {
		t.Errorf("the new master has %v, %v", got, err)
	}
	must(t, rdb.Set(ctx, "again", "taken", 0).Err())
}

// Between the parting and the master's end a test on a busy machine may take its time.
func TestAReplicaThatWasPartedForSecondsTakesOverAllTheSame(t *testing.T) {
	f := StartFailover(t)
	f.Part(t)
	await(t, "the replica to have been alone for a while", func() bool {
		info, err := probe(f.Replica.addr)
		seconds, _ := strconv.Atoi(info["master_link_down_since_seconds"])
		return err == nil && seconds > 5
	})
	f.Fail(t)
}
