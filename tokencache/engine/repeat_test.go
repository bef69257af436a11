package engine

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// recorder is somebody who may listen to all channels of a prefix, and may publish: he can say
// again what he has heard.
type recorder struct {
	t    *testing.T
	rdb  redis.UniversalClient
	ps   *redis.PubSub
	said []*redis.Message
}

func record(t *testing.T, c *Cache) *recorder {
	t.Helper()
	r := &recorder{t: t, rdb: c.rdb, ps: c.rdb.PSubscribe(context.Background(), string(c.names)+":*")}
	t.Cleanup(func() { _ = r.ps.Close() })
	if _, err := r.ps.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// stop ends the recording when everything has arrived that was published before.
func (r *recorder) stop(c *Cache) {
	r.t.Helper()
	end := string(c.names) + ":end"
	if err := r.rdb.Publish(r.t.Context(), end, "").Err(); err != nil {
		r.t.Fatal(err)
	}
	for {
		m, err := r.ps.ReceiveMessage(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		if m.Channel == end {
			return
		}
		if !strings.HasPrefix(m.Channel, c.names.Heartbeats()) { // those are nobody else's business
			r.said = append(r.said, m)
		}
	}
}

func (r *recorder) repeat() {
	r.t.Helper()
	for _, m := range r.said {
		if err := r.rdb.Publish(r.t.Context(), m.Channel, m.Payload).Err(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// age makes what was recorded an hour older, as if it had been said then.
func (r *recorder) age(c *Cache) {
	r.t.Helper()
	for _, m := range r.said {
		body, ok := c.proof.Proven(m.Channel, m.Payload)
		when := regexp.MustCompile(`(?m)^[a-z_]+ (\d{13})$`).FindStringSubmatch(body)
		if !ok || when == nil {
			r.t.Fatalf("%s: %q", m.Channel, m.Payload)
		}
		made, _ := grant.ParseNumber(when[1], grant.MaxCounter)
		body = strings.Replace(body, when[1], grant.Millis(made-time.Hour.Milliseconds()), 1)
		m.Payload = c.proof.Sign(r.t.Context(), m.Channel, body)
	}
}

// A process that is new has heard none of it, so nothing but the age of a message tells that
// it is a repeat.
func TestRepeatedMessagesTellANewProcessNothing(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	tape := record(t, c)
	base := connect(t, c, acme, 1)
	disconnect(t, c, acme)
	again := connect(t, c, acme, 2)
	again = commit(t, c, claim(t, c, again, "worker"), 3)
	if _, _, err := c.App("zoom").As("worker").Trip(t.Context(), NewID(), Refusal{Tenant: "acme", Error: "x", Tenants: 1}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := c.rdb.Del(t.Context(), c.App("zoom").AppKey()).Err(); err != nil { // an operator, long ago
		t.Fatal(err)
	}
	tape.stop(c)
	tape.age(c)
	if len(tape.said) < 8 {
		t.Fatalf("only %d messages were recorded", len(tape.said))
	}

	fresh := newCache(t, c.rdb, string(c.names))
	changes, apps := make(chan Change, 100), make(chan AppChange, 100)
	t.Cleanup(fresh.App("zoom").OnChange(func(ch Change) { changes <- ch }))
	t.Cleanup(fresh.App("zoom").OnApp(func(ch AppChange) { apps <- ch }))
	pin := fresh.Grant(acme).Pin()
	t.Cleanup(pin.Unpin)
	confirm(t, pin)
	for _, channel := range []string{fresh.App("zoom").ChangesChannel(), fresh.App("zoom").AppKey()} {
		if _, err := fresh.hub.Confirm(t.Context(), channel); err != nil {
			t.Fatal(err)
		}
	}
	before := fresh.UnprovenMessages()
	tape.repeat()
	eventually(t, "the repeats to arrive", patience, func() bool {
		return fresh.UnprovenMessages()-before >= int64(len(tape.said))
	})
	if s := fresh.Grant(acme).Recall(); s != nil {
		t.Errorf("a process that has read nothing believes in generation %d of consent %d, %s", s.Generation, s.Epoch, s.State)
	}
	if s := fresh.App("zoom").KnownApp(); s != nil && s.Open {
		t.Error("an old message has opened the circuit")
	}
	if len(changes)+len(apps) > 0 {
		t.Errorf("repeats were told as news: %d of grants, %d of the app", len(changes), len(apps))
	}
	if s := read(t, fresh, acme); s.Generation != again.Generation || s.Epoch == base.Epoch || s.Pair.RefreshToken.Reveal() != "rt-3" {
		t.Errorf("read %+v", s.Record)
	}
}

// Also one that is young enough to be believed is not all that a process knows of a grant.
func TestTheFirstLookAtAGrantIsARead(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	tape := record(t, c)
	connect(t, c, acme, 1)
	tape.stop(c)
	disconnect(t, c, acme)
	fresh := newCache(t, c.rdb, string(c.names))
	pin := fresh.Grant(acme).Pin()
	t.Cleanup(pin.Unpin)
	confirm(t, pin)
	tape.repeat()
	until(t, pin, "the repeat", func() bool { return fresh.Grant(acme).Recall() != nil })
	if s := fresh.Grant(acme).Peek(); s != nil {
		t.Errorf("the token of a disconnected tenant is served: generation %d, %s", s.Generation, s.State)
	}
	if s := read(t, fresh, acme); s.State != grant.Disconnected {
		t.Errorf("read %s", s.State)
	}
}

// Redis' clock can be set back: then all that is new seems old, until a process has asked what
// time it is.
func TestNewsAreHeardAlsoAfterRedisClockWasSetBack(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	listener := newCache(t, c.rdb, string(c.names))
	p := hot(t, listener, acme)
	listener.clock.Shift(time.Hour)
	commit(t, c, claim(t, c, base, "worker"), 2)
	until(t, p, "the commit", func() bool { s := listener.Grant(acme).Recall(); return s != nil && s.Generation == 2 })
}

// A repeat that is not yet old must not make waiters wait longer, nor wake them again and again.
func TestARepeatedSignOfLifeHoldsNoLease(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	p := hot(t, c, acme)
	tape := record(t, c)
	if err := c.Grant(acme).Alive(t.Context(), grant.MaxLease); err != nil {
		t.Fatal(err)
	}
	until(t, p, "the sign of life", func() bool { return p.LeaseHeld() > 0 })
	tape.stop(c)
	time.Sleep(2 * time.Millisecond) // so that it is told at another millisecond
	if err := c.Grant(acme).Alive(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	until(t, p, "the release", func() bool { return p.LeaseHeld() == 0 })
	told := p.LeaseNews()
	for range 1000 {
		tape.repeat()
	}
	commit(t, c, read(t, c, acme), 2) // arrives after them
	until(t, p, "the commit", func() bool { return c.Grant(acme).Peek() != nil && c.Grant(acme).Peek().Generation == 2 })
	if n := p.LeaseNews() - told; n > 0 || p.LeaseHeld() > 0 {
		t.Errorf("%d repeats were heard, and the lease seems held for %v", n, p.LeaseHeld())
	}
}
