package refresh_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// intruder is a Redis user with the right to no key, who may publish to every channel.
type intruder struct {
	*fleet
	rdb *redis.Client

	mu     sync.Mutex // guards what follows
	events []refresh.Event
	log    strings.Builder
}

func newIntruder(t *testing.T, also ...any) *intruder {
	t.Helper()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	root := f.redis.Client(t)
	rules := append([]any{"acl", "setuser", "intruder", "on", ">pw", "resetkeys", "resetchannels", "&*", "-@all", "+publish", "+hello", "+auth"}, also...)
	if err := root.Do(t.Context(), rules...).Err(); err != nil {
		t.Fatal(err)
	}
	in := &intruder{fleet: f}
	in.rdb = f.redis.ClientWith(t, func(o *redis.Options) { o.Username, o.Password, o.DisableIdentity = "intruder", "pw", true })
	if err := in.rdb.Get(t.Context(), f.prefix+":proof").Err(); !strings.HasPrefix(fmt.Sprint(err), "NOPERM") {
		t.Fatalf("the scene is not set: GET says %v", err)
	}
	return in
}

func (in *intruder) Write(line []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.log.Write(line)
}

// watched is a worker whose log and events are kept.
func (in *intruder) watched() *worker {
	in.t.Helper()
	return in.worker(func(cfg *refresh.Config) {
		cache, err := tokencache.New(cfg.Cache.Redis(), tokencache.Config{Prefix: in.prefix, AEAD: sealer(), Log: zerolog.New(in)})
		if err != nil {
			in.t.Fatal(err)
		}
		cfg.Cache = cache
		cfg.OnEvent = func(e refresh.Event) {
			in.mu.Lock()
			defer in.mu.Unlock()
			in.events = append(in.events, e)
		}
	})
}

func (in *intruder) channels() []string {
	return []string{in.prefix + ":{zoom:acme}:events", in.prefix + ":{zoom:slow}:events", in.prefix + ":events:zoom", in.prefix + ":app:zoom"}
}

// forged is one message of every kind, in the form of an older version, and with a digest that
// is none.
func (in *intruder) forged(future int64) []string {
	record := fmt.Sprintf("epoch %d\ngen 9\nrev 9\nv 2\n", future)
	bodies := []string{
		"disconnect 9\nstate disconnected\n" + record + "\n",
		"reauthorize 9\nstate reauthorize\nreason forged\n" + record + "\n",
		"claim 9\nstate active\nclaim_id x\nclaim_until 4000000000000\n" + record + "\n",
		"fail 9\nstate active\nfails 1\nerror x/y/0\nretry_at 4000000000000\n" + record + "\n",
		"commit 9\nstate active\nat_fp x\nrt_fp y\n" + record + "\n1\nplain",
		"restore 9\nstate active\n" + record + "\n", "alive 9\nlease_ms 60000\n\n", "ask 9\nepoch 1\ngen 1\nrev 1\n\n",
		"open 9\ncircuit open\nopened_at 9\nprobe_at 4000000000000\nrev 99", "throttled 9\nthrottled_until 4000000000000\nrev 99",
		"data_lost 9\nlost_at 9\nrev 99", "free 9", "x 99999999999999999999",
	}
	all := []string{"", "\n", "tl1", "tl2", "tl2 ", "tl2 \n", "tl2 x\n\n", "tl3 x\n", "\x00\xff\xfe"}
	for _, body := range bodies {
		grant := in.prefix + ":{zoom:acme}:events\n"
		for _, b := range []string{body, grant + strings.TrimSpace(body)} {
			all = append(all, "tl1 "+b, "tl2 "+strings.Repeat("0", 40)+"\n"+b, "tl2 \n"+b, grant+"tl1 "+body)
		}
	}
	return all
}

// flood publishes n messages to each channel, and returns how long that took.
func (in *intruder) flood(n int, message func(i int) string, channels ...string) time.Duration {
	in.t.Helper()
	start := time.Now()
	for done := 0; done < n; {
		pipe := in.rdb.Pipeline()
		for range min(500, n-done) {
			for _, channel := range channels {
				pipe.Publish(context.Background(), channel, message(done))
			}
			done++
		}
		if _, err := pipe.Exec(context.Background()); err != nil {
			in.t.Error(err)
			return 0
		}
	}
	return time.Since(start)
}

