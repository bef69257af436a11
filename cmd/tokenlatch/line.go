package main

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// line is one line of output: spans of text, each with its tone.
type line []span

type span struct {
	tone tone
	text string
}

// colours by tone, as SGR parameters.
var colours = map[tone]string{calm: "32", busy: "33", alarm: "1;31", faint: "2", bold: "1"}

// text is the line cut to width columns (0: not cut), with colour if wished. Everything
// printed here is one column a rune.
func (l line) text(width int, colour bool) string {
	var b strings.Builder
	left := width
	for _, s := range l {
		text := s.text
		if width > 0 {
			text = cut(text, left)
			left -= utf8.RuneCountInString(text)
		}
		if sgr := colours[s.tone]; colour && sgr != "" && text != "" {
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

func render(lines []line, width int, colour bool) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text(width, colour) + "\n")
	}
	return b.String()
}

// coloured reports whether what goes to w may have colour.
func coloured(w io.Writer) bool {
	_, ok := terminal(w)
	return ok && wantsColour()
}

// wantsColour follows no-color.org and terminals that call themselves dumb.
func wantsColour() bool { return os.Getenv("NO_COLOR") == "" && !dumb() }

func dumb() bool { return os.Getenv("TERM") == "dumb" }

// speaksUTF8 follows the locale, by POSIX' precedence.
func speaksUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToUpper(os.Getenv(name)); value != "" {
			return strings.Contains(value, "UTF-8") || strings.Contains(value, "UTF8")
		}
	}
	return false
}
