package engine

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

const canary = "CANARY"

// canaryPair has it in everything that is secret.
func canaryPair(n int) func(now int64) grant.Pair {
	return func(now int64) grant.Pair {
		p := pairNo(n)(now)
		p.AccessToken, p.RefreshToken = grant.Hide(fmt.Sprint(canary, "-at-", n)), grant.Hide(fmt.Sprint(canary, "-rt-", n))
		p.Extra = map[string]any{"id_token": canary + "-id"}
		return p
	}
}

func realAEAD(t testing.TB) grant.AEAD {
	t.Helper()
	keyset, err := seal.Generate()
	if err != nil {
		t.Fatal(err)
	}
	aead, err := seal.FromJSON(keyset)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

func sealedWith(aead grant.AEAD) func(*Config) { return func(c *Config) { c.AEAD = aead } }

// life leads a grant through every script, with canaries for tokens.
func life(t *testing.T, c *Cache) []*Snapshot {
	t.Helper()
	k := acme
	base, err := c.Grant(k).As(by).Connect(t.Context(), canaryPair(1))
	if err != nil {
		t.Fatal(err)
	}
	claimed := claim(t, c, base, by)
	_, failed, err := c.Grant(claimed.Key).As(by).Fail(t.Context(), claimed, grant.Failure{ID: NewID(), Verdict: grant.VerdictKeep, Error: "transient"})
	if err != nil {
		t.Fatal(err)
	}
	_, committed, err := c.Grant(claimed.Key).As(by).Commit(t.Context(), claimed, NewID(), canaryPair(2)(base.At()), false, false)
	if err != nil {
		t.Fatal(err)
	}
	if o, _, err := c.Grant(claimed.Key).As(by).Commit(t.Context(), claimed, NewID(), canaryPair(3)(base.At()), false, false); o != grant.OutcomeMoved || err != nil {
		t.Fatal(o, err)
	}
	held := c.Grant(committed.Key).As(by).KeepPending(committed, NewID(), canaryPair(4)(base.At()))
	lose(t, c, k)
	// An answer or event from before the loss may come while a reading is under way: then that
	// reading cannot tell that it is memory which is right, and the next one restores.
	var restored *Snapshot
	eventually(t, "the grant to be restored", patience, func() bool {
		restored = read(t, c, k)
		return c.rdb.Exists(t.Context(), c.Grant(k).keys().Grant()).Val() == 1
	})
	if o, _, err := c.Grant(claimed.Key).As(by).Commit(t.Context(), claimed, NewID(), canaryPair(5)(base.At()), false, false); o != grant.OutcomeMoved || err != nil {
		t.Fatal(o, err)
	}
	return []*Snapshot{base, claimed, failed, committed, held, restored}
}

// logs is what was logged, by any goroutine.
type logs struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestNoTokenIsReadableInRedisOrOnTheWire(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	aead := realAEAD(t)
	var log logs
	c := newCache(t, rdb, "tl", sealedWith(aead), func(cfg *Config) { cfg.Log = zerolog.New(&log) })
	all := server.Client(t).PSubscribe(t.Context(), "*")
	defer all.Close()
	if _, err := all.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Grant(acme).Pin().Unpin)
	life(t, c)
	dump := redistest.Dump(t, rdb, "*")
	if !strings.Contains(dump, "tl:{zoom:acme}:spare (string)") || !strings.Contains(dump, "tl:{zoom:acme}:secret (string)") {
		t.Fatalf("the scene is not set:\n%q", dump)
	}
	if strings.Contains(dump, canary) {
		t.Errorf("a token stands in Redis:\n%q", dump)
	}
	if err := rdb.Publish(t.Context(), "end", "").Err(); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		m, err := all.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Channel == "end" {
			if n < 7 {
				t.Errorf("only %d events", n)
			}
			break
		}
		if strings.Contains(m.Payload, canary) || strings.Contains(m.Channel, canary) {
			t.Errorf("a token was published: %q", m.Payload)
		}
	}
	if strings.Contains(log.String(), canary) {
		t.Errorf("a token was logged: %s", log.String())
	}
}

func TestPlaintextSaysSoInRedis(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	if _, err := c.Grant(acme).As(by).Connect(t.Context(), canaryPair(1)); err != nil {
		t.Fatal(err)
	}
	if s := c.rdb.Get(t.Context(), c.Grant(acme).keys().Secret()).Val(); !strings.Contains(s, "\nplain ") || !strings.Contains(s, canary) {
		t.Errorf("%q", s)
	}
}

