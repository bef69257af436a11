package engine

import (
	"fmt"
	"testing"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Commit and KeepPending store the same change, one in Redis, the other in memory: they must agree on
// every field, whatever stood in the record.
func TestHoldMakesTheRecordThatCommitMakes(t *testing.T) {
	t.Parallel()
	for name, before := range map[string][]any{
		"a claim":                      nil,
		"a failure":                    {"fails", 3, "error", "x/y/503", "error_at", 1700000000000, "retry_at", 1700000000001},
		"a grant that died":            {"state", "reauthorize", "reason", "invalid_grant"},
		"rejects":                      {"rejects", 2, "reject_at", 1700000000000, "rejected_gen", 3, "reason", "suspect"},
		"a stranger":                   {"foreign", 2, "foreign_gen", 1},
		"a stranger of this pair":      {"foreign", 2, "foreign_gen", 4},
		"a stranger, died":             {"foreign", 2, "foreign_gen", 1, "state", "reauthorize"},
		"a stranger, at one age":       {"foreign", 1, "foreign_gen", 4, "lived", "3600x2", "rejected_gen", 4},
		"a learned life":               {"lived", "1800"},
		"a longer learned life":        {"lived", "3420"},
		"an age that was not repeated": {"lived", "3600x1", "rejected_gen", 2},
		"a warning":                    {"warned_at", 1700000000000, "rt_expires_at", 1700000000000},
		"a warning, the same end":      {"warned_at", 1700000000000},
		"a spare of an older consent":  {"spare_epoch", 1700000000000},
		"no refresh token":             {"rt_fp", ""},
		"a short fingerprint":          {"rt_fp", "abc"},
		"a long list of spent ones":    {"spent", "11111111 22222222 33333333 44444444 55555555 66666666 77777777"},
		"a list that is longer yet":    {"spent", "1 2 3 4 5 6 7 8 9"},
		"an older version":             {"v", 1},
		"a note of use":                {"used_at", 1700000000000},
		"the same refresh token again": {"rt_fp", grant.Fingerprint("rt-5")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := freshCache(t)
			base := connect(t, c, acme, 1)
			for n := 2; n <= 4; n++ {
				base = commit(t, c, claim(t, c, base, "worker"), n)
			}
			claim(t, c, base, "worker")
			if len(before) > 0 {
				hset(t, c, acme, before...)
			}
			base = read(t, c, acme)
			pair, id := pairNo(5)(base.At()), NewID()
			held := c.Grant(base.Key).As("committer").KeepPending(base, id, pair)
			o, stored, err := c.Grant(base.Key).As("committer").Commit(t.Context(), base, id, pair, false, false)
			if o != grant.OutcomeOK || err != nil {
				t.Fatal(o, err)
			}
			for i, f := range held.Flat() {
				if got := stored.Flat()[i]; got != f {
					t.Errorf("%v: held %q, committed %q", grant.Fields[i/2].Name, f, got)
				}
			}
		})
	}
}

// A process can be stopped between Redis' execution of its commit and the reply, for long. The
// repeat brings a pair that was spent since.
func TestARepeatedCommitWhoseJournalEntryIsGoneRaisesNoDead(t *testing.T) {
	t.Parallel()
	for _, since := range []int{1, 3, 6, 7, 8, 40} {
		for _, died := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d refreshes, died %v", since, died), func(t *testing.T) {
				t.Parallel()
				c := freshCache(t)
				base := claim(t, c, connect(t, c, acme, 1), "slow")
				id, pair := NewID(), pairNo(2)(base.At())
				again := func() (grant.Outcome, *Snapshot, error) {
					return c.Grant(base.Key).As("slow").Commit(t.Context(), base, id, pair, false, false)
				}
				o, s, err := again()
				if o != grant.OutcomeOK || err != nil {
					t.Fatal(o, err)
				}
				for n := range since {
					s = commit(t, c, claim(t, c, s, "worker"), 3+n)
				}
				if died {
					s = claim(t, c, s, "worker")
					if o, s, err = c.Grant(s.Key).As("worker").Fail(t.Context(), s, grant.Failure{ID: NewID(), Verdict: grant.VerdictDead, Reason: "invalid_grant"}); o != grant.OutcomeOK || err != nil {
						t.Fatal(o, err)
					}
				}
				if err := c.rdb.Del(t.Context(), c.Grant(acme).keys().Journal()).Err(); err != nil {
					t.Fatal(err)
				}
				before := remember(t, c, acme)
				o, _, err = again()
				if o != grant.OutcomeMoved || err != nil {
					t.Errorf("the repeat: %s %v", o, err)
				}
				after := remember(t, c, acme)
				if fmt.Sprint(after) != fmt.Sprint(before) {
					t.Errorf("the repeat changed\n%v to\n%v", before, after)
				}
				if _, there, err := c.Grant(s.Key).Spare(t.Context(), s); there || err != nil {
					t.Errorf("a spent pair lies spare: %v %v", there, err)
				}
				if n := c.rdb.XLen(t.Context(), c.Grant(acme).keys().Journal()).Val(); n != 0 {
					t.Errorf("%d journal entries", n)
				}
				_, err = c.Grant(acme).As("x").Connect(t.Context(), func(now int64) grant.Pair { // nor as a consent
					p := pairNo(2)(now)
					p.IssuedAt = now
					return p
				})
				if spentStill := since < 8; spentStill && err == nil {
					t.Error("a consent with a spent token was taken")
				}
			})
		}
	}
}

