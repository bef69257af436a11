package main

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

const (
	// nearFor is how long names are looked through for one that is spelled alike: of 100,000 grants all are, of a Redis
	// that holds much else some.
	nearFor = time.Second
	// nearest is how many names are suggested. Of so many letters of a name one may be wrong, and two of more.
	nearest  = 3
	oneWrong = 7
)

// didYouMean names tenants of an app that are spelled like one that is not there, or else apps; "" for none.
func didYouMean(ctx context.Context, s *session, k grant.Key) string {
	ctx, cancel := context.WithTimeout(ctx, nearFor)
	defer cancel()
	alike, some := spelledLike(k.Tenant, s.Tenants(ctx, k.App))
	if !some && len(alike) == 0 {
		alike = nearApps(ctx, s, k.App)
	}
	return orAlike(alike)
}

// orAlike returns how a sentence ends that names what is not there.
func orAlike(alike []string) string {
	if len(alike) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(alike, " or ") + "?"
}

// nearApps are the names of apps that are spelled alike.
func nearApps(ctx context.Context, s *session, app string) []string {
	alike, _ := spelledLike(app, s.Apps(ctx))
	return alike
}

// spelledLike are the names that are nearest to one, the best first. some says that there were any names at all. It
// keeps no more than it returns.
func spelledLike(name string, all iter.Seq2[string, error]) (alike []string, some bool) {
	type near struct {
		name string
		off  int
	}
	var best []near
	wanted, most := []rune(strings.ToLower(name)), 1
	if len(wanted) > oneWrong {
		most = 2
	}
	for other, err := range all {
		if err != nil {
			continue
		}
		some = true
		lower := strings.ToLower(other)
		n := near{other, apart(wanted, []rune(lower), most)}
		if n.off > most && !strings.HasPrefix(lower, string(wanted)) || slices.Contains(best, n) {
			continue
		}
		best = append(best, n)
		slices.SortFunc(best, func(a, b near) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.name, b.name)) })
		best = best[:min(len(best), nearest)]
	}
	for _, n := range best {
		alike = append(alike, oncall.ID(n.name))
	}
	return alike, some
}

// apart returns by how many letters two names differ, if by no more than most: left out, put in, another, or two swapped.
func apart(a, b []rune, most int) int {
	if d := len(a) - len(b); d > most || d < -most {
		return most + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			other := last[j]
			if a[i] != b[j] {
				other++
			}
			row[j+1] = min(other, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
