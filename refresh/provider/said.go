package provider

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

const (
	saidDepth = 5   // how deep an error is looked for: error.errors[].reason is at 4
	maxCodes  = 100 // of one answer
)

// codeNames are the members of an error in which its code is, in the order of trust. Case, "_",
// "-" and "." play no part in names.
var codeNames = []string{
	"error", "error_code", "error_type", "code", "reason", "type", "status", "name",
	"errors", "details", "detail", "cause", "fault", "inner_error",
}

// wrappers are those of them that hold a code below, while a text in them is for people.
var wrappers = []string{"details", "detail", "cause", "fault", "inner_error"}

// textNames are the members in which an error is told to people.
var textNames = []string{
	"error_description", "message", "msg", "errmsg", "error_message", "reason", "description",
	"title", "error", "errors", "details", "detail", "cause", "fault", "inner_error",
}

var bothNames = slices.Concat(codeNames, textNames)

// codesOf collects what may be error codes, in the order of trust: what is in "error", in the members
// in which this provider puts its code, and in "errors"; then codes that are known beforehand, wherever
// an error may be told. any says that an error was named at all, as a code or in words; the status in
// figures names none.
func codesOf(p Profile, m members, status int) (codes []string, any bool) {
	for _, key := range slices.Concat([]string{"error"}, p.CodeKeys, []string{"errors"}) {
		for _, said := range codesIn(m.find(key)) {
			any = any || said != strconv.Itoa(status)
			if code := cleanCode(said); code != "" {
				codes = append(codes, code)
			}
		}
	}
	for _, said := range saidIn(m, bothNames) {
		if !figure(said) && knows(p, said) {
			codes, any = append(codes, said), true
		}
	}
	return codes[:min(len(codes), maxCodes)], any
}

// codesIn returns the codes of an error: a text, an object such as {"error": {"code": …}}, or a list of
// these. Words come before figures, which mostly are the status once more.
func codesIn(v any) []string {
	var words, figures []string
	walk("", v, codeNames, saidDepth, func(name, s string) {
		switch {
		case slices.Contains(wrappers, name):
		case figure(s):
			figures = append(figures, s)
		default:
			words = append(words, s)
		}
	})
	return append(words, figures...)
}

func figure(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// spoken returns what an answer says for people, in lower case.
func spoken(m members) string { return strings.ToLower(strings.Join(saidIn(m, textNames), "\n")) }

// saidIn returns the texts under names, at the top and in what is below it; of plain text, which is
// read as a form, the text.
func saidIn(m members, names []string) (said []string) {
	for _, mem := range m {
		if mem.value == "" {
			said = append(said, mem.name)
		}
		if _, alone := mem.value.(string); alone && !nameIn(mem.name, names) {
			continue
		}
		walk("", mem.value, names, saidDepth, func(_, s string) { said = append(said, s) })
	}
	return said
}

func nameIn(name string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return sameName(n, name) })
}

// walk visits the texts of v: v itself, those in a list, and those of an object under names. name is the one
// of them that led here.
func walk(name string, v any, names []string, depth int, visit func(name, s string)) {
	switch v := v.(type) {
	case string, json.Number:
		if s := strings.TrimSpace(text(v)); s != "" {
			visit(name, s)
		}
	case []any:
		for i := 0; depth > 0 && i < len(v); i++ {
			walk(name, v[i], names, depth-1, visit)
		}
	case map[string]any:
		m := membersOf(v)
		for i := 0; depth > 0 && i < len(names); i++ {
			walk(names[i], m.find(names[i]), names, depth-1, visit)
		}
	}
}
