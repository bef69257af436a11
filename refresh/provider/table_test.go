package provider

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the table of the presets in docs/providers.md anew")

const (
	tableFile  = "../../docs/providers.md"
	tableBegin = "<!-- The table is made of presets.go: go test ./refresh/provider -run Table -rewrite -->\n"
	tableEnd   = "<!-- Here it ends. -->\n"
)

// The table in the docs is made of the presets and of the comments on their functions.
func TestTheTableOfPresetsIsMadeOfThem(t *testing.T) {
	file, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(file), tableBegin)
	stands, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", tableFile)
	}
	want := presetTable(t)
	if *rewrite {
		if err := os.WriteFile(tableFile, []byte(before+tableBegin+want+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if stands != want {
		t.Errorf("%s is stale: go test ./refresh/provider -run Table -rewrite", tableFile)
	}
}

func presetTable(t *testing.T) string {
	t.Helper()
	said := presetDocs(t)
	table := "\n| preset | replay | kills the old access token | access token lives | refresh token lives unused | refresh token lives at most | revokes | to know |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- |\n"
	for _, name := range PresetNames() {
		p, _ := Preset(name)
		replay, revokes := "`"+p.Replay.String()+"`", ""
		if p.Grace > 0 {
			replay += ", " + span(p.Grace)
		}
		if p.RevokeURL != "" {
			revokes = "yes"
		}
		if said[name] == "" {
			t.Errorf("the function of %s has no comment", name)
		}
		table += fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s | %s | %s |\n", name, replay, p.KillsAccessToken,
			span(p.AccessTokenLife), span(p.RefreshTokenIdle), span(p.RefreshTokenLife), revokes, said[name])
	}
	return strings.ReplaceAll(strings.ReplaceAll(table, "|  |", "| |"), "|  |", "| |") + "\n"
}

// presetDocs are the comments on the functions of the presets, by the names of these.
func presetDocs(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "presets.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments, docs := map[string]string{}, map[string]string{}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			comments[fn.Name.Name] = strings.Join(strings.Fields(fn.Doc.Text()), " ")
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			key, isName := kv.Key.(*ast.BasicLit)
			fn, isFunc := kv.Value.(*ast.Ident)
			if isName && isFunc && comments[fn.Name] != "" {
				name, _ := strconv.Unquote(key.Value)
				docs[name] = strings.NewReplacer("[", "`", "]", "`").Replace(comments[fn.Name])
			}
		}
		return true
	})
	return docs
}

// span is a time as people write it in a table.
func span(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{year, "y"}, {day, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if d != 0 && d%unit.of == 0 {
			return fmt.Sprintf("%d %s", d/unit.of, unit.name)
		}
	}
	return ""
}
