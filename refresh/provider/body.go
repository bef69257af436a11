package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxNesting is encoding/json's own limit.
const maxNesting = 10000

var errNesting = errors.New("the answer is nested too deep")

// member is one top-level member of an answer's body.
type member struct {
	name  string
	value any
	cut   bool // the value breaks off
}

// members are an answer's body as far as it could be read, in its order.
type members []member

// readMembers reads a body as leniently as is safe, since it may hold the only
// living pair: what it looks like decides, not its Content-Type. whole says that
// nothing was cut off, so that a missing member is known to be missing.
func readMembers(body []byte, cut bool) (m members, whole bool) {
	body, cut = plainText(body, cut)
	if bytes.HasPrefix(body, []byte(`"`)) { // JSON in a string of JSON
		inner, ok := jsonString(body)
		if !ok {
			return nil, false
		}
		body = bytes.TrimSpace(inner)
	}
	return readText(body, cut)
}

func readText(body []byte, cut bool) (m members, whole bool) {
	if len(body) == 0 {
		return nil, !cut
	}
	switch body[0] {
	case '{':
		return readJSON(body)
	case '<':
		return readXML(body) // nor as a form: HTML may hold "&access_token=" in a link
	case '[', '"':
		return nil, false
	}
	m = readForm(string(body), cut)
	if object := afterRubbish(body); object != nil && m.find("access_token") == nil {
		if inner, whole := readJSON(object); len(inner) > 0 {
			return inner, whole
		}
	}
	return m, !cut
}

// readJSON reads one object member by member, so that those before a cut or a
// syntax error are kept, and whatever follows the object is ignored.
func readJSON(body []byte) (m members, whole bool) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return m, false
		}
		value, err := readValue(dec, maxNesting)
		if err == nil || value != nil {
			m = append(m, member{name: name.(string), value: value, cut: err != nil}) // the decoder lets only strings be names
		}
		if err != nil {
			return m, false
		}
	}
	_, err := dec.Token()
	return m, err == nil
}

// readValue is dec.Decode that returns an object or a list which breaks off as far as it goes.
func readValue(dec *json.Decoder, depth int) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, inside := t.(json.Delim)
	switch {
	case !inside:
		return t, nil
	case depth == 0:
		return nil, errNesting
	case delim == '[':
		return readList(dec, depth-1)
	}
	object := make(map[string]any)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return object, err
		}
		value, err := readValue(dec, depth-1)
		if err != nil {
			if value != nil {
				object[name.(string)] = value
			}
			return object, err
		}
		object[name.(string)] = value
	}
	_, err = dec.Token()
	return object, err
}

func readList(dec *json.Decoder, depth int) (any, error) {
	list := []any{}
	for dec.More() {
		value, err := readValue(dec, depth)
		if err == nil || value != nil {
			list = append(list, value)
		}
		if err != nil {
			return list, err
		}
	}
	_, err := dec.Token()
	return list, err
}

// readForm reads application/x-www-form-urlencoded and skips what is malformed.
// Of a body that was cut the last value may be half of one: it is dropped.
func readForm(body string, cut bool) members {
	fields := strings.Split(body, "&")
	if cut {
		fields = fields[:len(fields)-1]
	}
	var m members
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err1 == nil && err2 == nil && name != "" {
			m = append(m, member{name: name, value: value})
		}
	}
	return m
}

// find returns the last member of that name that says something: spelled
// exactly, else in any case, as encoding/json would, else as [sameName] has it.
func (m members) find(name string) any {
	var folded, alike any
	for _, mem := range slices.Backward(m) {
		switch {
		case mem.value == nil || mem.value == "":
		case mem.name == name:
			return mem.value
		case folded == nil && strings.EqualFold(mem.name, name):
			folded = mem.value
		case alike == nil && sameName(mem.name, name):
			alike = mem.value
		}
	}
	if folded != nil {
		return folded
	}
	return alike
}

// sameName reports whether two names differ in case and separators at most: access_token, accessToken.
func sameName(a, b string) bool {
	i, j := 0, 0
	for {
		for i < len(a) && separates(a[i]) {
			i++
		}
		for j < len(b) && separates(b[j]) {
			j++
		}
		if i == len(a) || j == len(b) {
			return i == len(a) && j == len(b)
		}
		if lower(a[i]) != lower(b[j]) {
			return false
		}
		i, j = i+1, j+1
	}
}

func separates(c byte) bool { return c == '_' || c == '-' || c == ' ' || c == '.' }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// membersOf are the members of an object below the top. Their order was lost; this one is always the same.
func membersOf(object map[string]any) members {
	m := make(members, 0, len(object))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		m = append(m, member{name: name, value: object[name]})
	}
	return m
}

// without returns the members of other names that are whole; nil when there are none.
func (m members) without(names ...string) map[string]any {
	var rest map[string]any
	for _, mem := range m {
		if mem.cut || slices.ContainsFunc(names, func(n string) bool { return sameName(n, mem.name) || strings.EqualFold(n, mem.name) }) {
			continue
		}
		if rest == nil {
			rest = make(map[string]any)
		}
		rest[mem.name] = mem.value
	}
	return rest
}

// text is a string, or a number as it was written.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return ""
	}
}

// scopeOf is space-delimited (RFC 6749 §3.3) also where a server sent a list.
func scopeOf(v any) string {
	list, ok := v.([]any)
	if !ok {
		return text(v)
	}
	var words []string
	for _, w := range list {
		if s := text(w); s != "" {
			words = append(words, s)
		}
	}
	return strings.Join(words, " ")
}

// number is text, also of a number that somebody else has read.
func number(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case int64: // of a form, by golang.org/x/oauth2
		return strconv.FormatInt(v, 10)
	default:
		return text(v)
	}
}
