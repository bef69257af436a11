package redistest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Failover is a private master with one replica, and a Sentinel that makes the replica the
// master when the master is gone.
type Failover struct {
	Master, Replica *Server
	sentinel        string // host:port
	certs           *Certs // nil: no TLS
	sentinelTLS     string // host:port
}

const masterName = "tl-test"

// StartFailover returns a Failover in good order, which is stopped when the test ends. The
// test is skipped where no redis-server is installed.
func StartFailover(t testing.TB, opts ...Option) *Failover {
	t.Helper()
	master := Own(t, append(opts, Set("repl-diskless-sync-delay", "0"))...)
	f := &Failover{Master: master, certs: master.certs}
	host, port := split(f.masterAddr())
	f.Replica = Own(t, append(opts, Set("replicaof", host, strconv.Itoa(port)))...)
	await(t, "the replica to follow", f.Replica.follows)
	f.watch(t)
	return f
}

// masterAddr returns where the Sentinel and the replica reach the first master.
func (f *Failover) masterAddr() string { return cmp.Or(f.Master.tlsAddr, f.Master.addr) }

// watch starts the Sentinel, which is a redis-server that keeps what it learns in its
// configuration file. It bears three seconds of silence: on a busy machine a master that lives can be silent
// for a moment. Ten times that is how long a replica may have been parted when it takes the master's place.
func (f *Failover) watch(t testing.TB) {
	t.Helper()
	host, port := split(f.masterAddr())
	for range 20 {
		f.sentinel = freeAddr(t)
		_, own := split(f.sentinel)
		dir := t.TempDir()
		file := filepath.Join(dir, "sentinel.conf")
		text := fmt.Sprintf(`bind %s
port %d
dir %s
sentinel monitor %s %s %d 1
sentinel down-after-milliseconds %[4]s 3000
sentinel failover-timeout %[4]s 3000
`, loopback, own, dir, masterName, host, port)
		if f.certs != nil {
			f.sentinelTLS = freeAddr(t)
			for line := range slices.Chunk(f.certs.directives(f.sentinelTLS), 2) {
				text += strings.Join(line, " ") + "\n"
			}
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		proc, err := start(dir, []string{file, "--sentinel"}, nil)
		if err != nil {
			t.Fatalf("redistest: start a Sentinel: %v", err)
		}
		t.Cleanup(proc.kill)
		await(t, "the Sentinel to know the replica", func() bool {
			info, err := probe(f.sentinel)
			return proc.exited() || err == nil && info["process_id"] == strconv.Itoa(proc.pid()) &&
				info["master0"] == fmt.Sprintf("name=%s,status=ok,address=%s,slaves=1,sentinels=1", masterName, f.masterAddr())
		})
		if !proc.exited() {
			return
		}
	}
	t.Fatal("redistest: no Sentinel starts")
}

// Client returns a new client that asks the Sentinel who the master is, closed when the test
// ends.
func (f *Failover) Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: masterName, SentinelAddrs: []string{f.sentinel}})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Part takes the replica from the master, once it has all that was written before: what is
// written from now on is lost with the master.
func (f *Failover) Part(t testing.TB) {
	t.Helper()
	Part(t, f.Master, f.Replica)
}

// Rejoin starts the master that [Failover.Fail] killed again, as the replica of the new one.
func (f *Failover) Rejoin(t testing.TB) {
	t.Helper()
	f.Master.Restart(t)
	host, port := split(f.Replica.addr)
	rdb := f.Master.Client(t)
	await(t, "the old master to follow", func() bool {
		// Again and again: the Sentinel may have something to say, too.
		_ = rdb.ReplicaOf(context.Background(), host, strconv.Itoa(port)).Err()
		return f.Master.follows()
	})
}

// follows reports whether a replica has its master's data.
func (s *Server) follows() bool {
	info, err := probe(s.addr)
	return err == nil && info["master_link_status"] == "up" && info["master_sync_in_progress"] == "0"
}

