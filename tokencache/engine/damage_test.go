package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/due"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/proof"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// damages is what each field of a record is set to.
func damages() map[string]string {
	return map[string]string{
		"no number": "abc", "an exponent": "1e3", "negative": "-1", "a sign": "+5", "a fraction": "1.5", "spaces": " 7",
		"10^18": "1000000000000000000", "2^53": "9007199254740992", "year 2255": "9000000000000", "the largest counter": "9000000000000000",
		"empty": "", "100 KB": strings.Repeat("x", 100<<10), "two lines": "x\nstate disconnected\ngen 99", "no text": "\x00\xff",
	}
}

// doors is what the scripts say of a record, and what Go says. The two must agree: where one lets
// through what the other refuses, a flight goes round and round.
func doors(t *testing.T, c *Cache, k grant.Key, base *Snapshot) (lua, goes error) {
	t.Helper()
	ks := c.Grant(k).keys()
	_, lua = c.Grant(k).run(t.Context(), "warn", store.WarnScript, []string{ks.Grant(), ks.Secret(), ks.Journal()},
		ks.Events(), c.journal, "test", base.Epoch+1, base.Generation) // never the current one: changes nothing
	return lua, second(c.Grant(k).Status(t.Context()))
}

func TestNoDamagedFieldStopsAnybodyForGood(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	prefix := redistest.Prefix(t)
	for name, value := range damages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCache(t, server.Client(t), prefix)
			for _, f := range grant.Fields {
				k := grant.Key{App: "zoom", Tenant: f.Name + "/" + name}
				base := claim(t, c, connect(t, c, k, 1), "worker")
				hset(t, c, k, f.Name, value)
				lua, goes := doors(t, c, k, base)
				if errors.Is(lua, grant.ErrDamaged) != errors.Is(goes, grant.ErrDamaged) || errors.Is(lua, grant.ErrNewer) != errors.Is(goes, grant.ErrNewer) {
					t.Errorf("%s = %.20q: scripts say %v, Go says %v", f.Name, value, lua, goes)
				}
				if goes != nil && !errors.Is(goes, grant.ErrDamaged) {
					t.Errorf("%s = %.20q: %v", f.Name, value, goes)
				}
				if goes != nil && (len(goes.Error()) > 500 || !strings.Contains(goes.Error(), k.String())) {
					t.Errorf("%s = %.20q: the error is no good: %.600v", f.Name, value, goes)
				}
				heals(t, c, k, fmt.Sprintf("%s = %.20q", f.Name, value))
			}
		})
	}
}

// heals asserts that a new consent makes a grant whole.
func heals(t *testing.T, c *Cache, k grant.Key, what string) {
	t.Helper()
	s, err := c.Grant(k).As("connector").Connect(t.Context(), pairNo(2))
	if err != nil {
		t.Errorf("%s: Connect: %v", what, err)
		return
	}
	if s.State != grant.Active || s.Pair.RefreshToken.Reveal() != "rt-2" || s.Claim.Unresolved() || s.RetryAt != 0 || s.Error != "" {
		t.Errorf("%s: Connect left %+v", what, s.Record)
	}
	if s, err = c.Grant(k).Read(t.Context()); err != nil || s.Err != nil || s.Pair.RefreshToken.Reveal() != "rt-2" {
		t.Errorf("%s: Read after Connect: %v %v", what, s, err)
		return
	}
	o, s, err := c.Grant(s.Key).As("worker").Claim(t.Context(), s, NewID(), time.Minute, grant.AfterDeadline)
	if o != grant.OutcomeOK || err != nil {
		t.Errorf("%s: claim after Connect: %s %v", what, o, err)
		return
	}
	if o, _, err = c.Grant(s.Key).As("worker").Commit(t.Context(), s, NewID(), pairNo(3)(s.At()), false, false); o != grant.OutcomeOK || err != nil {
		t.Errorf("%s: commit after Connect: %s %v", what, o, err)
	}
}

func TestAWorkerThatRemembersTheGrantHealsADamagedRecord(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	for name, value := range map[string]string{"gen": "x", "retry_at": "9000000000000000", "state": "odd", "epoch": "", "by": "a\nb", "": ""} {
		k := grant.Key{App: "zoom", Tenant: "acme-" + name}
		base := connect(t, c, k, 1)
		hot(t, c, k)
		if name == "" { // the key is of another type
			c.rdb.Del(t.Context(), c.Grant(k).keys().Grant())
			c.rdb.Set(t.Context(), c.Grant(k).keys().Grant(), "x", 0)
		} else {
			hset(t, c, k, name, value)
		}
		o, s, err := c.Grant(base.Key).As("worker").Claim(t.Context(), base, NewID(), time.Minute, grant.AfterDeadline)
		if o != grant.OutcomeMoved || err != nil || s.Generation != 1 || s.Pair.RefreshToken.Reveal() != "rt-1" {
			t.Errorf("%s = %q: claim: %s %v", name, value, o, err)
		}
		st, err := c.Grant(k).Status(t.Context())
		if err != nil || st.State != grant.Active || st.Generation != 1 || st.By != "connector" {
			t.Errorf("%s = %q: not healed: %v %v", name, value, st, err)
		}
	}
}