// untouched asserts that nothing was believed: the grant is served, its events are those that it
// had, and memory is coherent again soon.
func (in *intruder) untouched(expected int, workers ...*worker) {
	in.t.Helper()
	for _, w := range workers {
		deadline := time.Now().Add(patience)
		watch := redistest.StartStopwatch(in.t)
		for w.cache.Grant(key("acme")).Peek() == nil {
			in.token(w, "acme")
			if time.Now().After(deadline) {
				in.t.Fatal("memory does not become coherent again")
			}
			time.Sleep(time.Millisecond)
		}
		if late, over := watch.Over(5 * time.Second); over {
			in.t.Errorf("memory is coherent again only after %v", late)
		}
		st, err := w.Status(in.ctx(), "acme")
		if err != nil || st.State != tokencache.Active || st.Generation > 10 {
			in.t.Errorf("status %v, %v", st, err)
		}
	}
	in.lawful(workers[0], "acme")
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.events) > expected {
		in.t.Errorf("%d events were told, %d have happened: %+v", len(in.events), expected, in.events)
	}
	for line := range strings.Lines(in.log.String()) {
		if strings.Contains(line, "not understood") || strings.Contains(line, "lost") && !strings.Contains(line, "prove no right") && !strings.Contains(line, "the connection to Redis is lost") {
			in.t.Errorf("logged: %s", line)
		}
	}
	if n := strings.Count(in.log.String(), "prove no right"); n > len(workers) {
		in.t.Errorf("%d log lines about unproven messages of %d workers within a minute", n, len(workers))
	}
}

// patience is far above what any wait of these tests takes on a busy machine.
const patience = 30 * time.Second

func (in *intruder) eventsWhen(n int) {
	in.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		in.mu.Lock()
		got := len(in.events)
		in.mu.Unlock()
		if got >= n {
			return
		}
		if time.Now().After(deadline) {
			in.t.Fatalf("%d events, not %d", got, n)
		}
	}
}

func (in *intruder) scene() (a, b *worker) {
	in.t.Helper()
	a, b = in.watched(), in.watched()
	in.connect(a, "acme", false)
	for _, w := range []*worker{a, b} {
		for w.cache.Grant(key("acme")).Peek() == nil {
			in.token(w, "acme")
		}
	}
	in.eventsWhen(1)
	return a, b
}

func TestAUserThatMayOnlyPublishChangesNothing(t *testing.T) { // alone: it counts goroutines
	in := newIntruder(t)
	a, b := in.scene()
	in.connect(a, "slow", true)
	in.eventsWhen(2)
	gate := in.server.Hold(refreshtest.BeforeCommit, "slow")
	root := in.redis.Client(t)

	served := make(chan error, 40) // callers that wait all the while, on both workers
	for i := range cap(served) {
		w := []*worker{a, b}[i%2]
		go func() {
			_, err := w.Token(in.ctx(), "slow")
			served <- err
		}()
	}
	gate.Await(t)

	stop, busy := make(chan struct{}), sync.WaitGroup{}
	var slowest, most atomic.Int64
	for _, w := range []*worker{a, b} {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				start := time.Now()
				if _, err := w.Token(context.Background(), "acme"); err != nil {
					t.Errorf("Token: %v", err)
					return
				}
				slowest.Store(max(slowest.Load(), int64(time.Since(start))))
				most.Store(max(most.Load(), int64(runtime.NumGoroutine())))
			}
		})
	}
	before := runtime.NumGoroutine()
	forged := in.forged(time.Now().Add(time.Hour).UnixMilli())
	big := strings.Repeat("A", 1<<20)
	var took time.Duration
	calls := redistest.Commands(t, root, func() {
		took = in.flood(20_000, func(i int) string { return forged[i%len(forged)] }, in.channels()...)
		took += in.flood(20, func(int) string { return big }, in.channels()...)
		took += in.flood(20, func(int) string { return "tl2 " + strings.Repeat("0", 40) + "\n" + big }, in.channels()...)
	})
	close(stop)
	busy.Wait()
	own := redistest.Total(calls) - calls["publish"]
	t.Logf("the flood took %v; slowest Token %v; %d goroutines before, %d at most; commands %v", took, time.Duration(slowest.Load()), before, most.Load(), calls)
	// Of both workers: INFO, GET and TIME, and a read of five commands of each of two grants; and a
	// holder that extends its lease and its claim.
	if limit := 2 * 30 * (int(took/time.Second) + 2); own > limit {
		t.Errorf("the flood caused %d commands in %v: %v", own, took, calls)
	}
	if n := int(most.Load()) - before; n > 100 {
		t.Errorf("%d more goroutines", n)
	}
	watch := redistest.StartStopwatch(t)
	gate.Release()
	for range cap(served) {
		if err := <-served; err != nil {
			t.Errorf("a caller that waited: %v", err)
		}
	}
	if late, over := watch.Over(5 * time.Second); over {
		t.Errorf("callers that waited were served %v after the answer", late)
	}
	in.untouched(6, a, b) // two consents and a refresh, each told to both
	if err := b.Refresh(in.ctx(), "acme"); err != nil {
		t.Errorf("Refresh: %v", err)
	}
	in.lawful(b, "acme")
	in.lawful(b, "slow")
}

