package explain

import (
	"os"
	"strings"
	"testing"
)

func TestEachCodeHasAPage(t *testing.T) {
	for _, code := range Codes() {
		page, ok := Page(strings.ToLower(code))
		if !ok {
			t.Errorf("%s has no page", code)
			continue
		}
		for _, part := range []string{"## " + code + " ", "**What it means.**", "**How it is known.**", "**What to do.**", "**What it is not.**"} {
			if strings.Count(page, part) != 1 {
				t.Errorf("the page of %s has %d × %q:\n%s", code, strings.Count(page, part), part, page)
			}
		}
	}
	if n := strings.Count(pages, "\n## "); n != len(Codes()) {
		t.Errorf("%d pages for %d codes", n, len(Codes()))
	}
	for _, code := range []string{"", "TL", "TL999", "Codes", "TL30"} {
		if page, ok := Page(code); ok {
			t.Errorf("%q has the page %q", code, page)
		}
	}
}

// The command prints from here what people read there.
func TestThePagesAreThoseOfTheDocs(t *testing.T) {
	docs, err := os.ReadFile("../../docs/codes.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(docs) != pages {
		t.Error("docs/codes.md and refresh/explain/codes.md differ: cp refresh/explain/codes.md docs/codes.md")
	}
}
