package engine

import (
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

func FuzzNamesRoundTripAndStayApart(f *testing.F) {
	f.Add("zoom", "acme", "zoom", "acme")
	f.Add("a:b", "c", "a", "b:c")
	f.Add("a%3Ab", "c", "a:b", "c")
	f.Add("a}", "{", "a", "}{")
	f.Add("ä\x00\xff", "\n\r ", "+", "%")
	c := &Cache{names: store.Names("tl")}
	f.Fuzz(func(t *testing.T, app, tenant, app2, tenant2 string) {
		k, other := grant.Key{App: app, Tenant: tenant}, grant.Key{App: app2, Tenant: tenant2}
		if got := grant.Unescape(grant.Escape(app)); got != app {
			t.Fatalf("%q became %q", app, got)
		}
		if (c.Grant(k).keys() == c.Grant(other).keys()) != (k == other) {
			t.Fatalf("%q and %q have the keys %+v", k, other, c.Grant(k).keys())
		}
		channel := c.Grant(k).keys().Events()
		if strings.Count(channel, "{") != 1 || strings.Count(channel, "}") != 1 || strings.ContainsAny(channel, " \n\r\x00*?[]") {
			t.Fatalf("channel %q", channel)
		}
		if name, err := url.PathUnescape(grant.Escape(tenant)); err != nil || name != tenant {
			t.Fatalf("%q: %v", name, err)
		}
		if got, ok := c.names.GrantOf(channel); !ok || got != k {
			t.Fatalf("no way back from %q: %+v", channel, got)
		}
	})
}

// What Lua publishes is what Go reads, whatever stands in the values.
func FuzzPublishedEventIsTheRecord(f *testing.F) {
	f.Add("worker", "transient/timeout/0", "suspect", "token")
	f.Add("a\n\nb", "gen 99\n", "\x00", "a\n\nb")
	c := freshCache(f)
	connect(f, c, acme, 1)
	ps := c.rdb.Subscribe(f.Context(), c.Grant(acme).EventsChannel())
	f.Cleanup(func() { _ = ps.Close() })
	if _, err := ps.Receive(f.Context()); err != nil {
		f.Fatal(err)
	}
	next := func(t *testing.T) grant.Event {
		m, err := ps.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return published(t, c, m)
	}
	f.Fuzz(func(t *testing.T, by, code, reason, token string) {
		base := read(t, c, acme)
		o, claimed, err := c.Grant(base.Key).As(by).Claim(t.Context(), base, NewID(), time.Minute, grant.AtOnce)
		if o != grant.OutcomeOK || err != nil {
			t.Fatal(o, err)
		}
		_, failed, err := c.Grant(claimed.Key).As(by).Fail(t.Context(), claimed, grant.Failure{ID: NewID(), Verdict: grant.VerdictClear, Error: code, Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		_, committed, err := c.Grant(failed.Key).As(by).Commit(t.Context(), failed, NewID(), grant.Pair{AccessToken: grant.Hide("at" + token), RefreshToken: grant.Hide(token), ExpiresAt: 1}, false, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []*Snapshot{claimed, failed, committed} {
			if e := next(t); !reflect.DeepEqual(e.Record, want.Record) || e.Now != want.At() || (e.Sealed != "") != (want == committed) {
				t.Fatalf("published\n%+v\nstored\n%+v", e, want.Record)
			}
		}
	})
}
