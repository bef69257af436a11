package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// A pipe gets the page as it is written.
func TestPagesArePrinted(t *testing.T) {
	t.Parallel()
	for args, file := range map[string]string{
		"help operations": "operations.md", "help runbook": "ops/runbook.md", "help json grant": "json/grant.schema.json",
	} {
		want, err := os.ReadFile("../../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if code, stdout, stderr := told(t, nil, strings.Fields(args)...); code != cli.ExitOK || stdout != string(want) || stderr != "" {
			t.Errorf("%s: code %d, %d bytes instead of %d: %s", args, code, len(stdout), len(want), stderr)
		}
	}
	if _, stdout, _ := told(t, nil, "help", "codes", "tl302"); !strings.HasPrefix(stdout, "## TL302 lost answer\n") || strings.Contains(stdout, "TL303 ") {
		t.Errorf("%s", stdout)
	}
}

// What the command says names no page that it cannot print, and no help that is not there.
func TestTheHelpThatIsNamedIsThere(t *testing.T) {
	t.Parallel()
	page := regexp.MustCompile("[\"`][^\"`]*docs/\\w+\\.md")
	help := regexp.MustCompile(`tokenlatch help ([a-z-]+)(?:\s([a-z]+))?`)
	named := 0
	for _, dir := range []string{".", "../../refresh/explain"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for line := range bytes.Lines(text) {
				if code, _, _ := strings.Cut(string(line), "//"); page.MatchString(code) {
					t.Errorf("%s names a page that is not in the binary: %s", path, code)
				}
			}
			for _, m := range help.FindAllStringSubmatch(string(text), -1) {
				if m[1] == "lists" { // "tokenlatch help" lists the commands
					continue
				}
				named++
				words := []string{"help", m[1]}
				if _, _, stderr := told(t, nil, words...); stderr != "" {
					t.Errorf("%s: %s: %s", path, m[0], stderr)
				}
				if _, all, _ := told(t, nil, words...); strings.HasPrefix(all, "# ") && m[2] != "" && m[2] != "has" && m[2] != "what" {
					if _, _, stderr := told(t, nil, append(words, m[2])...); stderr != "" {
						t.Errorf("%s: %s: %s", path, m[0], stderr)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if named < 10 {
		t.Errorf("%d are named: nothing is proven", named)
	}
}
