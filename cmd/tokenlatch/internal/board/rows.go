package board

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// Row is a grant, or an app as a whole where Tenant is empty.
type Row struct {
	App, Tenant            string
	State, Why, Acts, Code string
	Tone                   cli.Tone
	Trouble                bool
	Since, Expires         time.Time
}

type id struct{ app, tenant string }

func (r *Row) id() id { return id{r.App, r.Tenant} }

// kept is a row, and which listing has seen it last.
type kept struct {
	Row
	round int
}

// orders are what s goes through. Trouble always comes first.
var orders = []struct {
	name    string
	compare func(a, b *Row) int
}{
	{"newest change", func(a, b *Row) int { return b.Since.Compare(a.Since) }},
	{"tenant", func(*Row, *Row) int { return 0 }},
	{"state", func(a, b *Row) int { return cmp.Compare(a.State, b.State) }},
	{"token's end", func(a, b *Row) int { return a.Expires.Compare(b.Expires) }},
}

// matches reports whether a row is what the filter asks for: all its words, anywhere.
func (r *Row) matches(filter string) bool {
	text := strings.ToLower(strings.Join([]string{r.App, r.Tenant, r.State, why(r)}, " "))
	for _, word := range strings.Fields(strings.ToLower(filter)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// arranged are the rows that match, in order.
func arranged(rows map[id]*kept, filter string, order int) []*Row {
	var out []*Row
	for _, k := range rows {
		if k.Tenant != "" && k.matches(filter) {
			out = append(out, &k.Row)
		}
	}
	slices.SortFunc(out, func(a, b *Row) int {
		return cmp.Or(first(a.Trouble, b.Trouble), orders[order].compare(a, b), cmp.Compare(a.App, b.App), cmp.Compare(a.Tenant, b.Tenant))
	})
	return out
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
