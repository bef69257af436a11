package pages

import (
	"path"
	"slices"
	"strings"

	"github.com/tokenlatch/tokenlatch/docs"
)

// Page is one page, as Markdown.
type Page struct{ Name, Title, Text string }

// All are the pages, by name.
func All() (all []Page) {
	for _, dir := range []string{".", "ops"} {
		files, _ := docs.Files.ReadDir(dir)
		for _, f := range files {
			name, isPage := strings.CutSuffix(f.Name(), ".md")
			text, err := docs.Files.ReadFile(path.Join(dir, f.Name()))
			if !isPage || err != nil {
				continue
			}
			title, _, _ := strings.Cut(strings.TrimPrefix(string(text), "# "), "\n")
			all = append(all, Page{name, title, string(text)})
		}
	}
	slices.SortFunc(all, func(a, b Page) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Find returns the page of a name.
func Find(name string) (Page, bool) {
	for _, p := range All() {
		if p.Name == name {
			return p, true
		}
	}
	return Page{}, false
}

// Schema returns the schema of a command's JSON, by its file's name without the end.
func Schema(name string) (string, bool) {
	text, err := docs.Files.ReadFile("json/" + name + ".schema.json")
	return string(text), err == nil && !strings.Contains(name, "/")
}

// Schemas are the names of all schemas.
func Schemas() (names []string) {
	files, _ := docs.Files.ReadDir("json")
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".schema.json"))
	}
	return names
}

// heading is a heading of a page, and where its section begins and ends among the page's lines.
type heading struct {
	level, from, to int
	text            string
}

// headings are those of a page, in order. What stands in a code block is none.
func headings(lines []string) (all []heading) {
	code := false
	for i, line := range lines {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		text := strings.TrimLeft(line, "#")
		level := len(line) - len(text)
		if code || level == 0 || !strings.HasPrefix(text, " ") {
			continue
		}
		for j := range all {
			if all[j].to == len(lines) && all[j].level >= level {
				all[j].to = i
			}
		}
		all = append(all, heading{level, i, len(lines), strings.TrimSpace(text)})
	}
	return all
}

// Headings are what the sections of a page are about.
func (p Page) Headings() (texts []string) {
	for _, h := range headings(strings.Split(p.Text, "\n")) {
		texts = append(texts, h.text)
	}
	return texts
}

// Sections are those of a page whose heading has all words, each with what is below it; "" for none.
func (p Page) Sections(words ...string) string {
	lines, out, until := strings.Split(p.Text, "\n"), []string(nil), 0
	for _, h := range headings(lines) {
		text := strings.ToLower(h.text)
		if h.from < until || slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, strings.ToLower(w)) }) {
			continue
		}
		out, until = append(out, strings.TrimSpace(strings.Join(lines[h.from:h.to], "\n"))), h.to
	}
	return strings.Join(out, "\n\n")
}
