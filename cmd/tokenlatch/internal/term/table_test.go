package term_test

import (
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

func table(t *testing.T, width int, rows ...[3]string) string {
	t.Helper()
	var b strings.Builder
	tab := &term.Table{W: &b, Heads: []string{"ID", "WHY", "WHO"}, Width: width, Fold: 1}
	for _, row := range rows {
		if err := tab.Add(term.Line{term.In(cli.Plain, row[0]), term.In(cli.Plain, row[1]), term.In(cli.Plain, row[2])}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tab.Begin(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestATableCutsNothing(t *testing.T) {
	rows := [][3]string{{"a", "short", "you"}, {"b", "a long reason that does not fit", "customer"}}
	for width, want := range map[int]string{
		0: "ID  WHY                              WHO\na   short                            you\nb   a long reason that does not fit  customer\n",
		// Below, where the terminal is too narrow for it, and broken between words.
		25: "ID  WHY          WHO\na   short        you\nb                customer\n    a long reason that\n    does not fit\n",
	} {
		if got := table(t, width, rows...); got != want {
			t.Errorf("%d columns:\n%s\nwant\n%s", width, got, want)
		}
	}
	if got := table(t, 80); got != "" {
		t.Errorf("no rows: %q", got)
	}
}

func TestRowsAfterTheFirstOnesComeAtOnce(t *testing.T) {
	var rows [][3]string
	for range 200 {
		rows = append(rows, [3]string{"a", "b", "c"})
	}
	late := append(rows, [3]string{strings.Repeat("x", 100), "b", "c"})
	if got := table(t, 0, late...); !strings.Contains(got, strings.Repeat("x", 100)+"  b") {
		t.Errorf("the long id is cut: %s", got[len(got)-200:])
	}
}