// A process that missed the last generation does not put its own over what is left of it.
func TestADamagedRecordIsNotHealedFromAnOlderMemory(t *testing.T) {
	t.Parallel()
	for name, aead := range map[string]grant.AEAD{"Plaintext": grant.Plaintext, "keyset": realAEAD(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, prefix := redistest.Start(t), redistest.Prefix(t)
			proxy := redistest.NewProxy(t, server.Addr())
			late := newCache(t, server.ClientWith(t, func(o *redis.Options) { o.Addr = proxy.Addr() }), prefix, sealedWith(aead))
			c := newCache(t, server.Client(t), prefix, sealedWith(aead))
			base := connect(t, c, acme, 1)
			hot(t, late, acme)
			proxy.Refuse()
			proxy.Cut()
			commit(t, c, claim(t, c, base, "worker"), 2)
			hset(t, c, acme, "rev", "x")
			proxy.Accept()
			if s, err := late.Grant(acme).Read(t.Context()); !errors.Is(err, grant.ErrDamaged) {
				t.Errorf("read %v, %v", s, err)
			}
			late.giveBackAll(t)
			if got, err := c.Grant(acme).unsealed(t, base.Epoch); err != nil || got.RefreshToken.Reveal() != "rt-2" {
				t.Errorf("the living pair was overwritten: %v %v", got, err)
			}
		})
	}
}

// giveBackAll is what a process does that hears of a loss.
func (c *Cache) giveBackAll(t *testing.T) { t.Helper(); _ = c.in.GiveBack(t.Context(), "") }

func (g Grant) unsealed(t *testing.T, epoch int64) (grant.Pair, error) {
	t.Helper()
	p, _, err := g.c.sealer.Unseal(g.key, epoch, []byte(g.c.rdb.Get(t.Context(), g.keys().Secret()).Val()))
	return p, err
}

// What is damaged may be a grant.
func TestImportLeavesADamagedGrantAlone(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	connect(t, c, acme, 1)
	hset(t, c, acme, "gen", "x")
	before := remember(t, c, acme)
	if _, err := c.Grant(acme).As("importer").Import(t.Context(), pairNo(2)); !errors.Is(err, ErrExists) {
		t.Errorf("Import: %v", err)
	}
	if after := remember(t, c, acme); after.secret != before.secret {
		t.Error("the pair was overwritten")
	}
}

func TestARecordOfALaterVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	claimed := claim(t, c, base, "worker")
	hot(t, c, acme) // remembers it as it was
	ks := c.Grant(acme).keys()
	hset(t, c, acme, "v", "3")
	all := []string{ks.Grant(), ks.Secret(), ks.Journal()}
	var before []string
	for _, key := range all {
		before = append(before, c.rdb.Dump(t.Context(), key).Val())
	}
	do := map[string]func() error{
		"Read":       func() error { return second(c.Grant(acme).Read(t.Context())) },
		"Status":     func() error { return second(c.Grant(acme).Status(t.Context())) },
		"Connect":    func() error { return second(c.Grant(acme).As("x").Connect(t.Context(), pairNo(2))) },
		"Import":     func() error { return second(c.Grant(acme).As("x").Import(t.Context(), pairNo(2))) },
		"Disconnect": func() error { return c.Grant(acme).As("x").Disconnect(t.Context()) },
		"restore":    func() error { return second(c.Grant(base.Key).in().Restore(t.Context(), base)) },
		"Claim": func() error {
			_, _, err := c.Grant(base.Key).As("x").Claim(t.Context(), base, NewID(), time.Minute, grant.AtOnce)
			return err
		},
		"Commit": func() error {
			_, _, err := c.Grant(claimed.Key).As("x").Commit(t.Context(), claimed, NewID(), pairNo(2)(base.At()), false, true)
			return err
		},
		"Fail": func() error {
			_, _, err := c.Grant(claimed.Key).As("x").Fail(t.Context(), claimed, grant.Failure{ID: NewID(), Verdict: grant.VerdictDead})
			return err
		},
		"Reject": func() error {
			_, _, err := c.Grant(base.Key).As("x").Reject(t.Context(), base, refusals(0))
			return err
		},
	}
	for name, call := range do {
		if err := call(); !errors.Is(err, grant.ErrNewer) || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := store.TouchScript.Run(t.Context(), c.rdb, []string{ks.Grant()}, 0).Err(); err != nil {
		t.Error(err)
	}
	for i, key := range all {
		if c.rdb.Dump(t.Context(), key).Val() != before[i] {
			t.Errorf("%s was changed", key)
		}
	}
	for _, v := range []string{"0", "1", "2"} {
		hset(t, c, acme, "v", v)
		if _, err := c.Grant(acme).Read(t.Context()); err != nil {
			t.Errorf("version %s: %v", v, err)
		}
	}
}

