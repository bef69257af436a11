package integration

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages returns the texts for people by path, README and docs/ among them.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, glob := range []string{"../*.md", "../docs/*.md"} {
		paths, err := filepath.Glob(glob)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %d pages, %v", glob, len(paths), err)
		}
		for _, path := range paths {
			all[path] = read(t, path)
		}
	}
	return all
}

func TestTheFrontDoorIsShort(t *testing.T) {
	t.Parallel()
	const most = 1500
	if n := len(strings.Fields(read(t, "../README.md"))); n >= most {
		t.Errorf("README has %d words: move what is not for a first visit to docs/, below %d", n, most)
	}
}

// fence is a block of code: its language and its text.
var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func blocks(page, language string) []string {
	var found []string
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		if m[1] == language {
			found = append(found, m[2])
		}
	}
	return found
}

// A reader copies the Go of the front door as it stands.
func TestTheGoInREADMECompiles(t *testing.T) {
	t.Parallel()
	snippets := blocks(read(t, "../README.md"), "go")
	if len(snippets) == 0 {
		t.Fatal("README shows no Go")
	}
	// Below a name that ./... does not reach, inside the module.
	dir, err := os.MkdirTemp("testdata", "readme")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for i, snippet := range snippets {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("snippet%d.go", i+1)), []byte(snippet), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "vet", ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
	if out, err := exec.Command("gofmt", "-l", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt -l: %v\n%s", err, out)
	}
}

// The customer of a dead consent and the one who never connected need different things.
func TestTheFirstSnippetKeepsItsErrorsApart(t *testing.T) {
	t.Parallel()
	snippets := blocks(read(t, "../README.md"), "go")
	if len(snippets) == 0 {
		t.Fatal("README shows no Go")
	}
	file, err := parser.ParseFile(token.NewFileSet(), "README.md", snippets[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]int{} // sentinel → cases that name it
	ast.Inspect(file, func(n ast.Node) bool {
		clause, ok := n.(*ast.CaseClause)
		if !ok {
			return true
		}
		var names []string
		for _, cond := range clause.List {
			ast.Inspect(cond, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(sel.Sel.Name, "Err") {
					names = append(names, sel.Sel.Name)
				}
				return true
			})
		}
		if len(names) == 1 {
			named[names[0]]++
		}
		return true
	})
	for _, sentinel := range []string{"ErrReauthorize", "ErrNotConnected"} {
		if named[sentinel] != 1 {
			t.Errorf("%d cases are about %s alone, want 1", named[sentinel], sentinel)
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	code    = regexp.MustCompile("`[^`\n]*`")
	// unslugged is what GitHub leaves out of a heading's anchor.
	unslugged = regexp.MustCompile(`[^\p{L}\p{N}\p{M}_ -]`)
)

func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		slug := unslugged.ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), "")
		slug = strings.ReplaceAll(slug, " ", "-")
		for n, base := 1, slug; found[slug]; n++ {
			slug = fmt.Sprintf("%s-%d", base, n)
		}
		found[slug] = true
	}
	return found
}

func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	t.Parallel()
	all := pages(t)
	relative := 0
	headings := map[string]map[string]bool{} // of each file that a link leads to
	for path, page := range all {
		prose := code.ReplaceAllString(fence.ReplaceAllString(page, ""), "")
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			relative++
			file, fragment, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s leads to no file", path, m[1])
				continue
			}
			if headings[target] == nil {
				headings[target] = anchors(read(t, target))
			}
			if fragment != "" && !headings[target][fragment] {
				t.Errorf("%s: %s leads to no heading of %s", path, m[1], target)
			}
		}
	}
	if relative == 0 {
		t.Error("no page links to another: nothing is proven")
	}
	for path := range all {
		if page := strings.TrimPrefix(path, "../"); strings.HasPrefix(page, "docs/") && !strings.Contains(all["../README.md"], "]("+page+")") {
			t.Errorf("README does not lead to %s", page)
		}
	}
}

// Each table exists once: a second one would be forgotten.
func TestEachTableExistsOnce(t *testing.T) {
	t.Parallel()
	seen := map[string]string{} // first cell of a line, and the next → page
	lines := 0
	for path, page := range pages(t) {
		for line := range strings.Lines(fence.ReplaceAllString(page, "")) {
			if !strings.HasPrefix(line, "| `") {
				continue
			}
			lines++
			if other, ok := seen[line]; ok {
				t.Errorf("%s and %s have the same line of a table: %.80s", other, path, line)
			}
			seen[line] = path
		}
	}
	if lines == 0 {
		t.Error("no page has a table: nothing is proven")
	}
}

// shownTest is a go test of one package, with -run or -bench.
var shownTest = regexp.MustCompile(`go test (\./[a-z/]+)(?: -run XX)? -(run|bench) ([A-Za-z]+)`)

func TestTheTestsThatPagesNameExist(t *testing.T) {
	t.Parallel()
	shown := 0
	for path, page := range pages(t) {
		for _, m := range shownTest.FindAllStringSubmatch(page, -1) {
			shown++
			kind := map[string]string{"run": "Test", "bench": "Benchmark"}[m[2]]
			if !declares(t, filepath.Join("..", m[1]), regexp.MustCompile(`(?m)^func `+kind+`\w*`+m[3])) {
				t.Errorf("%s: %q runs nothing", path, m[0])
			}
		}
	}
	if shown == 0 {
		t.Error("no page shows a go test: nothing is proven")
	}
}