func TestNothingPrintsTokens(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	c := newCache(t, rdb, redistest.Prefix(t), sealedWith(realAEAD(t)))
	pin := c.Grant(acme).Pin()
	t.Cleanup(pin.Unpin)
	snaps := life(t, c)
	status, err := c.Grant(acme).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := snaps[len(snaps)-1]
	if s.Pair.AccessToken.Reveal() == "" || !strings.Contains(s.Pair.AccessToken.Reveal(), canary) {
		t.Fatal("the scene is not set")
	}
	things := []any{
		s.Pair, &s.Pair, []grant.Pair{s.Pair}, map[string]grant.Pair{"p": s.Pair}, struct{ P grant.Pair }{s.Pair}, struct{ P *grant.Pair }{&s.Pair},
		status, s.Record, s.Claim, s.Key, grant.Failure{Error: "x"}, c, pin, *pin, grant.AtOnce, c.Grant(acme).keys(),
	}
	for _, s := range snaps {
		things = append(things, s, *s, []*Snapshot{s}, struct{ S *Snapshot }{s}, struct{ S Snapshot }{*s})
	}
	for _, thing := range things {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			leaks(t, fmt.Sprintf("%T %s", thing, verb), fmt.Sprintf(verb, thing))
		}
		if b, err := json.Marshal(thing); err == nil {
			leaks(t, fmt.Sprintf("%T JSON", thing), string(b))
		}
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "thing", thing)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "thing", thing)
		z := zerolog.New(&out)
		z.Info().Any("thing", thing).Interface("again", thing).Send()
		z.Info().Object("pair", s.Pair).Send()
		leaks(t, fmt.Sprintf("%T logged", thing), out.String())
	}
}

func leaks(t *testing.T, how, text string) {
	t.Helper()
	if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) || strings.Contains(text, fmt.Sprintf("%X", canary)) {
		t.Errorf("%s prints a token: %.300s", how, text)
	}
}

// A sealed value opens for its grant and its consent only.
func TestSealedPairOpensNowhereElse(t *testing.T) {
	t.Parallel()
	for name, aead := range map[string]grant.AEAD{"Plaintext": grant.Plaintext, "keyset": realAEAD(t)} {
		t.Run(name, func(t *testing.T) {
			rdb, prefix := redistest.Start(t).Client(t), redistest.Prefix(t)
			c := newCache(t, rdb, prefix, sealedWith(aead))
			other := grant.Key{App: "zoom", Tenant: "umbrella"}
			for _, k := range []grant.Key{acme, other, {App: "xero", Tenant: "acme"}} {
				if _, err := c.Grant(k).As(by).Connect(t.Context(), canaryPair(1)); err != nil {
					t.Fatal(err)
				}
			}
			sealed := rdb.Get(t.Context(), c.Grant(acme).keys().Secret()).Val()
			for _, k := range []grant.Key{other, {App: "xero", Tenant: "acme"}} {
				mustNotOpen(t, c, rdb, k, sealed)
			}
			if _, err := c.Grant(acme).As(by).Connect(t.Context(), canaryPair(2)); err != nil {
				t.Fatal(err)
			}
			mustNotOpen(t, c, rdb, acme, sealed) // another epoch
			for _, broken := range []string{"x", sealed[:len(sealed)-1], "plain 5 abc", "plain -1 {}", sealed + "x"} {
				mustNotOpen(t, c, rdb, acme, broken)
			}
		})
	}
}

func mustNotOpen(t *testing.T, c *Cache, rdb redis.UniversalClient, k grant.Key, sealed string) {
	t.Helper()
	if err := rdb.Set(t.Context(), c.Grant(k).keys().Secret(), sealed, 0).Err(); err != nil {
		t.Fatal(err)
	}
	s := read(t, c, k)
	if !errors.Is(s.Err, grant.ErrSealed) || s.Pair.AccessToken.Reveal() != "" || s.Token() != nil || s.Valid() || s.Fresh() {
		t.Errorf("%s: %v, pair %v", k, s.Err, s.Pair)
	}
	if s.Err != nil {
		leaks(t, "ErrSealed", fmt.Sprintf("%v %+v %#v", s.Err, s.Err, s.Err))
	}
	if s.Generation == 0 || s.State != grant.Active {
		t.Errorf("the record is lost with it: %+v", s.Record)
	}
}

