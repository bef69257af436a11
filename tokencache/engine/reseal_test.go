package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// keyed is an AEAD whose text tells the key, as Tink's does: it opens with each key, and seals with the primary.
type keyed struct{ primary byte }

func head(key byte) []byte { return []byte{1, 0, 0, 0, key} }

func (k keyed) Encrypt(text, ad []byte) ([]byte, error) {
	sealed, err := grant.Plaintext.Encrypt(text, ad)
	return append(head(k.primary), sealed...), err
}

func (k keyed) Decrypt(sealed, ad []byte) ([]byte, error) {
	if len(sealed) < 5 || sealed[4] > k.primary { // keys come one after the other
		return nil, errors.New("no such key")
	}
	return grant.Plaintext.Decrypt(sealed[5:], ad)
}

// otherThan is a Reseal's stale for a primary.
func otherThan(key byte) func([]byte) bool {
	return func(sealed []byte) bool {
		id, ok := grant.KeyIDOf(sealed)
		return !ok || id != uint32(key)
	}
}

// twoKeys are two processes of one deployment: the old primary, and the new one.
func twoKeys(t *testing.T) (before, after *Cache) {
	t.Helper()
	before = freshCache(t, func(cfg *Config) { cfg.AEAD = keyed{1} })
	return before, newCache(t, before.rdb, string(before.db.Names), func(cfg *Config) { cfg.AEAD = keyed{2} })
}

func TestResealSealsEachValueAnewAndChangesNone(t *testing.T) {
	t.Parallel()
	before, after := twoKeys(t)
	base := claim(t, before, connect(t, before, acme, 1), "holder")
	ks := before.Grant(acme).keys()
	if err := before.Grant(acme).KeepUnread(t.Context(), base, "id-1", UnreadAnswer{Status: 200, Body: grant.Hide("body")}); err != nil {
		t.Fatal(err)
	}
	if err := before.rdb.Copy(t.Context(), ks.Secret(), ks.Spare(), 0, true).Err(); err != nil {
		t.Fatal(err)
	}
	record, ttl := before.rdb.HGetAll(t.Context(), ks.Grant()).Val(), before.rdb.PTTL(t.Context(), ks.Unread()).Val()
	for round, want := range []Resealed{{Anew: 3}, {Skipped: 3}} {
		if n, err := after.Grant(acme).Reseal(t.Context(), otherThan(2)); err != nil || n != want {
			t.Errorf("round %d: %+v, %v; want %+v", round, n, err, want)
		}
	}
	for _, key := range []string{ks.Secret(), ks.Spare()} {
		if id, _ := grant.KeyIDOf([]byte(after.rdb.Get(t.Context(), key).Val())); id != 2 {
			t.Errorf("%s is sealed with key %d", key, id)
		}
	}
	if s := read(t, after, acme); s.Pair.RefreshToken.Reveal() != "rt-1" || s.Err != nil || s.Generation != 1 {
		t.Errorf("%v, %v", s.Pair, s.Err)
	}
	if kept, err := after.Grant(acme).Unread(t.Context()); err != nil || len(kept) != 1 || kept[0].Body.Reveal() != "body" {
		t.Errorf("unread: %d, %v", len(kept), err)
	}
	if now := after.rdb.HGetAll(t.Context(), ks.Grant()).Val(); fmt.Sprint(now) != fmt.Sprint(record) {
		t.Errorf("the record has changed: %v", now)
	}
	if left := after.rdb.PTTL(t.Context(), ks.Unread()).Val(); left <= 0 || left > ttl {
		t.Errorf("unread answers stay for %v, before %v", left, ttl)
	}
}

