package engine

import (
	"errors"
	"testing"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Whoever may write to Redis can copy what is sealed, and cannot make it be taken for another
// grant's, deployment's, consent's or generation's.
func TestASealedPairServesNoOtherRecord(t *testing.T) {
	t.Parallel()
	for name, aead := range map[string]grant.AEAD{"Plaintext": grant.Plaintext, "keyset": realAEAD(t)} {
		server := redistest.Start(t)
		scene := func(t *testing.T) (c *Cache, first string) {
			c = newCache(t, server.Client(t), redistest.Prefix(t), sealedWith(aead))
			base := connect(t, c, acme, 1)
			first = c.rdb.Get(t.Context(), c.Grant(acme).keys().Secret()).Val()
			commit(t, c, claim(t, c, base, "worker"), 2)
			return c, first
		}
		put := func(t *testing.T, c *Cache, k grant.Key, sealed string) {
			t.Helper()
			if err := c.rdb.Set(t.Context(), c.Grant(k).keys().Secret(), sealed, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		closed := func(t *testing.T, c *Cache, k grant.Key) {
			t.Helper()
			fresh := newCache(t, c.rdb, string(c.names), sealedWith(aead))
			s := read(t, fresh, k)
			if !errors.Is(s.Err, grant.ErrSealed) || s.Token() != nil || s.Pair.RefreshToken.Reveal() != "" {
				t.Errorf("it opens: %v, %v", s.Err, s.Pair)
			}
			pin := fresh.Grant(k).Pin()
			defer pin.Unpin()
			confirm(t, pin)
			if _, err := c.Grant(k).Ask(t.Context(), 1, 0, 0); err != nil {
				t.Fatal(err)
			}
			if s := fresh.Grant(k).Recall(); s != nil && s.Token() != nil {
				t.Errorf("memory has it: %v", s.Pair)
			}
		}
		t.Run(name+" another generation", func(t *testing.T) {
			t.Parallel()
			c, first := scene(t)
			put(t, c, acme, first)
			closed(t, c, acme)
		})
		t.Run(name+" another consent", func(t *testing.T) {
			t.Parallel()
			c, _ := scene(t)
			second := c.rdb.Get(t.Context(), c.Grant(acme).keys().Secret()).Val()
			connect(t, c, acme, 3)
			put(t, c, acme, second)
			closed(t, c, acme)
		})
		t.Run(name+" another grant", func(t *testing.T) {
			t.Parallel()
			c, first := scene(t)
			other := grant.Key{App: "zoom", Tenant: "umbrella"}
			connect(t, c, other, 1)
			put(t, c, other, first)
			closed(t, c, other)
			// Nor with its record.
			if err := c.rdb.Copy(t.Context(), c.Grant(acme).keys().Grant(), c.Grant(other).keys().Grant(), 0, true).Err(); err != nil {
				t.Fatal(err)
			}
			put(t, c, other, c.rdb.Get(t.Context(), c.Grant(acme).keys().Secret()).Val())
			closed(t, c, other)
		})
		t.Run(name+" another prefix", func(t *testing.T) {
			t.Parallel()
			c, _ := scene(t)
			staging := newCache(t, c.rdb, redistest.Prefix(t), sealedWith(aead))
			for _, of := range []func(store.Keys) string{store.Keys.Grant, store.Keys.Secret, store.Keys.Spare} {
				c.rdb.Copy(t.Context(), of(c.Grant(acme).keys()), of(staging.Grant(acme).keys()), 0, true)
			}
			closed(t, staging, acme)
		})
		t.Run(name+" beside a tombstone", func(t *testing.T) {
			t.Parallel()
			c, first := scene(t)
			disconnect(t, c, acme)
			put(t, c, acme, first)
			fresh := newCache(t, c.rdb, string(c.names), sealedWith(aead))
			if s := read(t, fresh, acme); s.State != grant.Disconnected || s.Token() != nil || s.Pair.RefreshToken.Reveal() != "" {
				t.Errorf("%s, %v", s.State, s.Pair)
			}
		})
	}
}
