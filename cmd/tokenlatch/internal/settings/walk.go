package settings

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// walk reads a document, and collects what is wrong with it.
type walk struct {
	name  string // of the file
	wrong []fault
}

// fault is what is wrong on one line.
type fault struct {
	line int
	text string
}

func (w *walk) fail(n *yaml.Node, format string, args ...any) {
	w.wrong = append(w.wrong, fault{n.Line, fmt.Sprintf(format, args...)})
}

// err is all that was wrong, in the order of the lines.
func (w *walk) err() error {
	slices.SortStableFunc(w.wrong, func(a, b fault) int { return a.line - b.line })
	var all []error
	for _, f := range w.wrong {
		all = append(all, fmt.Errorf("%s:%d: %s", w.name, f.line, f.text))
	}
	return errors.Join(all...)
}

// fields are the members that a mapping may have, and what reads each.
type fields map[string]func(path string, n *yaml.Node)

// mapping gives each member of a mapping to what reads it.
func (w *walk) mapping(path string, n *yaml.Node, known fields) {
	w.members(path, n, func(key *yaml.Node, value *yaml.Node) {
		read, ok := known[key.Value]
		if !ok {
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			w.fail(key, "%s is not known; there are: %s", below(path, printable(key.Value)), strings.Join(names, ", "))
			return
		}
		read(below(path, key.Value), value)
	})
}

// members visits the members of a mapping, each name once.
func (w *walk) members(path string, n *yaml.Node, visit func(key, value *yaml.Node)) {
	n = target(n)
	if n.Kind != yaml.MappingNode {
		w.fail(n, "%s must be a mapping: name, colon, value", orFile(path))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := target(n.Content[i]), target(n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			w.fail(key, "%s: a name must be a plain text", orFile(path))
		case seen[key.Value]:
			w.fail(key, "%s is there twice", below(path, printable(key.Value)))
		default:
			seen[key.Value] = true
			visit(key, value)
		}
	}
}

// target returns what a node stands for.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func below(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// printable is a name as an error may show it. A long one may be anything.
func printable(name string) string {
	if len(name) > 40 {
		return "this name"
	}
	return strconv.QuoteToGraphic(name)[1 : len(strconv.QuoteToGraphic(name))-1]
}

// text reads a plain text.
func (w *walk) text(to *string) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "" {
			w.fail(n, "%s must be a text", path)
			return
		}
		*to = n.Value
	}
}

// texts reads a list of texts.
func (w *walk) texts(to *[]string) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		if n.Kind != yaml.SequenceNode {
			w.fail(n, "%s must be a list", path)
			return
		}
		for i, item := range n.Content {
			var one string
			w.text(&one)(fmt.Sprintf("%s[%d]", path, i), target(item))
			*to = append(*to, one)
		}
	}
}

// number reads a whole number that is not negative.
func (w *walk) number(to *int) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		got, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || got < 0 {
			w.fail(n, "%s must be a whole number, 0 or more", path)
			return
		}
		*to = got
	}
}

// yes reads true or false.
func (w *walk) yes(to *bool) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			w.fail(n, "%s must be true or false", path)
			return
		}
		*to = strings.EqualFold(n.Value, "true")
	}
}

// duration reads a duration as 30s or 1h30m, or a number of days, as 90d.
func (w *walk) duration(to *time.Duration) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		got, err := time.ParseDuration(n.Value)
		if days, ok := strings.CutSuffix(n.Value, "d"); ok {
			var count int
			count, err = strconv.Atoi(days)
			got = time.Duration(min(max(count, -1), 36500)) * 24 * time.Hour
		}
		if n.Kind != yaml.ScalarNode || err != nil || got < 0 {
			w.fail(n, "%s must be a duration, as 30s, 1h30m or 90d", path)
			return
		}
		*to = got
	}
}

// choice reads one of several words.
func choice[T any](w *walk, to *T, words map[string]T) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		got, ok := words[n.Value]
		if n.Kind != yaml.ScalarNode || !ok {
			names := make([]string, 0, len(words))
			for name := range words {
				names = append(names, name)
			}
			slices.Sort(names)
			w.fail(n, "%s must be one of %s", path, strings.Join(names, ", "))
			return
		}
		*to = got
	}
}
