package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tokenlatch/tokenlatch"

// pkg is what `go list -json` says of a package, the parts that matter here.
type pkg struct {
	ImportPath                                string
	Imports, TestImports, XTestImports, Deps  []string
	GoFiles, EmbedFiles                       []string
	TestGoFiles, XTestGoFiles, IgnoredGoFiles []string
}

// short is the import path below the module; "" is the module itself.
func (p pkg) short() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func (p pkg) tests() []string { return slices.Concat(p.TestImports, p.XTestImports) }

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	for _, name := range []string{"lock", "tokencache", "tokencache/engine", "tokencache/grant", "tokencache/seal", "refresh", "refresh/internal/bearer", "refresh/internal/policy", "refresh/provider"} {
		if !slices.ContainsFunc(all, func(p pkg) bool { return p.short() == name }) {
			t.Fatalf("go list does not know %s: nothing is proven", name)
		}
	}
	return all
}

// support reports whether a package is there for tests only.
func support(short string) bool {
	return short == "integration" || strings.HasPrefix(short, "integration/") || short == "refresh/refreshtest"
}

func command(short string) bool { return short == "cmd" || strings.HasPrefix(short, "cmd/") }

// below reports whether path is the package or stands below it.
func below(path, parent string) bool { return path == parent || strings.HasPrefix(path, parent+"/") }

// Data flows one way: cmd → refresh → {lock, tokencache}.
func TestPackagesKnowOnlyWhatIsBelowThem(t *testing.T) {
	t.Parallel()
	inner := []string{"lock", "tokencache", "tokencache/engine", "tokencache/grant", "tokencache/journal", "tokencache/inspect", "tokencache/internal/apps", "tokencache/internal/clock", "tokencache/internal/due", "tokencache/internal/hub", "tokencache/internal/inbox", "tokencache/internal/memory", "tokencache/internal/mono", "tokencache/internal/proof", "tokencache/internal/server", "tokencache/internal/store", "refresh/explain", "refresh/internal/bearer", "refresh/internal/economy", "refresh/internal/exchange", "refresh/internal/flight", "refresh/internal/holder", "refresh/internal/keep", "refresh/internal/observe", "refresh/internal/pair", "refresh/internal/policy", "refresh/internal/renew", "refresh/internal/trouble", "refresh/internal/work", "refresh/provider"}
	below := append(slices.Clone(inner), "refresh")
	mayKnow := map[string][]string{
		"docs":                       {},
		"lock":                       {},
		"tokencache":                 {"tokencache/engine", "tokencache/grant", "tokencache/journal", "tokencache/inspect", "tokencache/internal/apps", "tokencache/internal/clock", "tokencache/internal/due", "tokencache/internal/hub", "tokencache/internal/inbox", "tokencache/internal/memory", "tokencache/internal/mono", "tokencache/internal/proof", "tokencache/internal/server", "tokencache/internal/store"},
		"tokencache/engine":          {"tokencache/grant", "tokencache/journal", "tokencache/internal/apps", "tokencache/internal/clock", "tokencache/internal/due", "tokencache/internal/hub", "tokencache/internal/inbox", "tokencache/internal/memory", "tokencache/internal/mono", "tokencache/internal/proof", "tokencache/internal/server", "tokencache/internal/store"},
		"tokencache/grant":           {},
		"tokencache/journal":         {},
		"tokencache/internal/apps":   {"tokencache/grant", "tokencache/internal/clock", "tokencache/internal/hub", "tokencache/internal/mono", "tokencache/internal/store"},
		"tokencache/inspect":         {"tokencache/engine", "tokencache/grant", "tokencache/journal", "tokencache/internal/apps", "tokencache/internal/clock", "tokencache/internal/due", "tokencache/internal/hub", "tokencache/internal/inbox", "tokencache/internal/memory", "tokencache/internal/mono", "tokencache/internal/proof", "tokencache/internal/server", "tokencache/internal/store"},
		"tokencache/internal/clock":  {"tokencache/grant", "tokencache/internal/mono"},
		"tokencache/internal/due":    {"tokencache/grant", "tokencache/internal/clock", "tokencache/internal/mono", "tokencache/internal/store"},
		"tokencache/internal/hub":    {"tokencache/internal/mono"},
		"tokencache/internal/inbox":  {"tokencache/grant", "tokencache/internal/apps", "tokencache/internal/clock", "tokencache/internal/due", "tokencache/internal/hub", "tokencache/internal/memory", "tokencache/internal/mono", "tokencache/internal/proof", "tokencache/internal/server", "tokencache/internal/store"},
		"tokencache/internal/proof":  {"tokencache/grant", "tokencache/internal/clock", "tokencache/internal/mono", "tokencache/internal/store"},
		"tokencache/internal/memory": {"tokencache/grant", "tokencache/internal/clock", "tokencache/internal/hub", "tokencache/internal/mono"},
		"tokencache/internal/mono":   {},
		"tokencache/internal/server": {"tokencache/grant", "tokencache/internal/clock", "tokencache/internal/hub", "tokencache/internal/mono", "tokencache/internal/proof", "tokencache/internal/store"},
		"tokencache/internal/store":  {"tokencache/grant", "tokencache/internal/mono"},
		"tokencache/seal":            {},
		"refresh/provider":           {},
		"refresh/internal/bearer":    {},
		"refresh/internal/exchange":  {"refresh/provider"},
		"refresh/internal/pair":      {"tokencache/grant", "refresh/internal/policy", "refresh/provider"},
		"refresh/internal/observe":   {"refresh/provider"},
		"refresh/internal/work":      {},
		"refresh/internal/policy":    {"tokencache/grant", "refresh/provider"},
		"refresh/explain":            {"tokencache/grant", "tokencache/journal", "refresh/internal/policy", "refresh/provider"},
		"refresh":                    inner,
		"refresh/metrics":            below,
		"refresh/otel":               below,
		"refresh/refreshtest":        {"refresh/provider"},
	}
	for _, p := range packages(t) {
		if command(p.short()) || support(p.short()) && p.short() != "refresh/refreshtest" {
			continue // may know all
		}
		if strings.HasPrefix(p.short(), "refresh/internal/") && mayKnow[p.short()] == nil {
			mayKnow[p.short()] = inner // and no more rooms than it names below
		}
		allowed, named := mayKnow[p.short()]
		if !named {
			t.Errorf("%s: say what it may know", p.short())
		}
		for _, dep := range p.Deps { // transitively
			inner, ours := strings.CutPrefix(dep, module+"/")
			if ours && !slices.Contains(allowed, inner) {
				t.Errorf("%s depends on %s", p.short(), inner)
			}
		}
	}
}

