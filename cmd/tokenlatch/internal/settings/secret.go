package settings

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// source says where a secret is: in a file, or in an environment variable. It is read when it is needed.
type source struct {
	file, env string
	line      int
	where     string // the field, for errors: file:line: path
}

// secret reads where a secret is. The secret itself is refused.
func (w *walk) secret(dir string, to *source) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		if n.Kind == yaml.ScalarNode {
			w.fail(n, "%s: no secret stands in this file: write {file: NAME} or {env: NAME}", path)
			return
		}
		w.mapping(path, n, fields{"file": w.text(&to.file), "env": w.text(&to.env)})
		if to.file != "" && to.env != "" || to.file == "" && to.env == "" {
			w.fail(n, "%s needs file or env, one of them", path)
		}
		if to.file != "" && !filepath.IsAbs(to.file) {
			to.file = filepath.Join(dir, to.file)
		}
		to.line, to.where = n.Line, fmt.Sprintf("%s:%d: %s", w.name, n.Line, path)
	}
}

func (s source) given() bool { return s.file != "" || s.env != "" }

// longestSecret bounds a secret, in bytes.
const longestSecret = 1 << 20

// read returns the secret. The error does not hold it.
func (s source) read() ([]byte, error) {
	var text []byte
	switch {
	case s.env != "":
		value, set := os.LookupEnv(s.env)
		if !set {
			return nil, fmt.Errorf("%s: the environment variable %s is not set", s.where, s.env)
		}
		text = []byte(value)
	default:
		f, err := os.Open(s.file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.where, err)
		}
		defer f.Close()
		if text, err = io.ReadAll(io.LimitReader(f, longestSecret+1)); err != nil {
			return nil, fmt.Errorf("%s: %w", s.where, err)
		}
	}
	switch {
	case len(text) == 0 || strings.TrimSpace(string(text)) == "":
		return nil, errors.New(s.where + ": it is empty")
	case len(text) > longestSecret:
		return nil, errors.New(s.where + ": it is longer than any secret")
	}
	return text, nil
}

// oneLine returns a secret of one line.
func (s source) oneLine() (string, error) {
	text, err := s.read()
	if err != nil {
		return "", err
	}
	line := strings.TrimRight(string(text), "\r\n")
	if strings.ContainsAny(line, "\r\n") {
		return "", errors.New(s.where + ": the secret must stand alone, on one line")
	}
	return line, nil
}