// A process without the right keyset loses nothing, and hears of it by push too.
func TestProcessWithoutTheKeysetLosesNothing(t *testing.T) {
	t.Parallel()
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	right := newCache(t, server.Client(t), prefix, sealedWith(realAEAD(t)))
	wrong := newCache(t, server.Client(t), prefix, sealedWith(realAEAD(t)))
	base := connect(t, right, acme, 1)
	p := hot(t, wrong, acme)
	if s := wrong.Grant(acme).Peek(); !errors.Is(s.Err, grant.ErrSealed) {
		t.Fatalf("%v", s.Err)
	}
	base = claim(t, right, base, by)
	until(t, p, "the claim", func() bool { return wrong.Grant(acme).Peek().Claim.Unresolved() })
	if s := wrong.Grant(acme).Peek(); !errors.Is(s.Err, grant.ErrSealed) {
		t.Errorf("the pushed record: %v", s.Err)
	}
	commit(t, right, base, 2)
	until(t, p, "the commit", func() bool { return wrong.Grant(acme).Peek().Generation == 2 })
	if s := wrong.Grant(acme).Peek(); !errors.Is(s.Err, grant.ErrSealed) || s.Token() != nil {
		t.Errorf("the pushed pair: %v", s.Err)
	}
	lose(t, right, acme)
	if _, err := wrong.Grant(acme).Read(t.Context()); err == nil {
		t.Error("restored a pair that it cannot read")
	}
	if n := right.rdb.Exists(t.Context(), right.Grant(acme).keys().Grant()).Val(); n != 0 {
		t.Error("something was stored")
	}
}

func TestPairSurvivesSealing(t *testing.T) {
	t.Parallel()
	c := freshCache(t, sealedWith(realAEAD(t)))
	want := pairNo(1)(time.Now().UnixMilli())
	want.Extra = map[string]any{"api_domain": "https://x.example/ü?a=b&c", "nested": map[string]any{"a": []any{"b", true, nil}}}
	s, err := c.Grant(acme).As(by).Connect(t.Context(), func(int64) grant.Pair { return want })
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, c, acme)
	if fmt.Sprint(got.Pair.Extra) != fmt.Sprint(want.Extra) || got.Pair.Scope != "a b" || got.Token().Extra("api_domain") != want.Extra["api_domain"] || got.Token().RefreshToken != "" || s.Token().RefreshToken != "" {
		t.Errorf("%v", got.Pair.Extra)
	}
	bad := want
	bad.Extra = map[string]any{"f": func() {}, "t": canary}
	if _, _, err := c.Grant(got.Key).As(by).Commit(t.Context(), got, NewID(), bad, false, false); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a pair that is no JSON: %v", err)
	}
}

func TestFingerprintTellsNothing(t *testing.T) {
	if got := grant.Fingerprint("token"); got != "3c469e9d6c58" || grant.Fingerprint("") != "" {
		t.Errorf("%q %q", got, grant.Fingerprint(""))
	}
}

// A printer cannot call methods on an unexported field: what such a field holds must tell nothing by
// itself.
func TestNoPrinterShowsTheTokensInAnUnexportedField(t *testing.T) {
	t.Parallel()
	pair := grant.Pair{AccessToken: grant.Hide(canary + "-access"), RefreshToken: grant.Hide(canary + "-refresh"), ExpiresAt: time.Now().Add(time.Hour).UnixMilli()}
	draft := memory.NewDraft(acme, 0, 0)
	draft.Pair = pair
	snap := draft.Finish()
	holder := struct {
		secret grant.Secret
		pair   grant.Pair
		snap   Snapshot
		ptr    *Snapshot
		list   []grant.Pair
		dict   map[string]grant.Pair
	}{pair.RefreshToken, pair, *snap, snap, []grant.Pair{pair}, map[string]grant.Pair{"x": pair}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p", "%t"} {
		leaks(t, verb, fmt.Sprintf(verb, holder))
		leaks(t, verb+" of a secret", fmt.Sprintf(verb, pair.RefreshToken))
	}
	for what, v := range map[string]any{"the struct": holder, "a secret": pair.RefreshToken, "a pair": pair} {
		text, _ := json.Marshal(v)
		leaks(t, "JSON of "+what, string(text))
		var gobbed, logged bytes.Buffer
		_ = gob.NewEncoder(&gobbed).Encode(v)
		leaks(t, "gob of "+what, gobbed.String())
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "v", v)
		zl := zerolog.New(&logged)
		zl.Info().Interface("v", v).Any("w", v).Msgf("%v %+v", v, v)
		leaks(t, "the log of "+what, logged.String())
	}
	if pair.RefreshToken.Reveal() != canary+"-refresh" || grant.Hide("") != (grant.Secret{}) || grant.Hide("").Reveal() != "" {
		t.Error("what was hidden is lost")
	}
}