// The rooms of refresh, lower ones first: each knows those alone that it names.
func TestRoomsOfRefreshKnowOnlyWhatTheyNeed(t *testing.T) {
	t.Parallel()
	mayKnow := map[string][]string{
		"bearer": {}, "policy": {}, "work": {}, "exchange": {}, "observe": {},
		"pair":    {"policy"},
		"trouble": {"policy"},
		"keep":    {"policy", "work"},
		"economy": {"policy", "work"},
		"holder":  {"economy", "exchange", "keep", "observe", "pair", "policy", "trouble", "work"},
		"flight":  {"economy", "holder", "observe", "policy", "work"},
		"renew":   {"economy", "flight", "policy", "trouble", "work"},
	}
	for _, p := range packages(t) {
		room, ok := strings.CutPrefix(p.short(), "refresh/internal/")
		if !ok {
			continue
		}
		allowed, known := mayKnow[room]
		if !known {
			t.Errorf("refresh/internal/%s: say what it may know", room)
		}
		for _, path := range p.Imports {
			other, inside := strings.CutPrefix(path, module+"/refresh/internal/")
			if inside && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s", room, other)
			}
			if path == module+"/refresh" {
				t.Errorf("%s imports the door", room)
			}
		}
	}
}

// The rooms of the command: each knows those alone that it names, and none knows the command.
func TestRoomsOfTheCommandKnowOnlyWhatTheyNeed(t *testing.T) {
	t.Parallel()
	const rooms = "cmd/tokenlatch/internal/"
	mayKnow := map[string][]string{
		"cli": {}, "oncall": {}, "settings": {},
		"term":   {"cli"},
		"doctor": {"oncall"},
		"fleet":  {"oncall"},
		"board":  {"cli", "oncall", "term"},
		"pages":  {"term"},
		"demo":   {"cli", "term"},
	}
	for _, p := range packages(t) {
		room, ok := strings.CutPrefix(p.short(), rooms)
		if !ok {
			continue
		}
		allowed, known := mayKnow[room]
		if !known {
			t.Errorf("%s: say what it may know", p.short())
		}
		for _, path := range p.Imports {
			if other, inside := strings.CutPrefix(path, module+"/"+rooms); inside && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s", room, other)
			}
		}
	}
}

