package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

// house is what is measured of a package: what a reader meets who moves in.
type house struct {
	files   int
	exports int            // package-level names
	circle  []string       // the largest set of files each of which leads to all others
	methods map[string]int // by type
	longest map[string]int // functions by their lines, the longest alone
}

// limits hold the walls. They may be made smaller.
var limits = map[string]struct{ exports, circle, methods, lines int }{
	"cmd/tokenlatch":                   {0, 3, 37, 51},
	"cmd/tokenlatch/internal/board":    {10, 3, 25, 43},
	"cmd/tokenlatch/internal/cli":      {35, 2, 3, 45},
	"cmd/tokenlatch/internal/demo":     {12, 2, 19, 35},
	"cmd/tokenlatch/internal/doctor":   {15, 4, 14, 35},
	"cmd/tokenlatch/internal/fleet":    {5, 0, 10, 30},
	"cmd/tokenlatch/internal/pages":    {6, 0, 2, 45},
	"docs":                             {1, 0, 0, 0},
	"cmd/tokenlatch/internal/oncall":   {45, 0, 3, 30},
	"cmd/tokenlatch/internal/settings": {8, 0, 12, 35},
	"cmd/tokenlatch/internal/term":     {13, 0, 7, 30},
	"cmd/webhook-worker":               {0, 0, 12, 35},
	"tokencache":                       {30, 0, 0, 10},
	"tokencache/engine":                {31, 2, 48, 47},
	"tokencache/grant":                 {74, 4, 12, 40},
	"tokencache/internal/apps":         {12, 2, 26, 51},
	"tokencache/internal/due":          {8, 0, 18, 26},
	"tokencache/journal":               {31, 0, 1, 20},
	"tokencache/inspect":               {7, 0, 28, 30},
	"tokencache/internal/clock":        {5, 0, 12, 30},
	"tokencache/internal/server":       {10, 0, 10, 40},
	"tokencache/internal/proof":        {10, 0, 20, 40},
	"tokencache/internal/hub":          {10, 2, 38, 35},
	"tokencache/internal/memory":       {14, 4, 23, 43},
	"tokencache/internal/inbox":        {9, 0, 23, 40},
	"tokencache/internal/mono":         {10, 0, 0, 20},
	"tokencache/internal/store":        {53, 3, 20, 41},
	"tokencache/seal":                  {9, 0, 3, 20},
	"lock":                             {8, 0, 7, 45},
	"refresh":                          {57, 0, 25, 36},
	"refresh/explain":                  {30, 4, 48, 40},
	"refresh/internal/bearer":          {11, 0, 7, 25},
	"refresh/internal/economy":         {10, 0, 20, 45},
	"refresh/internal/exchange":        {7, 0, 8, 25},
	"refresh/internal/flight":          {6, 0, 20, 60},
	"refresh/internal/holder":          {6, 0, 28, 50},
	"refresh/internal/keep":            {4, 0, 7, 40},
	"refresh/internal/observe":         {52, 0, 7, 25},
	"refresh/internal/pair":            {4, 0, 3, 30},
	"refresh/internal/policy":          {114, 0, 9, 35},
	"refresh/internal/renew":           {5, 0, 20, 50},
	"refresh/internal/trouble":         {5, 0, 12, 30},
	"refresh/internal/work":            {11, 0, 6, 20},
	"refresh/metrics":                  {2, 2, 14, 40},
	"refresh/otel":                     {2, 0, 2, 25},
	"refresh/provider":                 {96, 2, 17, 35},
	"refresh/refreshtest":              {34, 3, 29, 35},
}

