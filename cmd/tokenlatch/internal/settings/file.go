package settings

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

// Variable names the file where no flag does.
const Variable = "TOKENLATCH_CONFIG"

// File is what a configuration file says.
type File struct {
	name   string
	keyset source
	apps   map[string]*App
}

// longestFile bounds a configuration file, in bytes.
const longestFile = 1 << 20

// Read reads a file. No secret is read yet.
func Read(name string) (*File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, longestFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > longestFile:
		return nil, fmt.Errorf("%s: longer than %d bytes", name, longestFile)
	}
	return parse(name, text)
}

func parse(name string, text []byte) (*File, error) {
	var doc, more yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s:1: the file is empty", name)
	case err != nil:
		return nil, syntax(name, err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: one document is expected, there is more after ---", name)
	}
	cfg, w := &File{name: name, apps: map[string]*App{}}, &walk{name: name}
	dir := filepath.Dir(name)
	w.mapping("", doc.Content[0], fields{
		"keyset": w.secret(dir, &cfg.keyset),
		"apps": func(path string, n *yaml.Node) {
			w.members(path, n, func(key, value *yaml.Node) {
				cfg.apps[key.Value] = readApp(w, dir, key, value)
			})
		},
	})
	return cfg, w.err()
}

var atLine = regexp.MustCompile(`line (\d+)`)

// syntax is an error of the YAML reader, without what it may quote.
func syntax(name string, err error) error {
	line := "1"
	if m := atLine.FindStringSubmatch(err.Error()); m != nil {
		line = m[1]
	}
	text := "this is no YAML; look at this line and the one before"
	if _, said, ok := strings.Cut(err.Error(), "line "+line+": "); ok && !strings.ContainsAny(said, "'`\"") {
		text = said
	}
	return fmt.Errorf("%s:%s: %s", name, line, text)
}

// App returns what the file says of an app.
func (f *File) App(name string) (*App, error) {
	if app, ok := f.apps[name]; ok {
		return app, nil
	}
	if len(f.apps) == 0 {
		return nil, fmt.Errorf("%s has no apps", f.name)
	}
	return nil, fmt.Errorf("%s has no app %q; it has %s", f.name, name, strings.Join(slices.Sorted(maps.Keys(f.apps)), ", "))
}

// Keyset reads the keyset's JSON.
func (f *File) Keyset() ([]byte, error) {
	if !f.keyset.given() {
		return nil, fmt.Errorf("%s: keyset is missing: {file: NAME} or {env: NAME}", f.name)
	}
	return f.keyset.read()
}

// AEAD returns what the keyset makes.
func (f *File) AEAD() (tokencache.AEAD, error) {
	text, err := f.Keyset()
	if err != nil {
		return nil, err
	}
	aead, err := seal.FromJSON(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.keyset.where, err)
	}
	return aead, nil
}

// Configured reports whether the environment names a file.
func Configured() bool { return os.Getenv(Variable) != "" }