// He who may listen, too, has genuine messages, which he can repeat as long as they are believed.
func TestASenderThatRepeatsMessagesChangesNothing(t *testing.T) {
	t.Parallel()
	in := newIntruder(t, "+subscribe", "+psubscribe")
	tape := in.rdb.PSubscribe(t.Context(), in.prefix+":*")
	defer tape.Close()
	if _, err := tape.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, b := in.scene()
	if err := a.Refresh(in.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	if err := a.Disconnect(in.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	in.connect(a, "acme", false)
	in.knows(b, "acme", 3)
	if err := b.Refresh(in.ctx(), "acme"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.cache.Grant(key("acme")).Ask(in.ctx(), 1, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := a.rdb.Publish(in.ctx(), in.prefix+":end", "").Err(); err != nil {
		t.Fatal(err)
	}
	var said []*redis.Message
	kinds := map[string]bool{}
	for {
		m, err := tape.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(m.Channel, ":end") {
			break
		}
		_, body, _ := strings.Cut(m.Payload, "\n")
		kind, _, _ := strings.Cut(body, " ")
		kinds[kind] = true
		said = append(said, m)
	}
	for _, kind := range []string{"connect", "claim", "commit", "disconnect", "alive", "ask"} {
		if !kinds[kind] {
			t.Fatalf("no %s was recorded, only %v", kind, kinds)
		}
	}
	in.knows(a, "acme", 4)
	in.knows(b, "acme", 4)
	in.untouched(14, a, b)
	in.mu.Lock()
	told := len(in.events)
	in.mu.Unlock()
	fresh := in.watched() // has heard nothing of it
	in.token(fresh, "acme")

	repeat := func(n int, of []*redis.Message) (took time.Duration, calls map[string]int) {
		calls = redistest.Commands(t, in.redis.Client(t), func() {
			start := time.Now()
			for range n / 500 {
				pipe := in.rdb.Pipeline()
				for i := range 500 {
					m := of[i%len(of)]
					pipe.Publish(context.Background(), m.Channel, m.Payload)
				}
				if _, err := pipe.Exec(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			took = time.Since(start)
		})
		return took, calls
	}
	took, calls := repeat(20_000, said)
	t.Logf("20,000 repeats took %v; commands %v", took, calls)
	if limit := 3 * 20 * (int(took/time.Second) + 2); redistest.Total(calls)-calls["publish"] > limit {
		t.Errorf("repeats caused more than %d commands in %v: %v", limit, took, calls)
	}
	var asks []*redis.Message
	for _, m := range said {
		if strings.Contains(m.Payload, "\nask ") {
			asks = append(asks, m)
		}
	}
	took, calls = repeat(20_000, asks)
	t.Logf("20,000 asks took %v; commands %v", took, calls)
	if scripts := calls["evalsha"] + calls["eval"]; scripts > 3*(int(took/time.Second)+2) {
		t.Errorf("asks were answered by %d scripts of 3 processes in %v", scripts, took)
	}
	in.untouched(told+6, a, b, fresh) // the new one may be told what is younger than ten seconds, once
	for _, e := range in.events[told:] {
		if e.At.IsZero() || time.Since(e.At) > time.Minute {
			t.Errorf("an old event was told as new: %+v", e)
		}
	}
}