func TestHouseRules(t *testing.T) {
	t.Parallel()
	for name, p := range typed(t, "./lock/...", "./tokencache/...", "./refresh/...", "./cmd/...") {
		h := measure(p)
		most := 0
		for _, n := range h.methods {
			most = max(most, n)
		}
		t.Logf("%-26s %2d files, %3d exports, circle of %2d, methods %v, longest %v", name, h.files, h.exports, len(h.circle), top(h.methods), h.longest)
		limit, ok := limits[name]
		if !ok {
			t.Errorf("%s: give it limits", name)
			continue
		}
		if most := 5; len(h.circle) > most {
			t.Errorf("%s: %d files lead to each other, at most %d in any package: %v", name, len(h.circle), most, h.circle)
		}
		if most := 15; h.methods["Cache"] > most {
			t.Errorf("%s: %d methods on Cache, at most %d: give them to the room that has the state", name, h.methods["Cache"], most)
		}
		lines := 0
		for _, n := range h.longest {
			lines = n
		}
		for _, over := range []struct {
			what       string
			is, mostly int
		}{{"exported names", h.exports, limit.exports}, {"files in a circle", len(h.circle), limit.circle}, {"methods on a type", most, limit.methods}, {"lines in a function", lines, limit.lines}} {
			if over.is > over.mostly {
				t.Errorf("%s: %d %s, at most %d", name, over.is, over.what, over.mostly)
			}
		}
	}
}

// checked is a package with its types.
type checked struct {
	fset  *token.FileSet
	files []*ast.File
	pkg   *types.Package
	info  *types.Info
}

// typed are our packages, by their short names. What they import comes from the compiler's export data.
func typed(t *testing.T, patterns ...string) map[string]checked {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles"}, patterns...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles                 []string
	}
	exports, ours := map[string]string{}, map[string]listed{}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if short, own := strings.CutPrefix(p.ImportPath, module+"/"); own {
			ours[short] = p
		}
	}
	fset, all := token.NewFileSet(), map[string]checked{}
	from := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for short, p := range ours {
		c := checked{fset: fset, info: &types.Info{Uses: map[*ast.Ident]types.Object{}}}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			c.files = append(c.files, f)
		}
		if c.pkg, err = (&types.Config{Importer: from}).Check(p.ImportPath, fset, c.files, c.info); err != nil {
			t.Fatal(err)
		}
		all[short] = c
	}
	return all
}

func measure(p checked) house {
	h := house{files: len(p.files), methods: map[string]int{}, longest: map[string]int{}}
	for _, name := range p.pkg.Scope().Names() {
		if ast.IsExported(name) {
			h.exports++
		}
	}
	fileOf := func(o types.Object) string { return filepath.Base(p.fset.Position(o.Pos()).Filename) }
	leads := map[string]map[string]bool{}
	longest, longestName := 0, ""
	for _, f := range p.files {
		from := filepath.Base(p.fset.Position(f.Pos()).Filename)
		leads[from] = map[string]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				if o := p.info.Uses[n]; o != nil && o.Pkg() == p.pkg && outer(o) && fileOf(o) != from {
					leads[from][fileOf(o)] = true
				}
			case *ast.FuncDecl:
				if n.Recv != nil {
					h.methods[receiver(n.Recv.List[0].Type)]++
				}
				if lines := p.fset.Position(n.End()).Line - p.fset.Position(n.Pos()).Line + 1; lines > longest {
					longest, longestName = lines, n.Name.Name
				}
			}
			return true
		})
	}
	h.longest[longestName] = longest
	h.circle = largestCircle(leads)
	return h
}

// outer reports whether an object is not local to a function: a package's name, a method or a field.
func outer(o types.Object) bool {
	switch o := o.(type) {
	case *types.Var:
		return o.IsField() || o.Parent() == o.Pkg().Scope()
	case *types.Func:
		return true
	}
	return o.Parent() == o.Pkg().Scope()
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return fmt.Sprint(e)
}

// largestCircle is the largest set of files each of which leads to all the others.
func largestCircle(leads map[string]map[string]bool) (largest []string) {
	reach := map[string]map[string]bool{}
	for from := range leads {
		reach[from] = map[string]bool{}
		for next := []string{from}; len(next) > 0; next = next[1:] {
			for to := range leads[next[0]] {
				if !reach[from][to] {
					reach[from][to] = true
					next = append(next, to)
				}
			}
		}
	}
	for from := range reach {
		var circle []string
		for to := range reach[from] {
			if reach[to][from] {
				circle = append(circle, to)
			}
		}
		if len(circle) > len(largest) {
			largest = circle
		}
	}
	sort.Strings(largest)
	return largest
}

// top are the types with most methods.
func top(methods map[string]int) []string {
	var all []string
	for name, n := range methods {
		all = append(all, fmt.Sprintf("%3d %s", n, name))
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all[:min(3, len(all))]
}