// sealHook is an AEAD that tells before it seals.
type sealHook struct {
	grant.AEAD
	before func()
}

func (h *sealHook) Encrypt(text, ad []byte) ([]byte, error) {
	h.before()
	return h.AEAD.Encrypt(text, ad)
}

// A late pair is sealed as the generation after what has died; Redis may lose that in between.
func TestALatePairIsStoredAlsoIfRedisLosesWhatDiedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, undo := range map[string]func(t *testing.T, c *Cache, old stored){
		"lost":    func(t *testing.T, c *Cache, _ stored) { lose(t, c, acme) },
		"rewound": func(t *testing.T, c *Cache, old stored) { rewind(t, c, acme, old) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &sealHook{grant.Plaintext, func() {}}
			c := freshCache(t, func(cfg *Config) { cfg.AEAD = h })
			s := connect(t, c, acme, 1)
			old := remember(t, c, acme)
			s = commit(t, c, claim(t, c, s, "x"), 11)
			base := claim(t, c, s, "a") // of generation 2
			s = commit(t, c, base, 2)   // a sibling: generation 3
			refused := claim(t, c, s, "b")
			failure := grant.Failure{ID: NewID(), Verdict: grant.VerdictDead, Error: "x", Reason: "invalid_grant"}
			if o, _, err := c.Grant(acme).Fail(t.Context(), refused, failure); err != nil || o != grant.OutcomeOK {
				t.Fatal(o, err)
			}
			n := 0
			h.before = func() {
				if n++; n == 2 {
					undo(t, c, old)
				}
			}
			o, _, err := c.Grant(acme).Commit(t.Context(), base, NewID(), pairNo(5)(base.At()), false, false)
			if err != nil || o != grant.OutcomeOK || n > 3 {
				t.Errorf("%s, %v, sealed %d times", o, err, n)
			}
		})
	}
}

// What an older consent's exchange brings takes no later consent's place, though its record is damaged.
func TestALatePairOfAnOlderConsentLeavesADamagedRecordsPairAlone(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := claim(t, c, connect(t, c, acme, 1), "a")
	newer := connect(t, c, acme, 2)
	c.rdb.HSet(t.Context(), c.Grant(acme).keys().Grant(), "gen", "many")
	other := newCache(t, c.rdb, string(c.names)) // remembers nothing
	commit := func() {
		_, _, _ = other.Grant(acme).Commit(t.Context(), base, NewID(), pairNo(3)(base.At()), false, false)
	}
	commit()
	sealed := c.rdb.Get(t.Context(), c.Grant(acme).keys().Secret()).Val()
	if epoch, err := grant.EpochOf([]byte(sealed)); err != nil || epoch != newer.Epoch {
		t.Errorf("the pair is of epoch %d, %v", epoch, err)
	}
	c.rdb.Set(t.Context(), c.Grant(acme).keys().Secret(), "9000000000000000\nno consent is so late", 0)
	commit()
	if s, err := other.Grant(acme).Read(t.Context()); err != nil || s.Pair.RefreshToken.Reveal() != "rt-3" {
		t.Errorf("the only pair that is left is not stored: %v, %v", s, err)
	}
}
