package engine

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func FuzzNamesRoundTripAndStayApart(f *testing.F) {
	f.Add("zoom", "acme", "zoom", "acme")
	f.Add("a:b", "c", "a", "b:c")
	f.Add("a%3Ab", "c", "a:b", "c")
	f.Add("a}", "{", "a", "}{")
	f.Add("ä\x00\xff", "\n\r ", "+", "%")
	c := &Cache{prefix: "tl"}
	f.Fuzz(func(t *testing.T, app, tenant, app2, tenant2 string) {
		k, other := Key{app, tenant}, Key{app2, tenant2}
		if got := unescape(escape(app)); got != app {
			t.Fatalf("%q became %q", app, got)
		}
		if (c.keys(k) == c.keys(other)) != (k == other) {
			t.Fatalf("%q and %q have the keys %+v", k, other, c.keys(k))
		}
		channel := c.keys(k).events()
		if strings.Count(channel, "{") != 1 || strings.Count(channel, "}") != 1 || strings.ContainsAny(channel, " \n\r\x00*?[]") {
			t.Fatalf("channel %q", channel)
		}
		if name, err := url.PathUnescape(escape(tenant)); err != nil || name != tenant {
			t.Fatalf("%q: %v", name, err)
		}
		if got, ok := c.keyOf(channel); !ok || got != k {
			t.Fatalf("no way back from %q: %+v", channel, got)
		}
	})
}

func FuzzParseEventNeverPanics(f *testing.F) {
	f.Add("commit 17\ngen 2\nepoch 5\nv 1\n\nsealed\n\npair")
	f.Add(aliveEvent(0, time.Minute))
	f.Add("ask 0\n\n")
	f.Add("commit 17\n\n")
	f.Add(" \n\n")
	f.Add("\n\n\n")
	f.Add("alive 0\nlease_ms 99999999999999999999\n\n")
	f.Fuzz(func(t *testing.T, payload string) {
		e, err := parseEvent(payload)
		if err == nil && (e.lease < 0 || e.lease > maxLease || e.record.Generation < 0 || e.record.Claim.Until > e.now+century && e.kind != ask) {
			t.Fatalf("%q: %+v", payload, e)
		}
	})
}

func FuzzPairRoundTrip(f *testing.F) {
	f.Add("access", "refresh", "Bearer", "read write", "api_url", int64(1), int64(2), int64(3))
	f.Add("", "", "", "", "", int64(0), int64(0), int64(0))
	f.Add("a\nb", "1 2\n", " ", "\n\n", "ü", int64(-1), int64(1)<<62, int64(-1)<<62)
	f.Fuzz(func(t *testing.T, access, refresh, tokenType, scope, extra string, issued, expires, generation int64) {
		in := Pair{AccessToken: Hide(access), RefreshToken: Hide(refresh), TokenType: tokenType, Scope: scope, IssuedAt: issued, ExpiresAt: expires}
		if extra != "" {
			in.Extra = map[string]any{"x": strings.ToValidUTF8(extra, "?")}
		}
		text, err := in.marshal(generation)
		if err != nil {
			t.Fatal(err)
		}
		var out Pair
		if n, ok := out.unmarshal(string(text)); !ok || n != generation || !reflect.DeepEqual(in, out) {
			t.Fatalf("%q did not come back", text)
		}
		for i := range text { // cut anywhere, it is no pair
			if _, ok := out.unmarshal(string(text[:i])); ok {
				t.Fatalf("%q was taken for a pair", text[:i])
			}
		}
	})
}

func FuzzWhatIsNoPairIsRefused(f *testing.F) {
	f.Add("1 0 0 0 0 1 2 3 4 5\na")
	f.Add("9223372036854775807 9223372036854775807 0 0 0 1 2 3 4 5\na")
	f.Add("-1 2 0 0 0 1 2 3 4 5\na")
	f.Add("1 0 0 0 0 1 2 3 4 5 6\na")
	f.Add("1 0 0 0 1 1 2 3 4 5\na{")
	f.Fuzz(func(t *testing.T, text string) {
		var p Pair
		if _, ok := p.unmarshal(text); !ok && !reflect.DeepEqual(p, Pair{}) {
			t.Fatalf("refused, and half taken: %q", text)
		}
	})
}

func FuzzRecordRoundTrip(f *testing.F) {
	f.Add(int64(1), int64(2), int64(1754000000000), "active", "host/1/x")
	f.Add(int64(-1), int64(1)<<62, int64(0), "", " ")
	f.Fuzz(func(t *testing.T, schema, gen, epoch int64, state, by string) {
		in := Record{Schema: schema, Generation: gen, Epoch: epoch, State: State(clip(state)), By: clip(by), Claim: Claim{N: gen, By: clip(by)}}
		var out Record
		flat := in.flat()
		for i := 0; i < len(flat); i += 2 {
			err := out.set(fmt.Sprint(flat[i]), fmt.Sprint(flat[i+1]))
			if slices.ContainsFunc([]int64{schema, gen, epoch}, func(n int64) bool { return n < 0 || n > maxCounter }) {
				if err != nil {
					return // damage
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(in, out) {
			t.Fatalf("%+v became %+v", in, out)
		}
	})
}

func FuzzClipFitsAField(f *testing.F) {
	f.Add("host/1")
	f.Add(strings.Repeat("ü", 100))
	f.Add("\xff\n\x00 ")
	f.Fuzz(func(t *testing.T, s string) {
		got := clip(s)
		if len(got) > maxValue || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' }) || clip(got) != got {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

// What Lua publishes is what Go reads, whatever stands in the values.
func FuzzPublishedEventIsTheRecord(f *testing.F) {
	f.Add("worker", "transient/timeout/0", "suspect", "token")
	f.Add("a\n\nb", "gen 99\n", "\x00", "a\n\nb")
	c := freshCache(f)
	connect(f, c, acme, 1)
	ps := c.rdb.Subscribe(f.Context(), c.EventsChannel(acme))
	f.Cleanup(func() { _ = ps.Close() })
	if _, err := ps.Receive(f.Context()); err != nil {
		f.Fatal(err)
	}
	next := func(t *testing.T) event {
		m, err := ps.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return published(t, c, m)
	}
	f.Fuzz(func(t *testing.T, by, code, reason, token string) {
		base := read(t, c, acme)
		o, claimed, err := c.Claim(t.Context(), base, NewID(), by, time.Minute, AtOnce)
		if o != OK || err != nil {
			t.Fatal(o, err)
		}
		_, failed, err := c.Fail(t.Context(), claimed, by, Failure{ID: NewID(), Verdict: Unspent, Error: code, Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		_, committed, err := c.Commit(t.Context(), failed, NewID(), by, Pair{AccessToken: Hide("at" + token), RefreshToken: Hide(token), ExpiresAt: 1}, false, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []*Snapshot{claimed, failed, committed} {
			if e := next(t); !reflect.DeepEqual(e.record, want.Record) || e.now != want.now || (e.sealed != "") != (want == committed) {
				t.Fatalf("published\n%+v\nstored\n%+v", e, want.Record)
			}
		}
	})
}
