package board

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

// The lines of a board beside those of its table and its events: title, app, heads, two about the chosen row,
// one above the events, and the keys.
const (
	otherLines  = 7
	detailLines = 2
)

// eventsHeight returns how many events are shown.
func (m *Model) eventsHeight() int { return min(max(m.height/4, 2), 12) }

// tableHeight returns how many rows are shown.
func (m *Model) tableHeight() int { return max(1, m.height-otherLines-m.eventsHeight()) }

// View draws it.
func (m *Model) View() tea.View {
	v := tea.NewView(strings.Join(m.lines(), "\n"))
	v.AltScreen, v.WindowTitle = true, "tokenlatch "+m.Title
	return v
}

// lines are the whole picture: as many lines as the terminal has, none wider than it is.
func (m *Model) lines() []string {
	now := time.Now().Add(m.skew)
	var out []string
	say := func(spans ...term.Span) { out = append(out, term.Line(spans).Text(m.width, m.Colour)) }
	say(m.title(now)...)
	say(m.apps()...)
	out = append(out, m.table(now)...)
	detail := m.detail(now)
	out = append(out, detail...)
	say(term.In(cli.Faint, "last events"))
	height := max(0, m.eventsHeight()+detailLines-len(detail))
	last := m.events[max(0, len(m.events)-height):]
	for i := range height {
		if i < len(last) {
			say(last[i]...)
		} else {
			say()
		}
	}
	say(m.keys()...)
	return out[:min(len(out), m.height)]
}

func (m *Model) title(now time.Time) []term.Span {
	trouble, grants := 0, 0
	for _, k := range m.rows {
		if k.Tenant != "" {
			grants++
			if k.Trouble {
				trouble++
			}
		}
	}
	count := oncall.Count(int64(grants)) + " grants"
	if grants == 1 {
		count = "1 grant"
	}
	if !m.complete {
		count += " so far"
	}
	tone, text := cli.Calm, "none in trouble"
	if trouble > 0 {
		tone, text = cli.Alarm, oncall.Count(int64(trouble))+" in trouble"
	}
	head := []term.Span{term.In(cli.Bold, m.Title+"  "), term.In(cli.Plain, oncall.Clock(now, now)+" UTC  "+count+"  "), term.In(tone, text)}
	return append(head, term.In(cli.Faint, "  "+m.Place))
}

// apps says what is the matter with all of it: nothing is heard, or apps as a whole.
func (m *Model) apps() []term.Span {
	if m.away != "" {
		return []term.Span{term.In(cli.Alarm, "NOT LIVE: "+m.away)}
	}
	var bad []string
	for _, k := range m.rows {
		if k.Tenant == "" && k.Trouble {
			bad = append(bad, oncall.ID(k.App)+": "+k.State+", "+k.Why)
		}
	}
	slices.Sort(bad)
	return []term.Span{term.In(cli.Alarm, strings.Join(bad, "; "))}
}

// widest is how wide a column is at most. A longer name moves what follows in its own row.
const widest = 32

// table is the heads, and the rows around the chosen one.
func (m *Model) table(now time.Time) []string {
	height, at := m.tableHeight(), m.at()
	from := max(0, min(at-height/2, len(m.shown)-height))
	rows := m.shown[from:min(len(m.shown), from+height)]
	cells := make([][6]string, 0, len(rows))
	widths := [6]int{5, 9, 5, 3, 6, 3}
	for _, r := range rows {
		c := [6]string{r.State, oncall.Clock(r.Since, now), oncall.Left(r.Expires, now), oncall.ID(r.App), oncall.ID(r.Tenant), why(r)}
		for i, text := range c {
			widths[i] = max(widths[i], min(widest, utf8.RuneCountInString(text)))
		}
		cells = append(cells, c)
	}
	head := append(term.Line{term.In(cli.Plain, "  ")}, m.columns([6]string{"STATE", "SINCE UTC", "TOKEN", "APP", "TENANT", "WHY"}, widths, func(int) cli.Tone { return cli.Bold })...)
	out := []string{head.Text(m.width, m.Colour)}
	for i, c := range cells {
		out = append(out, m.row(rows[i], c, widths, from+i == at))
	}
	for len(out) < height+1 {
		text := ""
		if len(out) == 1 {
			text = term.Line{term.In(cli.Plain, m.nothing())}.Text(m.width, false)
		}
		out = append(out, text)
	}
	return out
}