func declares(t *testing.T, dir string, declaration *regexp.Regexp) bool {
	t.Helper()
	tests, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(tests, func(path string) bool { return declaration.MatchString(read(t, path)) })
}

// Pages name files from the module's root, in backticks.
func TestTheFilesThatPagesNameExist(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile("`((?:cmd|docs|integration|lock|refresh|tokencache)/[A-Za-z0-9_./*-]*)`")
	found := 0
	for path, page := range pages(t) {
		if path == "../CHANGELOG.md" { // what was
			continue
		}
		for _, m := range named.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
			found++
			if match, err := filepath.Glob(filepath.Join("..", m[1])); err != nil || len(match) == 0 {
				t.Errorf("%s: there is no %s", path, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no page names a file: nothing is proven")
	}
}

// The table of packages has a line each. The rooms of the command share its line.
func TestTheTableOfPackagesIsWhole(t *testing.T) {
	t.Parallel()
	page := read(t, "../docs/architecture.md")
	for _, p := range packages(t) {
		room, inside := strings.CutPrefix(p.short(), "cmd/tokenlatch/")
		if inside && !strings.Contains(page, "`"+room+"`") || !inside && !strings.Contains(page, "\n| `"+p.short()+"` | ") {
			t.Errorf("docs/architecture.md does not say what %s is", p.short())
		}
	}
}

// Pages name what a Go program names.
func TestTheGoNamesOnPagesExist(t *testing.T) {
	t.Parallel()
	exported := map[string]map[string]bool{}
	for name, dir := range map[string]string{
		"lock": "lock", "tokencache": "tokencache", "seal": "tokencache/seal", "refresh": "refresh", "provider": "refresh/provider",
	} {
		exported[name] = exportedIn(t, filepath.Join("..", dir))
	}
	named := regexp.MustCompile(`\b(lock|tokencache|seal|refresh|provider)\.([A-Z]\w*)`)
	found := 0
	for path, page := range pages(t) {
		if path == "../CHANGELOG.md" { // what was
			continue
		}
		for _, m := range named.FindAllStringSubmatch(page, -1) {
			found++
			if !exported[m[1]][m[2]] {
				t.Errorf("%s: there is no %s.%s", path, m[1], m[2])
			}
		}
	}
	if found == 0 {
		t.Error("no page names anything of Go: nothing is proven")
	}
}

// exportedIn returns what the package in dir exports at its top level.
func exportedIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				names[d.Name.Name] = d.Recv == nil || names[d.Name.Name]
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, name := range s.Names {
							names[name.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

// Whoever stands in front of the Makefile asks it what there is.
func TestMakeHelpNamesEveryTarget(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make")
	}
	out, err := exec.Command("make", "-C", "..", "--no-print-directory", "help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	phony := regexp.MustCompile(`(?m)^\.PHONY: (.*)$`).FindStringSubmatch(read(t, "../Makefile"))
	if phony == nil {
		t.Fatal("the Makefile has no .PHONY")
	}
	for _, target := range strings.Fields(phony[1]) {
		if !regexp.MustCompile(`(?m)^  make ` + target + `\b.* {2,}\S`).Match(out) {
			t.Errorf("make help does not say what %s does:\n%s", target, out)
		}
	}
}

// Somebody else's machine is not ours to install on.
func TestNoInstallKeepsWithRedisFromInstalling(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("integration/with-redis needs bash")
	}
	for _, c := range []struct {
		name, env  string
		says       string
		installers bool // whether one of them was called
	}{
		{"NO_INSTALL=1", "NO_INSTALL=1", "NO_INSTALL", false},
		{"NO_INSTALL empty", "NO_INSTALL=", "NO_INSTALL=1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bin, called := pathWithoutRedis(t)
			cmd := exec.Command(bash, "./with-redis", "true")
			cmd.Env = []string{"PATH=" + bin, c.env}
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("it went on without a Redis:\n%s", out)
			}
			if !strings.Contains(string(out), c.says) || !strings.Contains(string(out), "no Redis") {
				t.Errorf("it says\n%s\nwant %q in it", out, c.says)
			}
			calls, err := os.ReadFile(called)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if (len(calls) > 0) != c.installers {
				t.Errorf("installers were called so: %q\n%s", calls, out)
			}
		})
	}
}

// pathWithoutRedis returns a PATH on which there is no Redis, and whose package managers only note in
// a file that they were called, and fail.
func pathWithoutRedis(t *testing.T) (bin, called string) {
	t.Helper()
	bin = t.TempDir()
	called = filepath.Join(bin, "called")
	for _, tool := range []string{"bash", "dirname", "id", "cat"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"brew", "apt-get", "apk", "dnf", "sudo"} {
		script := "#!" + filepath.Join(bin, "bash") + "\necho \"${0##*/} $*\" >> '" + called + "'\nexit 1\n"
		if err := os.WriteFile(filepath.Join(bin, tool), []byte(script), fs.FileMode(0o700)); err != nil {
			t.Fatal(err)
		}
	}
	return bin, called
}
