package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// givenUp are words that one thing had beside its name in docs/architecture.md, and the name.
var givenUp = []struct{ word, instead string }{
	{`(?i)\bglanc(e|es|ed|ing)\b`, "Peek (coherent memory), Recall (any memory), Read (Redis), ReadFresh (its fresh token alone)"},
	{`\breadOnce\b|\binMemory\b|\bRemembered\(|func \w*enrolled\(`, "Peek, Recall, Read, ReadFresh"},
	{`\bDoubtful\b|\bbirths\b`, "MayHaveLost; when a server became the master"},
	{`func (\([^)]*\) )?doubt\(`, "markStale"},
	{`\bUnspent\b`, "VerdictClear: one word on both sides of the wire"},
	{`func kindOfApp\(|func kindOf\(op `, "a script's reply names the kinds of changes that it has told"},
	{`\bmintFirst\b|\benrollUnder\b`, "lead, the one choreography of a holder"},
	{`\borDefault\b|\borElse\b|func sign\(`, "cmp.Or, cmp.Compare"},
}

func TestWordsThatWereGivenUpStayOut(t *testing.T) {
	t.Parallel()
	files, literal := 0, regexp.MustCompile(`[a-z]{4,}`)
	words, literals := make([]*regexp.Regexp, len(givenUp)), make([][]string, len(givenUp))
	for i, w := range givenUp {
		words[i] = regexp.MustCompile(w.word)
		literals[i] = literal.FindAllString(strings.ToLower(strings.NewReplacer(`\b`, " ", "func", " ").Replace(w.word)), -1)
		if len(literals[i]) == 0 {
			t.Fatalf("%s has no word of four letters", w.word)
		}
	}
	sources(t, func(short, name, text string) {
		files++
		low := strings.ToLower(text)
		for i, w := range givenUp {
			if !slices.ContainsFunc(literals[i], func(l string) bool { return strings.Contains(low, l) }) {
				continue // an expression takes a hundred times as long
			}
			if found := words[i].FindString(text); found != "" {
				t.Errorf("%s/%s says %q: use %s", short, name, found, w.instead)
			}
		}
	})
	if files < 100 {
		t.Errorf("%d files: nothing is proven", files)
	}
}

// happened are the functions of those who are told that something has happened: named by what has.
var happened = []string{"Waited", "Counted", "Pushed", "Restored", "Done"}

// participle is the first word of a name that tells a state, and not what to do.
var participle = regexp.MustCompile(`^([A-Za-z]?[a-z]*[^e]ed|[Tt]old|[Ss]aid|[Kk]nown|[Tt]aken|[Hh]eld|[Kk]ept|[Ll]ost|[Ff]ound|[Gg]one|[Ss]ent|[Ss]een|[Mm]ade|[Hh]eard|[Ss]pent|[Gg]iven)([A-Z0-9]|$)`)

// A function without a result does something: it is called by a verb.
func TestCommandsAreVerbs(t *testing.T) {
	t.Parallel()
	commands := 0
	sources(t, func(short, name, text string) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", short, name), text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Type.Results != nil || support(short) {
				continue
			}
			commands++
			if participle.MatchString(f.Name.Name) && !slices.Contains(happened, f.Name.Name) {
				t.Errorf("%s/%s: %s does something and returns nothing: call it by a verb", short, name, f.Name.Name)
			}
		}
	})
	if commands < 100 {
		t.Errorf("%d commands: nothing is proven", commands)
	}
}

// A test's name is a law in plain English: it begins with who or what acts.
func TestNamesOfTestsBeginWithAnActor(t *testing.T) {
	t.Parallel()
	bare := regexp.MustCompile(`(?m)^func (Test(?:What|Who|Whoever|Whose|That)[A-Z]\w*)`)
	seen := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		seen++
		for _, m := range bare.FindAllStringSubmatch(read(t, path), -1) {
			t.Errorf("%s: %s: name the process, the caller, the grant, …", path, m[1])
		}
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("%d files of tests: nothing is proven; %v", seen, err)
	}
}

// Each word of the glossary has one line, and the words that the code is made of are in it.
func TestTheGlossaryHasEachWordOnce(t *testing.T) {
	t.Parallel()
	_, page, ok := strings.Cut(read(t, "../docs/architecture.md"), "\n## Words\n")
	if page, _, _ = strings.Cut(page, "\n## "); !ok {
		t.Fatal("docs/architecture.md has no Words")
	}
	page, _, _ = strings.Cut(page, "\nWhat the handles")
	defined := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(page, -1) {
		for word := range strings.SplitSeq(strings.ReplaceAll(m[1], "`", ""), ", ") {
			defined[word]++
		}
	}
	for word, n := range defined {
		if n > 1 {
			t.Errorf("%q has %d lines", word, n)
		}
	}
	for _, word := range []string{
		"app", "tenant", "grant", "pair", "family", "generation", "epoch", "exchange", "present", "claim", "unresolved claim", "hard deadline",
		"take over", "lease", "holder", "waiter", "flight", "commit", "push", "sibling", "spare", "second opinion", "revival", "renewal", "due",
		"circuit", "pause", "ramp", "brake", "witness", "mass death", "proof", "heartbeat", "birth mark", "sealed", "heard", "read", "proven",
		"coherent", "suspect", "mint", "stalled", "Observer", "code", "reason", "whose trouble",
	} {
		if defined[word] == 0 {
			t.Errorf("the glossary lacks %q", word)
		}
	}
}

// Programs read of each name of a package that they may import what it is.
func TestEachExportHasADocComment(t *testing.T) {
	t.Parallel()
	exports := 0
	sources(t, func(short, name, text string) {
		if !strings.HasSuffix(name, ".go") || command(short) || short == "integration" || strings.Contains(short, "internal/") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		check := func(id *ast.Ident, docs ...*ast.CommentGroup) {
			if !id.IsExported() {
				return
			}
			exports++
			if !slices.ContainsFunc(docs, func(d *ast.CommentGroup) bool { return d != nil }) {
				t.Errorf("%s/%s: %s has no doc comment", short, name, id.Name)
			}
		}
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) {
					check(d.Name, d.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						check(s.Name, d.Doc, s.Doc)
					case *ast.ValueSpec:
						check(s.Names[0], d.Doc, s.Doc, s.Comment)
					}
				}
			}
		}
	})
	if exports < 300 {
		t.Errorf("%d exports: nothing is proven", exports)
	}
}
