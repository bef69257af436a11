package pages_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/pages"
)

func TestASectionIsFoundByWordsOfItsHeading(t *testing.T) {
	t.Parallel()
	p := pages.Page{Text: "# All\n\nintro\n\n## Rights in Redis\n\nline\n\n```sh\n# no heading\n```\n\n### Who looks\n\nlook\n\n## Other rights\n\nmore\n"}
	for words, want := range map[string]string{
		"rights":       "## Rights in Redis\n\nline\n\n```sh\n# no heading\n```\n\n### Who looks\n\nlook\n\n## Other rights\n\nmore",
		"REDIS rights": "## Rights in Redis\n\nline\n\n```sh\n# no heading\n```\n\n### Who looks\n\nlook",
		"looks":        "### Who looks\n\nlook",
		"heading":      "",
	} {
		if got := p.Sections(strings.Fields(words)...); got != want {
			t.Errorf("%s: %q, want %q", words, got, want)
		}
	}
}

func TestMarkdownIsReadableOnATerminal(t *testing.T) {
	t.Parallel()
	const text = "## A *b*\n\nSee [the page](x.md#y) and\n**go** on.\n\n- one two three four five six\n  seven\n1. `x`\n\n| a | b |\n| --- | --- |\n| `x\\|y` | z |\n\n| a | b | c |\n| --- | --- | --- |\n| x | y | |\n\n```console\n$ a long line that is not broken at all\n```\n"
	const want = "A *b*\n\nSee the page and go on.\n\n- one two three four\n  five six seven\n1. `x`\n\n`x|y`\n    z\n\nx\n    b: y\n\n    $ a long line that is not broken at all\n"
	if got := pages.Render(text, 24); got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

// What does not fit is a word, or code, which people copy.
func TestEachPageFitsATerminal(t *testing.T) {
	t.Parallel()
	all := pages.All()
	if len(all) < 7 {
		t.Errorf("%d pages: nothing is proven", len(all))
	}
	for _, p := range all {
		if p.Title == "" || strings.HasPrefix(p.Title, "#") {
			t.Errorf("%s has no title: %q", p.Name, p.Title)
		}
		for line := range strings.Lines(pages.Render(p.Text, 80)) {
			if line = strings.TrimRight(line, "\n"); utf8.RuneCountInString(line) > 80 && strings.Contains(strings.TrimSpace(line), " ") && !strings.HasPrefix(line, "    ") {
				t.Errorf("%s: %q", p.Name, line)
			}
		}
	}
	for _, name := range append(pages.Schemas(), "../operations") {
		if text, ok := pages.Schema(name); ok != strings.HasPrefix(text, "{") || ok == strings.Contains(name, "/") {
			t.Errorf("%s: %t", name, ok)
		}
	}
}
