package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

func TestUnreadAnswersAreKeptSealedAndOnce(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := claim(t, c, connect(t, c, acme, 1), "holder")
	keep := func(id, body string) {
		t.Helper()
		if err := c.Grant(base.Key).KeepUnread(t.Context(), base, id, UnreadAnswer{Status: 200, Body: grant.Hide(body)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		keep(fmt.Sprint("id-", i), fmt.Sprint("body-", i))
		keep(fmt.Sprint("id-", i), fmt.Sprint("body-", i)) // its reply was lost
	}
	keep("long", strings.Repeat("x", 1<<20))
	kept, err := c.Grant(acme).Unread(t.Context())
	if err != nil || len(kept) != unreadKept {
		t.Fatalf("%d, %v", len(kept), err)
	}
	for i, a := range kept {
		want := fmt.Sprint("body-", 3+i)
		if i == 3 {
			want = strings.Repeat("x", maxUnread)
		}
		if a.Body.Reveal() != want || a.Generation != base.Generation || a.Epoch != base.Epoch || a.Status != 200 {
			t.Errorf("%d: generation %d, %d bytes", i, a.Generation, len(a.Body.Reveal()))
		}
	}
	if ttl := c.rdb.PTTL(t.Context(), c.Grant(acme).keys().Unread()).Val(); ttl <= unreadLife-time.Minute || ttl > unreadLife {
		t.Errorf("kept for %v", ttl)
	}
}

func TestUnreadAnswersOpenForTheirGrantOnly(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	base := connect(t, c, acme, 1)
	other := grant.Key{App: "zoom", Tenant: "globex"}
	connect(t, c, other, 1)
	if err := c.Grant(base.Key).KeepUnread(t.Context(), base, "id", UnreadAnswer{Body: grant.Hide("body")}); err != nil {
		t.Fatal(err)
	}
	for _, one := range c.rdb.LRange(t.Context(), c.Grant(acme).keys().Unread(), 0, -1).Val() {
		c.rdb.RPush(t.Context(), c.Grant(other).keys().Unread(), one)
		_, sealed, _ := strings.Cut(one, "\n")
		c.rdb.Set(t.Context(), c.Grant(acme).keys().Secret(), sealed, 0)
	}
	if kept, err := c.Grant(other).Unread(t.Context()); len(kept) != 0 || !errors.Is(err, grant.ErrSealed) {
		t.Errorf("another grant's: %d, %v", len(kept), err)
	}
	if s, err := c.Grant(acme).Read(t.Context()); err != nil || s.Err == nil {
		t.Errorf("an unread answer passes for a pair: %v", err)
	}
	c.rdb.Set(t.Context(), c.Grant(acme).keys().Unread(), "a key of another type", 0)
	if err := c.Grant(base.Key).KeepUnread(t.Context(), base, "id", UnreadAnswer{Body: grant.Hide("body")}); err != nil {
		t.Error(err)
	}
	if kept, err := c.Grant(acme).Unread(t.Context()); err != nil || len(kept) != 1 {
		t.Errorf("%d, %v", len(kept), err)
	}
}

// Whoever is about to take over asks first, and hears of a holder that lives.
func TestAHolderThatIsAskedSaysThatItIsAtIt(t *testing.T) {
	t.Parallel()
	c := freshCache(t)
	holder := c.Grant(acme).Pin()
	t.Cleanup(holder.Unpin)
	confirm(t, holder)
	base := claim(t, c, connect(t, c, acme, 1), "holder")
	asked := make(chan struct{}, 8)
	done := holder.AtIt(func() { asked <- struct{}{} })
	other := newCache(t, c.rdb, string(c.names))
	read(t, other, acme) // it knows Redis' clock now
	if _, err := other.Grant(acme).Ask(t.Context(), base.Epoch, base.Generation, base.Rev); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("it was not told")
	}
	done()
	if _, err := other.Grant(acme).Ask(t.Context(), base.Epoch, base.Generation, base.Rev); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(grant.Key{App: "zoom", Tenant: "fence"}).As("fence").Connect(t.Context(), pairNo(1)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
		t.Error("told although it is done")
	case <-time.After(50 * time.Millisecond):
	}
}
