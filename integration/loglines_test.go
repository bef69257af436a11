package integration

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logLine is a message that the library can log.
type logLine struct{ level, text, where string }

// levels are the methods of a zerolog.Logger that begin a line.
var levels = map[string]string{"Debug": "debug", "Info": "info", "Warn": "warn", "Error": "error"}

// logLines finds every message of the library in its code.
func logLines(t *testing.T) (all []logLine) {
	t.Helper()
	for _, dir := range []string{"../lock", "../tokencache", "../refresh"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "refreshtest") {
				return err
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, is := n.(*ast.CallExpr); is {
					if l, is := lineOf(call); is {
						l.where = fset.Position(call.Pos()).String()
						all = append(all, l)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 40 {
		t.Fatalf("%d messages: nothing is proven", len(all))
	}
	slices.SortFunc(all, func(a, b logLine) int {
		order := func(l logLine) int { return slices.Index([]string{"error", "warn", "info", "debug", ""}, l.level) }
		return cmp.Or(order(a)-order(b), strings.Compare(a.text, b.text))
	})
	return all
}

// lineOf is the message of a call like log.Warn()….Msg("text"), or lasting.note(…, "text"), which logs it at
// warn.
func lineOf(call *ast.CallExpr) (logLine, bool) {
	method, is := call.Fun.(*ast.SelectorExpr)
	if !is || len(call.Args) == 0 {
		return logLine{}, false
	}
	said, is := textOf(call.Args[len(call.Args)-1])
	switch {
	case !is:
		return logLine{}, false
	case method.Sel.Name == "Msg" && len(call.Args) == 1:
		return logLine{level: levelOf(method.X), text: said}, true
	case method.Sel.Name == "note" && len(call.Args) == 3:
		return logLine{level: "warn", text: said}, true
	}
	return logLine{}, false
}

// textOf is a text in quotes, or several of them together.
func textOf(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		a, is := textOf(e.X)
		b, too := textOf(e.Y)
		return a + b, is && too
	}
	return "", false
}

// levelOf is the level of what a line is built on; "" if that depends.
func levelOf(of ast.Expr) (level string) {
	ast.Inspect(of, func(n ast.Node) bool {
		if sel, is := n.(*ast.SelectorExpr); is && levels[sel.Sel.Name] != "" {
			level = levels[sel.Sel.Name]
		}
		return true
	})
	return level
}

// The table says of each line that the library logs at which level, what it means and what to do; and of no other.
func TestTheTableOfLogLinesIsWhole(t *testing.T) {
	t.Parallel()
	_, table, found := strings.Cut(read(t, "../docs/operations.md"), "\n## The log\n")
	if !found {
		t.Fatal("docs/operations.md has no section about the log")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	rows := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z, ]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`).FindAllStringSubmatch(table, -1) {
		if row[1] != "level" {
			rows[row[2]] = row[1]
		}
	}
	codes := read(t, "../docs/codes.md")
	for _, code := range regexp.MustCompile(`TL\d{3}`).FindAllString(table, -1) {
		if !strings.Contains(codes, "## "+code) {
			t.Errorf("the table names %s, which docs/codes.md does not know", code)
		}
	}
	said := map[string]bool{}
	for _, l := range logLines(t) {
		text := strings.ReplaceAll(l.text, "|", `\|`)
		said[text] = true
		level, has := rows[text]
		if !has || l.level != "" && !strings.Contains(level, l.level) {
			t.Errorf("%s: the table does not have, at %s (it says %q):\n%s", l.where, fmt.Sprintf("%q", l.level), level, text)
		}
	}
	for text := range rows {
		if !said[text] {
			t.Errorf("the table has a line that nothing logs: %s", text)
		}
	}
}
