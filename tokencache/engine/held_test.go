package engine

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// A pair that Redis does not take is held in memory, with the record that commit.lua would have made:
// two ways to say one thing.
func TestAPendingPairHasTheRecordThatACommitWouldHaveStored(t *testing.T) {
	t.Parallel()
	hour := int64(3_600_000)
	for name, alter := range map[string]func(now int64) []any{
		"an ordinary grant": func(int64) []any { return nil },
		"one that failed": func(now int64) []any {
			return []any{"fails", 3, "retry_at", now - 1, "error", "ambiguous//502", "error_at", now - 5}
		},
		"one that was suspect": func(now int64) []any {
			return []any{"reason", "suspect", "rejects", 2, "reject_at", now + hour, "rejected_gen", 1}
		},
		"one whose end is put off":             func(now int64) []any { return []any{"warned_at", now - hour, "rt_expires_at", now - 2*hour} },
		"one whose fixed end was said":         func(now int64) []any { return []any{"warned_at", now - hour, "rt_expires_at", now + 86_400_000} },
		"one that somebody else used":          func(int64) []any { return []any{"foreign", 2, "foreign_gen", 1} },
		"one that somebody else used before":   func(int64) []any { return []any{"foreign", 2, "foreign_gen", 0} },
		"a dead one that somebody used before": func(int64) []any { return []any{"state", "reauthorize", "foreign", 2, "foreign_gen", 0} },
		"one whose tokens die at an age":       func(int64) []any { return []any{"lived", "3600x2", "rejected_gen", 1} },
		"one of which one died at an age":      func(int64) []any { return []any{"lived", "3600x1", "rejected_gen", 0} },
		"one whose tokens live for so long":    func(int64) []any { return []any{"lived", "3420"} },
		"one that says a shorter life":         func(int64) []any { return []any{"lived", "86400"} },
		"one with a life that is none":         func(int64) []any { return []any{"lived", "0x", "rejected_gen", 0} },
		"one whose consent replaced another":   func(now int64) []any { return []any{"spare_epoch", now - hour, "past", "aaaaaaaabbbbbbbb"} },
		"one that has redeemed many": func(int64) []any {
			return []any{"spent", "11111111 22222222 33333333 44444444 55555555 66666666 77777777"}
		},
		"one that is in use":                   func(now int64) []any { return []any{"used_at", now - hour} },
		"one with an earlier unresolved claim": func(now int64) []any { return []any{"claim_prior", now + hour, "claim_n", 2} },
		"one that has died, with an unread end": func(now int64) []any {
			return []any{"state", "reauthorize", "reason", "lost_response", "error", "reauthorize/invalid_grant/400"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := freshCache(t)
			base := claim(t, c, connect(t, c, acme, 1), "holder")
			if fields := alter(base.At()); fields != nil {
				hset(t, c, acme, append(fields, "rev", base.Rev+1)...)
				base = read(t, c, acme)
			}
			id := NewID()
			pair := pairNo(2)(base.At())
			other := newCache(t, c.rdb, string(c.names)) // remembers nothing of it
			held := other.Grant(base.Key).As("a holder").KeepPending(base, id, pair)
			if o, _, err := c.Grant(base.Key).As("a holder").Commit(t.Context(), base, id, pair, false, false); err != nil || o != grant.OutcomeOK {
				t.Fatal(o, err)
			}
			stored := read(t, newCache(t, c.rdb, string(c.names)), acme)
			if !reflect.DeepEqual(held.Record, stored.Record) {
				t.Errorf("held\n%+v\nstored\n%+v", held.Record, stored.Record)
			}
		})
	}
}

// A process without a subscriber connection is told of what it does itself.
func TestAProcessHearsOfItsOwnChangesWithoutASubscription(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	acl := []any{"ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all", "-subscribe"}
	if err := server.Client(t).Do(t.Context(), acl...).Err(); err != nil {
		t.Fatal(err)
	}
	c := newCache(t, server.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "worker", "secret" }), "tl")
	var kinds []string
	defer c.App("zoom").OnChange(func(ch Change) { kinds = append(kinds, ch.Kind) })()
	base := connect(t, c, acme, 1)
	p := c.Grant(acme).Pin()
	defer p.Unpin()
	read(t, c, acme)
	reject := func(want grant.Outcome) {
		t.Helper()
		o, s, err := c.Grant(base.Key).As("a").Reject(t.Context(), base, refusals(0, time.Hour))
		if err != nil || o != want {
			t.Fatal(o, err)
		}
		base = s
	}
	reject(grant.OutcomeOK)
	base = commit(t, c, claim(t, c, base, "a"), 2)
	reject(grant.OutcomeOK)
	base = commit(t, c, claim(t, c, base, "a"), 3)
	reject(grant.OutcomeWait)
	reject(grant.OutcomeWait)
	if n := count(kinds, "suspect"); n != 1 {
		t.Errorf("told %v: suspect %d times", kinds, n)
	}
	lose(t, c, acme)
	read(t, c, acme)
	if n := count(kinds, "restore"); n != 1 {
		t.Errorf("told %v: restore %d times", kinds, n)
	}
	if slices.Contains(kinds, "reject") {
		t.Errorf("told %v: a step on the way", kinds)
	}
}

// What a process tells itself of its own changes, without hearing of them, is what the scripts tell all others.
func TestAProcessHearsOfItsOwnChangesWhatTheScriptsTellOthers(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	direct := server.Client(t)
	acl := []any{"ACL", "SETUSER", "deaf", "on", ">secret", "~*", "&*", "+@all", "-subscribe"}
	if err := direct.Do(t.Context(), acl...).Err(); err != nil {
		t.Fatal(err)
	}
	deaf := server.ClientWith(t, func(o *redis.Options) { o.Username, o.Password = "deaf", "secret" })
	compared := 0
	for _, op := range operations {
		switch {
		case slices.Contains(op.journal, "restore"), strings.HasPrefix(op.name, "read"):
			continue // the process must have listened
		case op.name == "commit repeated after its pair was spent":
			continue // others make changes meanwhile
		}
		t.Run(op.name, func(t *testing.T) {
			prefix := redistest.Prefix(t)
			w := &world{T: t, c: newCache(t, deaf, prefix), stage: newCache(t, direct, prefix), k: acme}
			call := op.call
			if call == nil {
				call = doCommit(2, false)
			}
			base := op.stage(w)
			told := listen(t, w.stage, direct, direct, w.stage.App(acme.App).ChangesChannel())
			own := []string{}
			defer w.c.App(acme.App).OnChange(func(ch Change) { own = append(own, ch.Kind) })()
			if r := call(w, base); r.err != nil {
				t.Fatal(r.err)
			}
			others := []string{}
			for _, e := range told() {
				others = append(others, e.Kind)
			}
			compared += len(others)
			if !slices.Equal(own, others) {
				t.Errorf("it tells itself %v, and others %v", own, others)
			}
		})
	}
	if compared < 20 {
		t.Errorf("%d changes: nothing is proven", compared)
	}
}

func count(kinds []string, kind string) (n int) {
	for _, k := range kinds {
		if k == kind {
			n++
		}
	}
	return n
}
