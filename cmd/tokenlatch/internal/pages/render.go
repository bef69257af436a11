package pages

import (
	"regexp"
	"strings"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

// Render shows Markdown on so many columns, as our pages use it: text is broken into lines, and a row of a table has
// its cells one below the other. Code stays as it is.
func Render(text string, width int) string {
	var out, open []string // open: the lines of a paragraph that goes on
	flush := func() {
		out, open = append(out, paragraph(strings.Join(open, " "), width)...), nil
	}
	code, heads := false, []string(nil)
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			flush()
			code = !code
			continue
		case code:
			out = append(out, "    "+line)
			continue
		case !strings.HasPrefix(line, "|"):
			heads = nil
		}
		switch {
		case strings.HasPrefix(line, "|"):
			flush()
			if heads == nil {
				heads = cells(line)
			} else {
				out = append(out, row(heads, cells(line), width)...)
			}
		case strings.TrimSpace(line) == "":
			flush()
			out = append(out, "")
		case strings.HasPrefix(line, "#"):
			flush()
			out = append(out, term.Wrap(plain(strings.TrimLeft(line, "# ")), width)...)
		case begins.MatchString(line):
			flush()
			open = []string{line}
		default:
			open = append(open, strings.TrimSpace(line))
		}
	}
	flush()
	return strings.TrimSpace(strings.Join(out, "\n")) + "\n"
}

var (
	begins = regexp.MustCompile(`^\s*(-|\d+\.) `)
	link   = regexp.MustCompile(`\[([^\]]+)\]\([^)]*\)`)
	marks  = strings.NewReplacer("**", "", `\|`, "|", "&nbsp;", " ")
)

// plain is text without what Markdown only needs for print.
func plain(text string) string { return marks.Replace(link.ReplaceAllString(text, "$1")) }

// paragraph breaks a paragraph, or a point of a list.
func paragraph(text string, width int) (out []string) {
	if text == "" {
		return nil
	}
	body := strings.TrimLeft(text, " ")
	first := strings.Repeat(" ", len(text)-len(body))
	rest := first
	if mark := begins.FindString(text); mark != "" {
		first, body = mark, text[len(mark):]
		rest = strings.Repeat(" ", len(mark))
	}
	for _, part := range term.Wrap(plain(body), width-len(rest)) {
		out = append(out, first+part)
		first = rest
	}
	return out
}

// cells are those of a line of a table.
func cells(line string) (out []string) {
	line = strings.ReplaceAll(strings.Trim(strings.TrimSpace(line), "|"), `\|`, "\x00")
	for cell := range strings.SplitSeq(line, "|") {
		out = append(out, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|")))
	}
	return out
}

// row is a row of a table: what it is about, and the rest below it. Of more than two columns each is named.
func row(heads, cells []string, width int) (out []string) {
	if strings.Trim(strings.Join(cells, ""), "-: ") == "" {
		return nil // the line below the heads
	}
	out = term.Wrap(plain(cells[0]), width)
	for i, cell := range cells[1:] {
		if cell == "" {
			continue
		}
		if i+1 < len(heads) && len(heads) > 2 && heads[i+1] != "" {
			cell = heads[i+1] + ": " + cell
		}
		for _, part := range term.Wrap(plain(cell), width-4) {
			out = append(out, "    "+part)
		}
	}
	return out
}