// Part takes a replica from its master, as [Failover.Part].
func Part(t testing.TB, from, of *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	master, replica := from.Client(t), of.Client(t)
	// Redis 8 and Valkey know of no write that WAIT could wait for on a connection that made none.
	// The replica takes all writes in their order: with this one it has all before it.
	own := master.Conn()
	defer own.Close()
	if err := own.Publish(ctx, "redistest", "parting").Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := own.Wait(ctx, 1, patience).Result(); err != nil || n != 1 {
		t.Fatalf("redistest: the replica does not follow: %d, %v", n, err)
	}
	for _, step := range []*redis.StatusCmd{ // a user that the master does not know
		replica.ConfigSet(ctx, "masteruser", "nobody"), replica.ConfigSet(ctx, "masterauth", "nothing"),
	} {
		if err := step.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := master.ClientKillByFilter(ctx, "TYPE", "slave").Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "the replica to be alone", func() bool {
		info, err := probe(of.addr)
		return err == nil && info["master_link_status"] == "down"
	})
}

// Fail kills the master, and returns when the replica has taken its place.
func (f *Failover) Fail(t testing.TB) {
	t.Helper()
	f.Master.Kill(t)
	f.Plan(t)
}

// Silence stops the master without a word, as if its host had gone, and returns when the replica has
// taken its place.
func (f *Failover) Silence(t testing.TB) {
	t.Helper()
	f.Master.Pause(t)
	f.Plan(t)
}

// PartSentinel takes the master from the Sentinel, not from its clients, and returns when the
// replica has taken its place. The old master is never told.
func (f *Failover) PartSentinel(t testing.TB) {
	t.Helper()
	if err := f.Master.Client(t).Do(context.Background(), "ACL", "SETUSER", "default", "-ping", "-replicaof", "-slaveof").Err(); err != nil {
		t.Fatal(err)
	}
	f.Plan(t)
}

// Plan has the replica take the master's place, as for maintenance, and returns when it has. The old
// master goes on for seconds as if nothing had happened.
func (f *Failover) Plan(t testing.TB) {
	t.Helper()
	sentinel := redis.NewSentinelClient(&redis.Options{Addr: f.sentinel})
	defer sentinel.Close()
	await(t, "the Sentinel to begin", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := sentinel.Failover(ctx, masterName).Err()
		return err == nil || strings.HasPrefix(err.Error(), "INPROG") // it may have begun by itself
	})
	await(t, "the replica to be the master", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		addr, err := sentinel.GetMasterAddrByName(ctx, masterName).Result()
		return err == nil && len(addr) == 2 && addr[0]+":"+addr[1] == f.Replica.addr
	})
}

// MasterName is what the Sentinel calls the master.
const MasterName = masterName

// Sentinel is the Sentinel's host:port; the one at which it wants TLS, where the servers do.
func (f *Failover) Sentinel() string { return cmp.Or(f.sentinelTLS, f.sentinel) }

// Current is the server that the Sentinel calls the master; nil if it does not say.
func (f *Failover) Current() *Server {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	sentinel := redis.NewSentinelClient(&redis.Options{Addr: f.sentinel})
	defer sentinel.Close()
	addr, err := sentinel.GetMasterAddrByName(ctx, masterName).Result()
	if err != nil || len(addr) != 2 {
		return nil
	}
	for _, s := range []*Server{f.Master, f.Replica} {
		if s.addr == addr[0]+":"+addr[1] {
			return s
		}
	}
	return nil
}

// InStep reports whether the server that is not the master follows it, and has all of its data.
func (f *Failover) InStep() bool {
	follower := f.Replica
	if f.Current() == follower {
		follower = f.Master
	}
	return follower.follows()
}

// Switch asks the Sentinel for a planned failover, which leaves both servers up. It does not wait
// for its end; the error says why there will be none.
func (f *Failover) Switch() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	sentinel := redis.NewSentinelClient(&redis.Options{Addr: f.sentinel})
	defer sentinel.Close()
	return sentinel.Failover(ctx, masterName).Err()
}
