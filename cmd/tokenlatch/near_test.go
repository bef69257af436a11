package main

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
)

func TestNamesThatAreSpelledAlikeAreFound(t *testing.T) {
	t.Parallel()
	names := func(all ...string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			if !yield("", fmt.Errorf("a node is away")) {
				return
			}
			for _, name := range all {
				if !yield(name, nil) {
					return
				}
			}
		}
	}
	for name, tt := range map[string]struct {
		all  []string
		want string
	}{
		"acme":      {[]string{"acme-eu", "amce", "ACME", "acne", "zebra"}, "ACME acne amce"},
		"acme-prod": {[]string{"acme", "acme-prod-2"}, "acme-prod-2"},
		"t0005":     {[]string{"t0006", "t0005x", "t5", "t0005x"}, "t0005x t0006"},
		"":          {nil, ""},
		"müller":    {[]string{"muller", "$(x)"}, "muller"},
		"x":         {[]string{strings.Repeat("y", 256)}, ""},
	} {
		alike, some := spelledLike(name, names(tt.all...))
		if got := strings.Join(alike, " "); got != tt.want || some != (len(tt.all) > 0) {
			t.Errorf("like %q are %q, want %q", name, got, tt.want)
		}
	}
	many := make([]string, 100_000)
	for i := range many {
		many[i] = fmt.Sprintf("t%05d", i)
	}
	if alike, _ := spelledLike("t0005", names(many...)); len(alike) != nearest || !slices.IsSorted(alike) {
		t.Errorf("%v", alike)
	}
}