// one is a rule: who may import what, in code and, where tests says so, in tests.
var importRules = []struct {
	what  string // an import path, and what is below it
	by    func(short string) bool
	tests bool // holds for tests too
}{
	{"github.com/go-redsync/redsync", is("lock"), true},
	{"github.com/tink-crypto", is("tokencache/seal"), true},
	{"github.com/alicebob/miniredis", either(command, support), false},
	{"github.com/prometheus", either(is("refresh/metrics"), command), false},
	{"go.opentelemetry.io", is("refresh/otel"), true},
	{"net/http", either(is("refresh", "refresh/internal/bearer", "refresh/provider"), command, support), false},
	{"golang.org/x/oauth2/clientcredentials", either(is("refresh/provider"), command), false},
	{"embed", either(is("tokencache/internal/store", "refresh/explain", "docs"), command, support), false},
	{"github.com/tokenlatch/tokenlatch/docs", command, false}, // a worker has no use for 300 KB of text
	{"testing", support, false},
	// Values of a grant and decisions about it: no Redis, no goroutine, no ctx.
	{"github.com/redis/go-redis", either(is("lock", "tokencache", "tokencache/engine", "tokencache/inspect", "tokencache/internal/apps", "tokencache/internal/due", "tokencache/internal/hub", "tokencache/internal/inbox", "tokencache/internal/proof", "tokencache/internal/server", "tokencache/internal/store", "refresh/internal/economy", "refresh/internal/keep", "refresh/internal/renew", "refresh/internal/trouble"), command, support), false},
	{"context", func(short string) bool {
		return !slices.Contains([]string{"tokencache/grant", "tokencache/journal", "refresh/explain", "refresh/internal/policy"}, short)
	}, true},
	// Decisions: no randomness of their own.
	{"math/rand", func(short string) bool { return short != "refresh/internal/policy" && short != "refresh/explain" }, false},
	{"sync", func(short string) bool { return short != "refresh/internal/policy" && short != "refresh/explain" }, false},
}

func is(names ...string) func(string) bool {
	return func(short string) bool { return slices.Contains(names, short) }
}

func either(fs ...func(string) bool) func(string) bool {
	return func(short string) bool {
		return slices.ContainsFunc(fs, func(f func(string) bool) bool { return f(short) })
	}
}

func TestEachDependencyIsImportedInItsPlaceOnly(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, rule := range importRules {
			imports := p.Imports
			if rule.tests {
				imports = slices.Concat(imports, p.tests())
			}
			for _, path := range imports {
				if below(path, rule.what) && !rule.by(p.short()) {
					t.Errorf("%s imports %s", p.short(), path)
				}
			}
		}
	}
}

// The core must not pull in what only some users need.
func TestTheCoreDoesNotLinkWhatOnlySomeUsersNeed(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !slices.Contains([]string{"lock", "tokencache", "tokencache/engine", "tokencache/grant", "refresh", "refresh/provider"}, p.short()) {
			continue
		}
		for _, dep := range p.Deps {
			if below(dep, "github.com/tink-crypto") || below(dep, "github.com/alicebob/miniredis") || below(dep, "github.com/prometheus") || below(dep, "go.opentelemetry.io") || dep == "testing" {
				t.Errorf("%s links %s", p.short(), dep)
			}
		}
	}
}

// words are what a package must say to do a thing; only those listed may say them.
var words = []struct {
	said []string
	by   func(short string) bool
	why  string
}{
	{[]string{"redis.NewScript(", "redis.call("}, is("tokencache/internal/store"), "Lua lives only in tokencache/internal/store"},
	{[]string{".TokenSource(ctx,", ".PasswordCredentialsToken(", "http.Post", "grant_type"},
		either(is("refresh/provider"), support), "the token endpoint is asked only in refresh/provider"},
	{[]string{".RefreshExpiryKeys"}, is("refresh/provider"), "only refresh/provider knows how an answer says the life of a refresh token"},
	{[]string{".RefreshAhead"}, is("refresh/provider", "refresh/internal/policy"),
		"only refresh/internal/policy says when a token is due"},
	{[]string{"redsync."}, is("lock"), "redsync is used only in lock"},
	{[]string{".Unix()", ".UnixMilli()", ".UnixMicro()", ".UnixNano()"}, either(command, support),
		"no worker's wall clock decides anything: deadlines are Redis' time"},
}

func TestScriptsAndTheTokenEndpointStandInTheirPlaceOnly(t *testing.T) {
	t.Parallel()
	said := map[string]int{}
	sources(t, func(short, name, text string) {
		if strings.HasSuffix(name, ".lua") && short != "tokencache/internal/store/lua" {
			t.Errorf("%s/%s: Lua lives only in tokencache/internal/store", short, name)
		}
		for _, w := range words {
			for _, word := range w.said {
				if !strings.HasSuffix(name, ".go") || !strings.Contains(text, word) {
					continue
				}
				said[w.why]++
				if !w.by(short) {
					t.Errorf("%s/%s says %q: %s", short, name, word, w.why)
				}
			}
		}
	})
	for _, w := range words {
		if said[w.why] == 0 {
			t.Errorf("nobody says any of %q: nothing is proven", w.said)
		}
	}
}

// sources visits every Go file that is not a test, and every Lua file.
func sources(t *testing.T, visit func(short, name, text string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		source := strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".lua")
		if d.IsDir() || !source {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		short, err := filepath.Rel("..", filepath.Dir(path))
		visit(filepath.ToSlash(short), d.Name(), string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
