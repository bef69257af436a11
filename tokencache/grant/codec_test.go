package grant

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func FuzzParseEventNeverPanics(f *testing.F) {
	f.Add("commit 17\ngen 2\nepoch 5\nv 1\n\nsealed\n\npair")
	f.Add(AliveEvent(0, time.Minute))
	f.Add("ask 0\n\n")
	f.Add("commit 17\n\n")
	f.Add(" \n\n")
	f.Add("\n\n\n")
	f.Add("alive 0\nlease_ms 99999999999999999999\n\n")
	f.Fuzz(func(t *testing.T, payload string) {
		e, err := ParseEvent(payload)
		if err == nil && (e.Lease < 0 || e.Lease > MaxLease || e.Record.Generation < 0 || e.Record.Claim.Until > e.Now+century && e.Kind != KindAsk) {
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
		in := Record{Schema: schema, Generation: gen, Epoch: epoch, State: State(Clip(state)), By: Clip(by), Claim: Claim{N: gen, By: Clip(by)}}
		var out Record
		flat := in.Flat()
		for i := 0; i < len(flat); i += 2 {
			err := out.Set(fmt.Sprint(flat[i]), fmt.Sprint(flat[i+1]))
			if slices.ContainsFunc([]int64{schema, gen, epoch}, func(n int64) bool { return n < 0 || n > MaxCounter }) {
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
		got := Clip(s)
		if len(got) > MaxValue || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' }) || Clip(got) != got {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