// Connect takes an Expiry of any year: what is stored of it must not count as damage.
func TestAPairsTimesAreStoredWithinBounds(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	for _, at := range []int64{math.MaxInt64, math.MinInt64, -1, 253402300799000} {
		k := grant.Key{App: "zoom", Tenant: strconv.FormatInt(at, 10)}
		wild := func(int64) grant.Pair {
			return grant.Pair{AccessToken: grant.Hide("a"), RefreshToken: grant.Hide("r"), IssuedAt: at, ExpiresAt: at, RefreshAt: at, RefreshTokenExpiresAt: at}
		}
		base, err := c.Grant(k).As("x").Connect(t.Context(), wild)
		if err != nil {
			t.Errorf("Connect with %d: %v", at, err)
			continue
		}
		pair := wild(0)
		pair.RefreshToken = grant.Hide("r2")
		o, s, err := c.Grant(base.Key).As("x").Commit(t.Context(), base, NewID(), pair, false, false)
		if err != nil || o != grant.OutcomeOK {
			t.Errorf("Commit with %d: %s %v", at, o, err)
			continue
		}
		held := c.Grant(s.Key).As("x").KeepPending(s, NewID(), pair)
		if err := held.Check(s.Now()); err != nil {
			t.Errorf("Hold with %d: %v", at, err)
		}
		if _, err := c.Grant(k).Read(t.Context()); err != nil {
			t.Errorf("Read with %d: %v", at, err)
		}
	}
}

func TestKeysOfAnotherTypeAreHealedByAConsent(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, of := range []string{"grant", "secret", "spare", "journal", "proof", "masters", "due"} {
		for _, kind := range []string{"string", "list", "hash"} {
			t.Run(of+" is a "+kind, func(t *testing.T) {
				t.Parallel()
				c := newCache(t, server.Client(t), redistest.Prefix(t))
				base := connect(t, c, acme, 1)
				key := string(c.Grant(acme).keys()) + of
				switch of {
				case "proof":
					key = c.names.Proof()
				case "masters":
					key = string(c.names) + ":masters"
				case "due":
					key = c.names.App("zoom").Due(due.ShardOf("acme"))
				}
				spoil(t, c.rdb, key, kind)
				fresh := newCache(t, c.rdb, string(c.names))
				for what, call := range map[string]func() error{
					"Read":   func() error { return second(fresh.Grant(acme).Read(t.Context())) },
					"Status": func() error { return second(fresh.Grant(acme).Status(t.Context())) },
					"Claim": func() error {
						_, _, err := fresh.Grant(base.Key).As("x").Claim(t.Context(), base, NewID(), time.Minute, grant.AtOnce)
						return err
					},
					"Spare": func() error { _, _, err := fresh.Grant(base.Key).Spare(t.Context(), base); return err },
				} {
					if err := call(); err != nil && !errors.Is(err, grant.ErrDamaged) && !errors.Is(err, grant.ErrNone) {
						t.Errorf("%s: %v", what, err)
					}
				}
				heals(t, fresh, acme, of)
				if of == "proof" {
					if got := c.rdb.Get(t.Context(), key).Val(); len(got) < proof.MinProof {
						t.Errorf("the proof key is %q", got)
					}
				}
			})
		}
	}
}

func spoil(t *testing.T, rdb redis.UniversalClient, key, kind string) {
	t.Helper()
	var err error
	rdb.Del(t.Context(), key)
	switch kind {
	case "string":
		err = rdb.Set(t.Context(), key, "x", 0).Err()
	case "list":
		err = rdb.LPush(t.Context(), key, "x").Err()
	case "hash":
		err = rdb.HSet(t.Context(), key, "x", "y").Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// All processes that find the proof key spoilt agree on one, and none takes that for a loss.
func TestASpoiltProofKeyIsMadeAnewOnce(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	rdb := server.Client(t)
	rdb.LPush(t.Context(), prefix+":proof", "x")
	keys := make([]string, 16)
	var all sync.WaitGroup
	for i := range keys {
		c := newCache(t, rdb, prefix)
		all.Go(func() { keys[i] = c.proof.Key(context.Background()) })
	}
	all.Wait()
	for _, key := range keys {
		if key != keys[0] || len(key) < proof.MinProof {
			t.Fatalf("%q", keys)
		}
	}
}

// The pair is bounded by what an answer of a provider can be; what is longer is not read.
func TestAHugeSecretIsNotReadWhole(t *testing.T) {
	server := redistest.Own(t)
	c := newCache(t, server.Client(t), "tl")
	connect(t, c, acme, 1)
	if err := c.rdb.SetRange(t.Context(), c.Grant(acme).keys().Secret(), 200<<20, "x").Err(); err != nil {
		t.Skipf("Redis has no room: %v", err)
	}
	fresh := newCache(t, server.Client(t), "tl")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := fresh.Grant(acme).Read(t.Context())
	runtime.ReadMemStats(&after)
	if err != nil || !errors.Is(s.Err, grant.ErrSealed) || s.Token() != nil {
		t.Errorf("%v %v", s, err)
	}
	allocated := (after.TotalAlloc - before.TotalAlloc) >> 20
	t.Logf("one Read allocated %d MiB", allocated)
	if allocated > 50 {
		t.Errorf("one Read allocated %d MiB", allocated)
	}
	heals(t, fresh, acme, "200 MB")
}
