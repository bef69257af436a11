package term

import (
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// Width returns how many columns the terminal behind w has; 0 if there is none.
func Width(w io.Writer) int {
	fd, ok := descriptor(w)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(fd)
	if err != nil || width < 1 {
		return 80
	}
	return width
}

// IsTerminal reports whether w is one, and not one that calls itself dumb.
func IsTerminal(w io.Writer) bool {
	_, ok := descriptor(w)
	return ok && !dumb()
}

// Table prints rows in columns, as they come: the first ones are held back until it is known how wide
// the columns are. No cell is cut. On a terminal that is too narrow, one column gets the room that is
// left, and a cell that does not fit has lines of its own below.
type Table struct {
	W      io.Writer
	Heads  []string
	Width  int // of the terminal; 0 for none
	Fold   int // the column whose cells may go below
	Colour bool

	widths []int
	held   []Line
	begun  bool
}

const (
	heldRows = 200
	gap      = 2
	indent   = "    "
)

// Add takes a row: one span for each column.
func (t *Table) Add(row Line) error {
	if t.begun {
		return t.print(row)
	}
	if t.held = append(t.held, row); len(t.held) < heldRows {
		return nil
	}
	return t.Begin()
}

// Begin prints what is held back, and what comes at once from then on. A table without rows has no heads.
func (t *Table) Begin() error {
	if t.begun || len(t.held) == 0 {
		return nil
	}
	t.begun = true
	head := make(Line, len(t.Heads))
	for i, text := range t.Heads {
		head[i] = In(cli.Bold, text)
	}
	rows := append([]Line{head}, t.held...)
	t.held, t.widths = nil, make([]int, len(t.Heads))
	for _, row := range rows {
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], columns(cell))
		}
	}
	t.fit()
	for _, row := range rows {
		if err := t.print(row); err != nil {
			return err
		}
	}
	return nil
}

func columns(cell Span) int { return utf8.RuneCountInString(cell.Text) }

// fit gives the column whose cells may go below the room that is left.
func (t *Table) fit() {
	all := -gap
	for _, w := range t.widths {
		all += w + gap
	}
	if over := all - t.Width; t.Width > 0 && over > 0 {
		t.widths[t.Fold] = max(t.widths[t.Fold]-over, len(t.Heads[t.Fold]))
	}
}

func (t *Table) print(row Line) error {
	var out Line
	below := ""
	for i, cell := range row {
		if i == t.Fold && t.Width > 0 && columns(cell) > t.widths[i] {
			below, cell.Text = t.under(cell), ""
		}
		pad := t.widths[i] - columns(cell) + gap
		out = append(out, cell, In(cli.Plain, strings.Repeat(" ", max(gap, pad))))
	}
	_, err := io.WriteString(t.W, out.Text(0, t.Colour)+"\n"+below)
	return err
}

// under is a cell in lines of its own, broken between words.
func (t *Table) under(cell Span) (text string) {
	for _, line := range Wrap(cell.Text, t.Width-len(indent)) {
		cell.Text = line
		text += indent + Line{cell}.Text(0, t.Colour) + "\n"
	}
	return text
}