// columns are the cells of a line. The last one is not filled up.
func (m *Model) columns(cells [6]string, widths [6]int, tone func(i int) cli.Tone) (line term.Line) {
	for i, text := range cells {
		switch {
		case i == 3 && m.OneApp:
			continue
		case i < len(cells)-1:
			text = fmt.Sprintf("%-*s  ", widths[i], text)
		}
		line = append(line, term.In(tone(i), text))
	}
	return line
}

func why(r *Row) string {
	if r.Code != "" && r.Trouble {
		return r.Why + " [" + r.Code + "]"
	}
	return r.Why
}

// nothing says why there are no rows.
func (m *Model) nothing() string {
	switch {
	case m.filter != "":
		return "  no grant matches; Esc lifts the filter"
	case !m.complete:
		return "  looking …"
	}
	return "  no grants"
}

func (m *Model) row(r *Row, cells [6]string, widths [6]int, chosen bool) string {
	mark := "  "
	if chosen {
		mark = "> "
	}
	line := append(term.Line{term.In(cli.Plain, mark)}, m.columns(cells, widths, func(i int) cli.Tone {
		if i == 0 && !chosen {
			return r.Tone
		}
		return cli.Plain
	})...)
	text := line.Text(m.width, m.Colour)
	if chosen && m.Colour {
		text = "\x1b[7m" + text + strings.Repeat(" ", max(0, m.width-utf8.RuneCountInString(text))) + "\x1b[0m"
	}
	return text
}

// mostDetail is how many lines the detail may take from the events, for the sake of a long name.
const mostDetail = 5

// detail is all that is to be said of the chosen row, its name whole.
func (m *Model) detail(now time.Time) []string {
	out := make([]string, detailLines)
	k := m.rows[m.chosen]
	if k == nil || m.at() < 0 {
		return out
	}
	parts := broken(m.said(k, now), m.width)
	copy(out, parts)
	if len(parts) > detailLines {
		out = append(out, parts[detailLines:min(len(parts), mostDetail)]...)
	}
	return out[:min(len(out), detailLines+m.eventsHeight())]
}

// said is all there is to say of a row.
func (m *Model) said(k *kept, now time.Time) string {
	text := oncall.ID(k.App) + " " + oncall.ID(k.Tenant) + ": " + k.State
	if !k.Since.IsZero() {
		text += " for " + oncall.Span(now.Sub(k.Since))
	}
	if k.Why != "" {
		text += ": " + why(&k.Row)
	}
	if k.Acts != "" {
		text += "; acts: " + k.Acts
	}
	return text
}

// broken is text in lines of at most width columns. A word that is longer is broken, too.
func broken(text string, width int) (lines []string) {
	for _, line := range term.Wrap(text, width) {
		for r := []rune(line); len(r) > 0; r = r[min(width, len(r)):] {
			lines = append(lines, string(r[:min(width, len(r))]))
		}
	}
	return lines
}

func (m *Model) keys() []term.Span {
	switch {
	case m.filtering:
		return []term.Span{term.In(cli.Bold, "/"+m.filter+"_"), term.In(cli.Faint, "   Enter keeps it, Esc lifts it")}
	case m.copied != "":
		return []term.Span{term.In(cli.Calm, "copied: "+oncall.ID(m.copied))}
	}
	text := "/ filter  s sort: " + orders[m.order].name + "  y copy tenant  up down  q quit"
	if m.filter != "" {
		text = "filter: " + m.filter + "  Esc lifts it   " + text
	}
	return []term.Span{term.In(cli.Faint, text)}
}
