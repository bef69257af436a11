package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// The names are what people on call type into redis-cli.
func TestRedisNamesAreAsDocumented(t *testing.T) {
	t.Parallel()
	c := freshCache(t, func(cfg *Config) { cfg.Prefix = "" })
	ks := c.Grant(grant.Key{App: "zoom", Tenant: "acme"}).keys()
	for got, want := range map[string]string{
		ks.Grant(): "grant", ks.Secret(): "secret", ks.Spare(): "spare", ks.Journal(): "journal",
		ks.Lock(): "lock", ks.Events(): "events", c.Grant(acme).LockKey(): "lock", c.Grant(acme).EventsChannel(): "events",
	} {
		if got != "tl:{zoom:acme}:"+want {
			t.Errorf("%s is called %s", want, got)
		}
	}
	if got := c.Grant(grant.Key{App: "my app", Tenant: "a:b}@x.y"}).keys().Grant(); got != "tl:{my%20app:a%3Ab%7D@x.y}:grant" {
		t.Error(got)
	}
}

func TestRecordFieldsAreAsDocumented(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	t.Logf("MEMORY USAGE of a usual record: %d bytes", c.rdb.MemoryUsage(t.Context(), c.Grant(acme).keys().Grant()).Val())
	claim(t, c, base, "worker")
	const usual = `at_fp by claim_at claim_by claim_id claim_n claim_until commit_id
		consent_fp consent_id epoch expires_at gen issued_at refresh_at rev rt_expires_at rt_fp state v`
	fieldsAre(t, c, usual)
	if _, _, err := c.Grant(base.Key).As("worker").Reject(t.Context(), base, refusals(0)); err != nil {
		t.Fatal(err)
	}
	fieldsAre(t, c, usual+" reject_at rejected_gen rejects")
	if !slices.Equal(slices.Sorted(slices.Values(grant.FieldNames)), slices.Sorted(slices.Values(strings.Fields(usual+` claim_prior error error_at fails reason retry_at
		reject_at rejected_gen rejects used_at warned_at foreign foreign_gen lived past spent spare_epoch refused_at revivals`)))) {
		t.Errorf("a read asks for %v", grant.FieldNames)
	}
}

func fieldsAre(t *testing.T, c *Cache, want string) {
	t.Helper()
	got, err := c.rdb.HKeys(t.Context(), c.Grant(acme).keys().Grant()).Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(strings.Fields(want))); !slices.Equal(got, want) {
		t.Errorf("fields\n%v, not\n%v", got, want)
	}
}

// Every way into the record is tried with names that are too long and too odd for it.
func TestRecordStaysCompact(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	odd := strings.Repeat("höst\n\x00\xff} ", 40)
	pin := c.Grant(acme).Pin()
	t.Cleanup(pin.Unpin)
	compact := func(when string) {
		t.Helper()
		record, err := c.rdb.HGetAll(t.Context(), c.Grant(acme).keys().Grant()).Result()
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range record {
			if len(value) > grant.MaxValue || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("%s: field %s has %d bytes: %q", when, name, len(value), value)
			}
		}
		if encoding := c.rdb.ObjectEncoding(t.Context(), c.Grant(acme).keys().Grant()).Val(); encoding != "listpack" {
			t.Errorf("%s: the record is a %s", when, encoding)
		}
	}
	base, err := c.Grant(acme).As(odd).Connect(t.Context(), pairNo(1))
	if err != nil {
		t.Fatal(err)
	}
	compact("connect")
	_, base, err = c.Grant(base.Key).As(odd).Claim(t.Context(), base, NewID(), time.Minute, grant.AtOnce)
	if err != nil {
		t.Fatal(err)
	}
	compact("claim")
	if _, _, err = c.Grant(base.Key).As(odd).Fail(t.Context(), base, grant.Failure{ID: NewID(), Verdict: grant.VerdictKeep, Error: odd, Reason: odd}); err != nil {
		t.Fatal(err)
	}
	compact("fail")
	t.Logf("MEMORY USAGE of a full record: %d bytes", c.rdb.MemoryUsage(t.Context(), c.Grant(acme).keys().Grant()).Val())
	c.Grant(base.Key).As(odd).KeepPending(base, NewID(), pairNo(2)(base.At()))
	lose(t, c, acme)
	read(t, c, acme)
	compact("restore of a held pair")
	if _, _, err = c.Grant(base.Key).As(odd).Commit(t.Context(), base, NewID(), pairNo(3)(base.At()), false, false); err != nil {
		t.Fatal(err)
	}
	compact("commit")
	t.Logf("MEMORY USAGE of a quiet record: %d bytes", c.rdb.MemoryUsage(t.Context(), c.Grant(acme).keys().Grant()).Val())
	if err := c.Grant(acme).As(odd).Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	compact("disconnect")
}

func TestJournalKeepsExactlyTheLast32(t *testing.T) {
	t.Parallel()
	for _, length := range []int{0, 20} {
		c := freshCache(t, func(cfg *Config) { cfg.JournalLen = length })
		want := length
		if want == 0 {
			want = 32
		}
		for n := range want + 7 {
			connect(t, c, acme, n)
			if got := c.rdb.XLen(t.Context(), c.Grant(acme).keys().Journal()).Val(); got != int64(min(n+1, want)) {
				t.Fatalf("after %d changes the journal has %d entries", n+1, got)
			}
		}
		last, err := c.rdb.XRevRangeN(t.Context(), c.Grant(acme).keys().Journal(), "+", "-", 1).Result()
		if err != nil || fmt.Sprint(last[0].Values["gen"]) != fmt.Sprint(want+7) {
			t.Errorf("the last entry is %v %v", last, err)
		}
	}
}

