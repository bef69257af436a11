package term

import (
	"strings"
	"unicode/utf8"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// Line is one line of output: spans of text, each with its tone.
type Line []Span

// Span is a piece of a line.
type Span struct {
	Tone cli.Tone
	Text string
}

// In is text in a tone.
func In(tone cli.Tone, text string) Span { return Span{tone, text} }

// colours by tone, as SGR parameters.
var colours = map[cli.Tone]string{cli.Calm: "32", cli.Busy: "33", cli.Alarm: "1;31", cli.Faint: "2", cli.Bold: "1"}

// Text is the line cut to width columns (0: not cut), with colour if wished. Everything
// printed here is one column a rune.
func (l Line) Text(width int, colour bool) string {
	var b strings.Builder
	left := width
	for _, s := range l {
		text := s.Text
		if width > 0 {
			text = cut(text, left)
			left -= utf8.RuneCountInString(text)
		}
		if sgr := colours[s.Tone]; colour && sgr != "" && text != "" {
			text = "\x1b[" + sgr + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
	}
	return strings.TrimRight(b.String(), " ")
}

// cut shortens text to n columns, with a sign that it did.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	if n < 1 {
		return ""
	}
	return string([]rune(text)[:n-1]) + "~"
}

// Render is the text of all the lines, each cut to width columns (0: not cut).
func Render(lines []Line, width int, colour bool) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Text(width, colour) + "\n")
	}
	return b.String()
}