// A value that comes between the reading and the writing wins, whatever wrote it.
func TestResealNeverLosesAPairThatComesMeanwhile(t *testing.T) {
	t.Parallel()
	before, after := twoKeys(t)
	connect(t, before, acme, 1)
	raced := 0
	n, err := after.Grant(acme).Reseal(t.Context(), func(sealed []byte) bool {
		if raced < 2 { // what was read is old by now
			raced++
			s := read(t, before, acme)
			commit(t, before, claim(t, before, s, "holder"), 10+raced)
		}
		return otherThan(2)(sealed)
	})
	if err != nil || n.Anew != 1 {
		t.Errorf("%+v, %v", n, err)
	}
	if s := read(t, after, acme); s.Pair.RefreshToken.Reveal() != "rt-12" || s.Generation != 3 || s.Err != nil {
		t.Errorf("generation %d, %v, %v", s.Generation, s.Pair, s.Err)
	}
	// Each time: the value is left as it is.
	connect(t, before, grant.Key{App: "zoom", Tenant: "busy"}, 1)
	busy := grant.Key{App: "zoom", Tenant: "busy"}
	n, err = after.Grant(busy).Reseal(t.Context(), func(sealed []byte) bool {
		s := read(t, before, busy)
		commit(t, before, claim(t, before, s, "holder"), int(20+s.Generation))
		return true
	})
	if err != nil || n != (Resealed{Moved: 1}) {
		t.Errorf("%+v, %v", n, err)
	}
	if s := read(t, after, busy); s.Pair.RefreshToken.Reveal() != fmt.Sprint("rt-", 19+s.Generation) || s.Err != nil {
		t.Errorf("generation %d, %v, %v", s.Generation, s.Pair, s.Err)
	}
}

// Under load: exchanges and reseals at once, and each generation's pair is the last that was committed.
func TestResealUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	before, after := twoKeys(t)
	connect(t, before, acme, 1)
	const commits = 60
	var done atomic.Bool
	var work sync.WaitGroup
	for range 3 {
		work.Go(func() {
			for !done.Load() {
				if _, err := after.Grant(acme).Reseal(context.Background(), func([]byte) bool { return true }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range commits {
		s := read(t, after, acme)
		if s.Err != nil || s.Generation != int64(i+1) {
			t.Fatalf("generation %d of %d: %v", s.Generation, i+1, s.Err)
		}
		commit(t, after, claim(t, after, s, "holder"), i+2)
	}
	done.Store(true)
	work.Wait()
	if s := read(t, after, acme); s.Err != nil || s.Generation != commits+1 || s.Pair.RefreshToken.Reveal() != fmt.Sprint("rt-", commits+1) {
		t.Errorf("generation %d, %v, %v", s.Generation, s.Pair, s.Err)
	}
}

func TestAValueThatDoesNotOpenIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	before, after := twoKeys(t)
	connect(t, after, acme, 1)
	key := before.Grant(acme).keys().Secret()
	was := before.rdb.Get(t.Context(), key).Val()
	if n, err := before.Grant(acme).Reseal(t.Context(), otherThan(1)); !errors.Is(err, grant.ErrSealed) || n.Anew != 0 {
		t.Errorf("%+v, %v", n, err)
	}
	if now := before.rdb.Get(t.Context(), key).Val(); now != was {
		t.Error("it was changed")
	}
	before.rdb.Set(t.Context(), key, "rubbish", 0)
	if _, err := before.Grant(acme).Reseal(t.Context(), otherThan(1)); !errors.Is(err, grant.ErrSealed) || bytes.Contains([]byte(err.Error()), []byte("rubbish")) {
		t.Error(err)
	}
	for _, key := range []string{key, before.Grant(acme).keys().Unread()} {
		before.rdb.Del(t.Context(), key)
		before.rdb.HSet(t.Context(), key, "a", "b")
	}
	if n, err := before.Grant(acme).Reseal(t.Context(), otherThan(1)); !errors.Is(err, grant.ErrSealed) || n != (Resealed{}) {
		t.Errorf("keys of another type: %+v, %v", n, err)
	}
	if n, err := before.Grant(grant.Key{App: "zoom", Tenant: "nobody"}).Reseal(t.Context(), otherThan(1)); err != nil || n != (Resealed{}) {
		t.Errorf("no grant: %+v, %v", n, err)
	}
}