// A record that is not ours is left as it is, and the error says what is wrong.
func TestCorruptRecordIsAClearErrorAndStaysAsItIs(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		corrupt func(c *Cache, key string) error
		says    string
	}{
		"a string": {func(c *Cache, key string) error {
			c.rdb.Del(t.Context(), key)
			return c.rdb.Set(t.Context(), key, "x", 0).Err()
		}, "is no HASH"},
		"gen no number":         {func(c *Cache, key string) error { return c.rdb.HSet(t.Context(), key, "gen", "x\nsecret").Err() }, `gen="x_secret" is no whole number`},
		"expires_at a fraction": {func(c *Cache, key string) error { return c.rdb.HSet(t.Context(), key, "expires_at", "1.5").Err() }, `expires_at="1.5" is no whole number`},
		"schema of the future":  {func(c *Cache, key string) error { return c.rdb.HSet(t.Context(), key, "v", 99).Err() }, "upgrade this process"},
		"zeroes":                {func(c *Cache, key string) error { return c.rdb.HSet(t.Context(), key, "gen", 0, "epoch", 0).Err() }, "no epoch"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := freshCache(t)
			connect(t, c, acme, 1)
			key := c.Grant(acme).keys().Grant()
			if err := tc.corrupt(c, key); err != nil {
				t.Fatal(err)
			}
			before := c.rdb.Dump(t.Context(), key).Val()
			for what, err := range map[string]error{"Status": second(c.Grant(acme).Status(t.Context())), "Read": second(c.Grant(acme).Read(t.Context()))} {
				if err == nil || !strings.Contains(fmt.Sprint(err), tc.says) || !strings.Contains(err.Error(), "zoom:acme") {
					t.Errorf("%s: %v does not say %q", what, err, tc.says)
				}
			}
			if after := c.rdb.Dump(t.Context(), key).Val(); after != before {
				t.Error("the record was changed")
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestUnknownFieldsOfANewerVersionSurvive(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	hset(t, c, acme, "later", "kept")
	commit(t, c, claim(t, c, base, "worker"), 2)
	if got := c.rdb.HGet(t.Context(), c.Grant(acme).keys().Grant(), "later").Val(); got != "kept" {
		t.Errorf("later=%q", got)
	}
}

func TestStatusTellsWhatIsStored(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	s := claim(t, c, connect(t, c, acme, 1), "worker")
	got, err := c.Grant(acme).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.State != grant.Active || got.Generation != 1 || got.Epoch.UnixMilli() != s.Epoch || got.ClaimBy != "worker" ||
		got.ClaimUntil.UnixMilli() != s.Claim.Until || got.UnresolvedPresentations != 1 || got.By != "connector" ||
		got.AccessTokenFingerprint != grant.Fingerprint("at-1") || got.Now.Before(got.Epoch) || !got.RetryAt.IsZero() {
		t.Errorf("%+v", got)
	}
}

func TestNamesAreChecked(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	for _, k := range []grant.Key{{App: "", Tenant: "acme"}, {App: "zoom", Tenant: ""}, {App: strings.Repeat("a", 257), Tenant: "acme"}, {App: "zoom", Tenant: strings.Repeat("a", 257)}} {
		_, read := c.Grant(k).Read(t.Context())
		_, connect := c.Grant(k).As(by).Connect(t.Context(), pairNo(1))
		_, status := c.Grant(k).Status(t.Context())
		for what, err := range map[string]error{"Validate": k.Validate(), "Read": read, "Connect": connect, "Status": status, "Disconnect": c.Grant(k).As(by).Disconnect(t.Context())} {
			if !strings.Contains(fmt.Sprint(err), grant.ErrName.Error()) {
				t.Errorf("%s of %.10q: %v", what, k, err)
			}
		}
	}
	if err := (grant.Key{App: strings.Repeat("ä", 128), Tenant: strings.Repeat("}", 256)}).Validate(); err != nil {
		t.Error(err)
	}
	for _, prefix := range []string{"a{b", "a}", "a b", "ä", "a%", "a\n", strings.Repeat("a", 65)} {
		if _, err := New(c.rdb, Config{Prefix: prefix, AEAD: grant.Plaintext}); err == nil {
			t.Errorf("Prefix %q is taken", prefix)
		}
	}
	if _, err := New(c.rdb, Config{Prefix: "team-1:tl", AEAD: grant.Plaintext}); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	rdb := freshCache(t).rdb
	for says, cfg := range map[string]Config{
		"Config.AEAD is missing": {},
		"must not be negative":   {AEAD: grant.Plaintext, HotGrants: -1},
		"JournalLen (-1)":        {AEAD: grant.Plaintext, JournalLen: -1},
	} {
		if _, err := New(rdb, cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
	if _, err := New(nil, Config{AEAD: grant.Plaintext}); err == nil {
		t.Error("a cache without Redis")
	}
}
